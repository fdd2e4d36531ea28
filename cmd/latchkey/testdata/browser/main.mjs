// Goes through the pages of two servers in a browser: a peaceful one, and one that is attacked. What the Go test prepared comes in as JSON; what was
// found goes out as a line of JSON for each part: its name, its problems, and what was counted.

import { text } from 'node:stream/consumers';
import { chromium } from 'playwright-core';
import { looks, patience } from './checks.mjs';
import { attack, crawl, show } from './crawl.mjs';
import { journeys } from './journeys.mjs';
import { Person } from './person.mjs';
import { running } from './running.mjs';

const world = JSON.parse(await text(process.stdin));
const browser = await chromium.launch({
  executablePath: world.chromium, timeout: 2 * patience,
  args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', `--ignore-certificate-errors-spki-list=${world.key}`],
});

// part runs a part and says what became of it.
async function part(name, run) {
  if (!new RegExp(world.only).test(name)) return;
  const problems = [], counted = {}, began = Date.now();
  try {
    await run(problems, counted);
  } catch (e) {
    problems.push(String(e.stack ?? e).split('\n    at node:')[0]);
  }
  console.log(JSON.stringify({ name, problems: [...new Set(problems)], counted, seconds: (Date.now() - began) / 1000 }));
}

const ask = (server, path) => fetch(server.control + path, { method: 'POST' }).then(r => r.text());

// roles are how somebody comes to the first page of his.
const roles = {
  stranger: async p => { await p.go('/'); return '/login'; },
  mailbox: async p => { await p.signIn('anna', world.password); return '/'; },
  owner: async p => { await p.signIn('olga', world.password); return '/'; },
  operator: async (p, server) => {
    await p.go((await ask(server, '/operator')).replace(p.origin, ''));
    await p.send('/sign-in');
    return '/';
  },
};

async function crawls() {
  const as = (role, name, more) => part(name, async (problems, counted) => {
    const p = await Person.come(browser, world.peaceful.base, looks[0], problems, more);
    const start = await roles[role](p, world.peaceful);
    const { pages, forms } = await crawl(p, name.replace('every page as ', ''), { start, shots: world.shots, gallery: world.gallery });
    Object.assign(counted, { pages, forms: forms.length });
    await p.leave();
  });
  await as('stranger', 'every page as stranger');
  await as('mailbox', 'every page as mailbox');
  await as('mailbox', 'every page as Postfach', { locale: 'de-DE' });
  await as('owner', 'every page as owner');
  await as('operator', 'every page as operator');
}

// turns lets one at a time do something.
let turns = Promise.resolve();
const alone = run => (turns = turns.then(run, run));

async function ways() {
  // One look has no mouse, and one no scripts; the fourth is the crawl's.
  const ways = [{ ...looks[0] }, { ...looks[1], keys: true }, { ...looks[3], scripts: false }];
  await Promise.all(ways.map(async (look, turn) => {
    for (const [name, journey] of Object.entries({ ...journeys, ...running })) {
      await part(`${name}, ${look.name}`, async problems => {
        const people = [];
        const arrive = async () => {
          people.push(await Person.come(browser, world.peaceful.base, look, problems));
          return people.at(-1);
        };
        try {
          await journey({ arrive, world, alone, turn, name: n => `${n}-${look.name}`, ask: path => ask(world.peaceful, path) });
        } finally {
          await Promise.all(people.map(p => p.leave()));
        }
      });
    }
  }));
}

// attacks sends hostile forms in each role, and looks at every page afterwards, with what was stored.
async function attacks() {
  const server = world.attacked;
  for (const role of Object.keys(roles)) {
    await part(`attack as ${role}`, async (problems, counted) => {
      const p = await Person.come(browser, server.base, looks[0], problems);
      const enter = async () => {
        const answer = await p.context.request.get(p.origin + '/', { maxRedirects: 0 });
        if (role === 'stranger' || answer.headers().location !== '/login') return;
        await ask(server, '/restore');
        await p.context.clearCookies();
        await roles[role](p, server);
      };
      const start = await roles[role](p, server);
      const { forms } = await crawl(p, role, { start, close: false });
      counted.forms = forms.length;
      counted.shown = await show(p, role, forms);
      await enter();
      counted.sent = await attack(p, role, forms, enter);
      counted.after = (await crawl(p, role, { start, close: false })).pages;
      await p.leave();
    });
  }
}

async function encrypted() {
  await part('over TLS', async problems => {
    const p = await Person.come(browser, world.secure, looks[0], problems);
    await p.signIn('anna', world.password);
    await p.sees('My mailbox');
    const [cookie] = await p.context.cookies();
    if (cookie.name !== '__Host-latchkey' || !cookie.secure || !cookie.httpOnly || cookie.sameSite !== 'Lax') problems.push(JSON.stringify(cookie));
    await p.signOut();
    await p.leave();
  });
}

// weights counts the octets of a first page with all that belongs to it, as they come over the wire.
async function weights() {
  await part('first pages', async (problems, counted) => {
    for (const [name, path] of [['login', '/login'], ['mailbox', '/mailbox/anna'], ['help', '/help/']]) {
      const p = await Person.come(browser, world.peaceful.base, looks[0], problems);
      if (name === 'mailbox') {
        const entered = await p.context.request.post(p.origin + '/login', { form: { name: 'anna', password: world.password } });
        if (!entered.ok()) problems.push(`signing in: ${entered.status()}`);
      }
      const session = await p.context.newCDPSession(p.page);
      await session.send('Network.enable');
      let octets = 0;
      session.on('Network.loadingFinished', e => { octets += e.encodedDataLength; });
      await p.go(path);
      await p.page.waitForLoadState('networkidle');
      counted[name] = octets;
      await p.leave();
    }
  });
}

try {
  await Promise.all([crawls(), attacks()]);
  await ways();
  await encrypted();
  await weights();
} finally {
  await browser.close();
}
