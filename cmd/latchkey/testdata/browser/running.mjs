// What the owner of a domain and the operator come to the pages for while the domain runs, in the manner of journeys.mjs.

export const running = {
  async 'the overview'({ arrive, name, world }) {
    const p = await arrive();
    await p.signIn(name('olga'), world.password);
    await p.sees('Overview', 'Received today', 'Mail in and out', 'Records in the DNS', 'Storage');
    const numbers = p.page.locator('details table').first();
    await p.reveal(numbers);
    if (!await numbers.isVisible()) throw new Error('the numbers beside a picture do not open');
    await p.send('/overview/dns');
    await p.sees('Overview');
    await p.follow('/queue');
    await p.signOut();
  },

  async 'waiting mail'({ arrive, name, world, turn }) {
    const p = await arrive(), sender = `dieter@${world.domain}`;
    const find = async recipient => {
      await p.go('/queue');
      await p.send('/queue', { recipient, sender });
      await p.sees(recipient, 'on hold');
    };
    const one = `stranger-${3 * turn}@sink.example`, two = `stranger-${3 * turn + 1}@sink.example`, three = `stranger-${3 * turn + 2}@sink.example`;
    await p.signIn(name('olga'), world.password);
    await find(one);
    await p.send('/queue/act', { verb: 'release' });
    await p.sees('Let these go?', 'Deliveries: 1', one);
    await p.send('/queue/act');
    await p.sees('Let go: 1.');
    await find(two);
    await p.send('/queue/act', { verb: 'remove' });
    await p.send('/queue/act', { bounce: false, reason: 'not ours' });
    await p.sees('Removed: 1.');
    await find(three);
    await p.use(p.page.locator('a[href^="/queue/"]').first(), 'Enter', 200);
    await p.sees(three, 'Last answer', 'on hold');
    await p.use(p.page.locator('button[value=remove]'), 'Enter', 200);
    await p.follow('/queue');
    await p.signOut();
    const hers = await arrive();
    await hers.signIn('dieter', world.password);
    await hers.go('/queue');
    await hers.sees('Mail that you sent');
    await hers.use(hers.page.locator('a[href^="/queue/"]').first(), 'Enter', 200);
    await hers.sees('The owner of the domain can hold it');
    await hers.signOut();
  },

  async 'bans'({ arrive, name, world, turn }) {
    const p = await arrive(), network = `198.18.${turn}.0/24`, add = { has: ['for', ''] };
    await p.signIn(name('olga'), world.password);
    await p.go('/bans');
    await p.send('/bans', { network: 'somewhere', reason: 'guesses' }, { ...add, status: 422 });
    await p.send('/bans', { network, reason: 'guesses', for: '2h' }, add);
    await p.sees(`${network} is banned.`, 'guesses');
    await p.send('/bans', { find: network });
    await p.send('/bans/lift', {}, { has: ['network', network] });
    await p.sees('Bans lifted: 1.');
    await p.signOut();
  },

  async 'suppressed addresses'({ arrive, name, world }) {
    const p = await arrive(), address = `${name('gone')}@elsewhere.example`;
    await p.signIn(name('olga'), world.password);
    await p.go('/suppressions');
    await p.send('/suppressions', { address, days: 'many' }, { status: 422 });
    await p.send('/suppressions', { address, days: '7', reason: 'they moved' });
    await p.sees(`No mail is sent to ${address}.`, 'they moved');
    await p.send('/suppressions/remove', {}, { has: ['address', address] });
    await p.sees(`Mail to ${address} is taken again.`);
    await p.signOut();
  },

  async 'DNS and DKIM'({ arrive, name, world, alone }) {
    const p = await arrive(), step = (verb, status) => p.use(p.page.locator(`form[action="/dns/keys/step"] button[value=${verb}]`).first(), 'Enter', status);
    await p.signIn(name('olga'), world.password);
    await alone(async () => {
      await p.go('/dns');
      await p.sees('Records to publish', `mail.${world.domain}`);
      await p.send('/dns/check');
      await p.sees('The DNS compared', 'Should be:');
      await p.go('/dns');
      await p.send('/dns/keys', { rsa: false, ed25519: true });
      await p.sees('Keys made: 1. Publish their records.', '_domainkey');
      await p.send('/dns/keys/look');
      await p.sees('The records were looked for.');
      await step('activate', 409);
      await p.send('/dns/keys/step');
      await p.sees('signs.');
      await step('retire', 409);
      await p.send('/dns/keys/step');
      await p.sees('signs no more.');
      await step('remove', 409);
      await p.send('/dns/keys/step');
      await p.sees('was removed.');
    });
    await p.signOut();
  },

  async 'tokens'({ arrive, name, world, ask }) {
    const p = await arrive(), link = await ask('/operator'), panel = name('panel');
    await p.go(link.replace(p.origin, ''));
    await p.send('/sign-in');
    await p.go('/tokens');
    await p.send('/tokens', { name: panel, role: 'owner', days: 'some' }, { status: 422 });
    await p.send('/tokens', { name: panel, role: 'owner', days: '30', read_only: true });
    await p.sees('It is shown this once.', panel, 'only reads');
    const token = (await p.page.locator('.secret').innerText()).trim();
    const use = (method, path) => p.context.request.fetch(`${p.origin}/api/v1/${path}`, { method, headers: { Authorization: `Bearer ${token}` } });
    if ((await use('GET', 'accounts')).status() !== 200) throw new Error('the token does not read');
    if ((await use('DELETE', `accounts/${name('mia')}`)).status() !== 403) throw new Error('a token that only reads removes');
    await p.use(p.page.locator('tr', { hasText: panel }).locator('button'), 'Enter', 200);
    await p.sees('The token was revoked.');
    if ((await use('GET', 'accounts')).status() !== 401) throw new Error('a revoked token reads');
    await p.signOut();
  },

  async 'a look into a mailbox'({ arrive, name, world }) {
    const p = await arrive(), first = '.mails a[href^="/mailbox/"]';
    await p.signIn(name('olga'), world.password);
    await p.go('/mailbox/bert');
    await p.follow('/mailbox/bert/mail');
    await p.sees('This is the mailbox of somebody else.');
    await p.use(p.page.locator(first, { hasText: 'Minutes' }).first(), 'Enter', 200);
    await p.sees('Minutes of the meeting', 'We met.');
    await p.signOut();
    const hers = await arrive();
    await hers.signIn('anna', world.password);
    await hers.follow('/mailbox/anna/mail');
    await hers.use(hers.page.locator(first, { hasText: '4711' }), 'Enter', 200);
    await hers.sees('Your order 4711 was sent', 'news@far.example');
    const header = hers.page.locator('pre.code');
    await hers.reveal(header);
    const eml = await hers.page.locator('a[href$="/download"]').getAttribute('href');
    const answer = await hers.context.request.get(hers.origin + eml);
    if (!/^message\/rfc822|octet-stream/.test(answer.headers()['content-type']) || !(await answer.text()).includes('Subject: Your order 4711')) {
      throw new Error(`the download: ${answer.status()} ${answer.headers()['content-type']}`);
    }
    await hers.signOut();
  },

  async 'away, and how long mail is kept'({ arrive, name, world }) {
    const p = await arrive(), mine = name('gina'), box = `/mailbox/${mine}`, save = { press: 'button.primary' };
    await p.signIn(mine, world.password);
    await p.send(`${box}/vacation`, { vacation_on: true, vacation_from: '2030-01-02', vacation_until: '2030-01-01', vacation_text: 'Back soon.' }, { ...save, status: 422 });
    await p.send(`${box}/vacation`, { vacation_from: '', vacation_until: '', vacation_subject: 'Away' });
    await p.sees('This is what a sender gets.', 'Back soon.');
    await p.send(`${box}/vacation`, {}, save);
    await p.sees('Answering');
    await p.send(`${box}/vacation`, { vacation_on: false }, save);
    await p.sees('Nothing is answered.', 'Mail stays until somebody deletes it.');
    if (await p.page.locator(`form[action="${box}/retention"]`).count()) throw new Error('the owner of a mailbox may change how long mail is kept');
    await p.signOut();
    await p.signIn(name('olga'), world.password);
    await p.go(box);
    await p.send(`${box}/retention`, { expire: 'days', expire_days: '0' }, { status: 422 });
    await p.send(`${box}/retention`, { expire: 'days', expire_days: '30' }, { status: 428 });
    await p.send(`${box}/retention`, { expire_confirm: `${mine}@${world.domain}` });
    await p.sees('How long mail is kept was changed.', 'older than 30 days');
    await p.send(`${box}/retention`, { expire: 'domain' });
    await p.sees('That is the rule of the domain.');
    await p.signOut();
  },

  async 'the operator and a mailbox'({ arrive, name, world, ask }) {
    const p = await arrive(), link = await ask('/operator'), one = name('otto'), box = `/mailbox/${one}`, address = `${one}@${world.domain}`;
    await p.go(link.replace(p.origin, ''));
    await p.send('/sign-in');
    await p.go('/mailboxes/add');
    await p.send('/mailboxes/add', { name: one, display_name: 'Otto', password: 'password of otto' });
    await p.send(`${box}/suspend`);
    const his = await arrive();
    await his.signIn(one, 'password of otto', 401);
    await p.send(`${box}/suspend`);
    await his.signIn(one, 'password of otto');
    await his.sees('My mailbox');
    await p.send(`${box}/remove`, { confirm: address });
    await p.sees(`${address} and its mail are gone.`);
    await his.go('/');
    await his.sees('Sign in');
    await p.signOut();
  },
};
