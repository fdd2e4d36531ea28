// What people come to the pages for, from the first page to signing out. Each journey is done by somebody of its own in each look, so that all looks
// can be gone through at the same time: names end with the name of the look.

import { createHmac } from 'node:crypto';

// journeys are functions of what is needed: arrive gives a new Person, name makes a name of this look's, world is what the test prepared, and alone
// runs something that no two may do at once. turn is the number of the look.
export const journeys = {
  async 'sign in and out'({ arrive, name, world }) {
    const p = await arrive();
    await p.go('/');
    await p.sees('Sign in');
    await p.send('/login', { name: name('mia'), password: 'a wrong one' }, { status: 401 });
    await p.sees('That did not let you in');
    await p.send('/login', { name: `${name('mia')}@${world.domain}`, password: world.password });
    await p.sees('My mailbox', 'Forwarding');
    const [cookie] = await p.context.cookies();
    if (!cookie.httpOnly || cookie.sameSite !== 'Lax') throw new Error(`the cookie is ${JSON.stringify(cookie)}`);
    for (const path of ['/mailboxes', '/aliases', '/sending', '/audit', `/mailbox/${name('olga')}`]) await p.go(path, 403);
    await p.go('/');
    await p.signOut();
    await p.go(`/mailbox/${name('mia')}`);
    await p.sees('Sign in');
  },

  async 'code from the telephone'({ arrive, name, world }) {
    const p = await arrive(), box = `/mailbox/${name('theo')}`;
    await p.signIn(name('theo'), world.password);
    await p.send(`${box}/factor`, { totp_current: 'not it' }, { status: 422 });
    await p.send(`${box}/factor`, { totp_current: world.password });
    const secret = (await p.page.locator('.secret').innerText()).trim();
    await p.send(`${box}/factor/start`, { code: '000000' }, { status: 422 });
    await p.send(`${box}/factor/start`, { code: code(secret, 0) });
    await p.sees('From now on a code is needed.');
    await p.signOut();
    await p.signIn(name('theo'), world.password);
    await p.send('/login/code', { code: '000000' }, { status: 401 });
    await p.send('/login/code', { code: code(secret, 1) });
    await p.sees('My mailbox');
    await p.send(`${box}/factor/end`, { totp_current: world.password });
    await p.sees('No code is needed any more.');
    await p.signOut();
  },

  async 'passkey'({ arrive, name, world }) {
    const p = await arrive(), box = `/mailbox/${name('paula')}`, off = 'A passkey needs JavaScript';
    await p.signIn(name('paula'), world.password);
    if (p.look.scripts === false) {
      await p.sees('Passkeys', off);
      await p.hides('.scripted');
      await p.signOut();
      await p.sees(off);
      await p.hides('#passkey');
      await p.signIn(name('paula'), world.password);
      return p.signOut();
    }
    if ((await p.text()).includes(off)) throw new Error('scripts are said to be off');
    const device = await p.authenticator();
    await p.send(`${box}/passkeys`, { passkey_name: 'Telephone', passkey_current: 'not it' }, { status: 422 });
    await p.send(`${box}/passkeys`, { passkey_name: 'Telephone', passkey_current: world.password });
    await device.knows(false);
    await p.fails(`${box}/passkeys/add`, 'No passkey was made.');
    await device.knows(true);
    await p.send(`${box}/passkeys/add`);
    await p.sees('The passkey Telephone is there.', 'Last used');
    await p.send(`${box}/passkeys`, { passkey_name: 'Again', passkey_current: world.password });
    await p.fails(`${box}/passkeys/add`, 'There is a passkey for this mailbox on that device already.');
    await p.go('/');
    await p.signOut();
    await device.knows(false);
    await p.fails('/login/passkey', 'No passkey was shown.');
    await device.knows(true);
    await p.go('/login?next=%2Ftrail');
    await p.send('/login/passkey');
    if (!p.page.url().endsWith('/trail')) throw new Error(`signed in to ${p.page.url()}`);
    await p.go('/');
    await p.sees('My mailbox', 'Telephone');
    await p.send(`${box}/passkeys/remove`);
    await p.sees('The passkey lets nobody in any more.');
    await p.signOut();
    await p.send('/login/passkey', {}, { status: 401 });
    await p.sees('That did not let you in');
    await p.signIn(name('paula'), world.password);
    await p.signOut();
  },

  async 'mailboxes of a domain'({ arrive, name, world }) {
    const p = await arrive(), one = name('nina'), box = `/mailbox/${one}`, address = `${one}@${world.domain}`;
    await p.signIn(name('olga'), world.password);
    await p.go('/mailboxes');
    await p.follow('/mailboxes/add');
    await p.send('/mailboxes/add', { name: one, display_name: 'Nina N.', password: 'password of nina' });
    await p.sees(`${address} is there.`);
    await p.send(`${box}/change`, { display_name: 'Nina Neu', quota_mb: 'many', quota_messages: '' }, { status: 422 });
    await p.send(`${box}/change`, { display_name: 'Nina Neu', quota_mb: '250', quota_messages: '1000' });
    await p.sees('of 250.0 MB');
    await p.send(`${box}/forward`, { forward: 'nina@elsewhere.example', keep: true });
    await p.sees('Mail is sent on to nina@elsewhere.example.', 'A copy stays here.');
    await p.send(`${box}/forward`, { forward: '' });
    await p.sees('is sent on to nobody');
    await p.send(`${box}/password`, { password: 'one password', repeat: 'another password' }, { status: 422 });
    await p.send(`${box}/password`, { password: 'the second one', repeat: 'the second one' });
    await p.sees('The password was set.');
    await p.send(`${box}/devices/add`, { device_name: 'Scanner', send: true, networks: '192.0.2.0/24', daily_recipients: '50' });
    await p.sees('It is shown this once.', '192.0.2.0/24', '50 a day');
    await p.send(`${box}/devices/revoke`);
    await p.sees('The password of the device was revoked.');
    await p.send(`${box}/suspend`);
    await p.sees('suspended');
    await p.send(`${box}/suspend`);
    await p.sees(`${address} is open again.`);
    await p.send(`${box}/remove`, { confirm: 'nina' }, { status: 428 });
    await p.send(`${box}/remove`, { confirm: address });
    await p.sees(`${address} and its mail are gone.`);
    await p.signOut();
  },

  async 'aliases'({ arrive, name, world }) {
    const p = await arrive(), one = name('info');
    await p.signIn(name('olga'), world.password);
    await p.go('/aliases');
    await p.send('/aliases', { name: one, targets: 'no such mailbox' }, { status: 422 });
    await p.send('/aliases', { name: one, targets: `${name('mia')}\nsomebody@elsewhere.example` });
    await p.sees(`${one}@${world.domain} leads to`, 'somebody@elsewhere.example');
    await p.send('/aliases/remove', {}, { has: ['alias', one] });
    await p.sees('was removed.');
    await p.signOut();
  },

  async 'my own mailbox'({ arrive, name, world }) {
    const p = await arrive(), box = `/mailbox/${name('mia')}`;
    await p.signIn(name('mia'), world.password);
    await p.sees('Mia Muster', 'may send from', 'Programs that use it', 'submission');
    await p.send('/grants/revoke');
    await p.send(`${box}/change`, { display_name: 'Mia M.' });
    await p.send(`${box}/forward`, { forward: 'mia@elsewhere.example' });
    await p.send(`${box}/forward`, { forward: '' });
    await p.send(`${box}/devices/add`, { device_name: 'Telephone', send: true, fetch: true });
    await p.sees('It is shown this once.');
    await p.send(`${box}/devices/revoke`);
    await p.send(`${box}/password`, { current: 'not it', password: 'the second one', repeat: 'the second one' }, { status: 422 });
    await p.send(`${box}/password`, { current: world.password, password: 'the second one', repeat: 'the second one' });
    await p.sees('The password was set.');
    await p.signIn(name('mia'), 'the second one');
    await p.signOut();
  },

  async 'who may send'({ arrive, name, world, alone }) {
    const p = await arrive();
    await p.signIn(name('olga'), world.password);
    await alone(async () => {
      await p.go('/sending');
      await p.sees('Authenticated SMTP is on');
      await p.send('/sending', { require_auth: 'off', trusted_networks: '192.0.2.0/8', off: '4h' }, { status: 422 });
      await p.send('/sending', { require_auth: 'off', trusted_networks: '192.0.2.0/24', off: '4h' });
      await p.sees('What this would do', 'This allows more than before.');
      await p.send('/sending/apply', { confirm: 'something else' }, { status: 428 });
      await p.send('/sending/apply', { confirm: world.domain });
      await p.sees('The settings were changed.', 'Authenticated SMTP is off', 'It is on again by itself:');
      await p.send('/sending', { require_auth: 'on', trusted_networks: '' });
      await p.send('/sending/apply');
      await p.sees('Authenticated SMTP is on');
      await p.follow('/sending/all');
      const daily = p.page.locator('[name=daily_recipients]'), before = await daily.inputValue();
      await p.send('/sending/all', { daily_recipients: 'none' }, { status: 422 });
      await p.send('/sending/all', { daily_recipients: String(Number(before) - 1) });
      await p.send('/sending/apply');
      await p.follow('/sending/all');
      await p.send('/sending/all', { daily_recipients: before });
      await p.send('/sending/apply', await p.page.locator('[name=confirm]').count() ? { confirm: world.domain } : {});
    });
    await p.signOut();
  },

  async 'grants'({ arrive, name, world }) {
    const p = await arrive();
    await p.signIn(name('olga'), world.password);
    await p.go('/grants');
    await p.sees(`${name('gina')}@${world.domain}`);
    const row = p.page.locator('tr', { hasText: `${name('gina')}@` });
    await p.use(row.locator('button'), 'Enter', 200);
    await p.sees('1 ended.');
    if ((await p.text()).includes(`${name('gina')}@`)) throw new Error('the grant is still there');
    await p.signOut();
  },

  async 'mail on hold'({ arrive, name, world }) {
    const p = await arrive();
    await p.signIn(name('olga'), world.password);
    await p.go('/holds');
    await p.sees(`${name('hans')}@`, 'recipients that are new', 'What waits');
    await p.send(`/mailbox/${name('hans')}/release`);
    await p.sees('It goes its way now: 26 deliveries.');
    await p.follow(`/mailbox/${name('hugo')}#purge`);
    await p.send(`/mailbox/${name('hugo')}/purge`, { password: 'a clean password' });
    await p.sees('The mailbox is yours again: 26 deliveries thrown away');
    await p.go('/holds');
    if (new RegExp(`${name('hans')}@|${name('hugo')}@`).test(await p.text())) throw new Error('they are still on hold');
    await p.signOut();
  },

  async 'a message and its proof'({ arrive, name, world }) {
    const p = await arrive();
    await p.signIn(name('tina'), world.password);
    await p.go('/trail');
    await p.send('/trail', { subject: 'minutes', to: 'partner@sink.example' });
    await p.sees('This server took it from', 'The server of partner@sink.example took it');
    await p.send('/trail/proof');
    await p.sees('A proof of delivery');
    const link = await p.page.locator('.secret').innerText();
    const stranger = await arrive();
    await stranger.go(link.trim().replace(stranger.origin, ''));
    await stranger.sees('This proof is genuine: this server signed it.');
    await stranger.go('/proof');
    await stranger.send('/proof', { token: 'made up' }, { status: 422 });
    await p.signOut();
  },

  async 'explain a refusal'({ arrive, name, world }) {
    const stranger = await arrive();
    await stranger.go('/explain');
    await stranger.send('/explain', { code: 'nothing' }, { status: 404 });
    await stranger.send('/explain', { code: world.refusal });
    await stranger.sees('Why', 'What to do', 'Sign in to see when it happened to you');
    const p = await arrive();
    await p.signIn(name('tina'), world.password);
    await p.go(`/explain/${world.refusal}`);
    await p.sees('When that happened lately', `${name('tina')}`);
    await p.signOut();
  },

  async 'who changed what'({ arrive, name, world }) {
    const p = await arrive();
    await p.signIn(name('olga'), world.password);
    await p.go('/audit');
    await p.sees('Changes', '127.0.0.1', 'settings.change');
    await p.signOut();
  },

  async 'the help guide'({ arrive, name, world }) {
    const p = await arrive();
    await p.go('/help/');
    await p.sees('Thunderbird', 'Outlook', 'Eudora');
    await p.follow('/help/thunderbird');
    await p.sees(`you@${world.domain}`);
    await p.go('/help/');
    await p.send('/help/search', { q: '0x800CCC0F' });
    await p.sees('The connection was cut');
    await p.send('/help/search', { q: 'nothing at all like this' });
    await p.go('/help/problems');
    await p.go('/help/thunderbird?lang=de');
    await p.sees('Posteingang');
    await p.signIn(name('tina'), world.password);
    await p.go('/help/thunderbird?lang=en');
    await p.sees(`${name('tina')}@${world.domain}`, 'Sign out');
    await p.signOut();
  },

  async 'mail programs set themselves up'({ arrive, name, world }) {
    const p = await arrive();
    for (const [path, type, words] of [
      ['/mail/config-v1.1.xml?emailaddress=x%40' + world.domain, /xml/, 'pop3'],
      ['/.well-known/autoconfig/mail/config-v1.1.xml', /xml/, 'clientConfig'],
      ['/autodiscover/autodiscover.json?Email=x%40' + world.domain + '&Protocol=AutodiscoverV1', /json/, 'AutodiscoverV1'],
      ['/apple/mail.mobileconfig?emailaddress=x%40' + world.domain, /aspen-config/, 'com.apple.mail.managed'],
      ['/apple/mail.svg?emailaddress=x%40' + world.domain, /svg/, '<svg'],
    ]) {
      const answer = await p.context.request.get(p.origin + path);
      if (answer.status() !== 200 || !type.test(answer.headers()['content-type']) || !(await answer.text()).includes(words)) {
        throw new Error(`${path}: ${answer.status()} ${answer.headers()['content-type']} ${(await answer.text()).slice(0, 200)}`);
      }
    }
    await p.signIn(name('tina'), world.password);
    await p.go('/help/ios');
    if (!await p.page.locator('a[href^="/apple/mail.mobileconfig"]').count()) throw new Error('the page for iOS leads to no profile');
  },

  async 'the operator'({ arrive, world, ask }) {
    const p = await arrive(), link = await ask('/operator');
    await p.go(link.replace(p.origin, ''));
    await p.send('/sign-in');
    await p.go('/sending/all');
    await p.sees('domain_octets');
    await p.go('/audit');
    await p.signOut();
    await p.go(link.replace(p.origin, ''));
    await p.send('/sign-in', {}, { status: 401 });
    await p.sees('used already');
  },
};

// code is what an authenticator shows, some steps from now (RFC 6238).
function code(secret, steps) {
  let bits = '';
  for (const c of secret.replace(/\s/g, '')) bits += 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0');
  const key = Buffer.from(bits.match(/.{8}/g).map(b => parseInt(b, 2)));
  const at = Buffer.alloc(8);
  at.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps));
  const sum = createHmac('sha1', key).update(at).digest(), from = sum[19] & 15;
  return String((sum.readUInt32BE(from) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}
