// Every page that can be reached, whatever pages there are: what is added later is looked at on its first day.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { accessible, crawled, everyStop, headerProblems, layout, looks, pattern } from './checks.mjs';

// Bounds of a crawl: pages in all, and pages of one kind.
const maxPages = 150, maxOfKind = 2;

// done are the kinds of pages that were looked at closely, by whom.
const done = new Set();

// crawl follows every link from a page as who is signed in at p, and looks at each kind of page in all looks. It returns the forms that it met.
export async function crawl(p, role, { start = '/', shots = '', gallery = {}, close = true } = {}) {
  const todo = [start], known = new Map(), forms = new Map(), visited = [];
  while (todo.length > 0 && visited.length < maxPages) {
    const answer = await p.page.goto(p.origin + todo.shift());
    const kind = pattern(p.page.url());
    if (visited.includes(p.page.url())) continue;
    visited.push(p.page.url());
    if (answer.status() >= 400) p.problems.push(`${p.page.url()} as ${role}: ${answer.status()}, and a link leads there`);
    const met = await p.page.evaluate(meet);
    for (const f of met.forms) {
      const key = f.method + ' ' + f.action.replace(/\/(mailbox|maildrop)\/[^/]+/, '/$1/*') + ' ' + f.fields.map(x => x.name).join();
      if (!forms.has(key)) forms.set(key, { ...f, page: p.page.url().slice(p.origin.length) });
    }
    for (const link of met.links) {
      const to = new URL(link, p.page.url());
      if (to.origin !== p.origin) {
        if (to.protocol.startsWith('http')) p.problems.push(`${p.page.url()} as ${role}: a link leads to ${to}`);
        continue;
      }
      to.hash = '';
      if (to.searchParams.has('lang')) continue; // it would change the language of all that follows
      const of = pattern(to.href), path = to.pathname + to.search;
      if (visited.includes(to.href) || todo.includes(path)) continue;
      known.set(of, (known.get(of) ?? 0) + 1);
      if (known.get(of) > maxOfKind) continue;
      if (/\.(xml|json|svg|mobileconfig|css)$|\/download$/.test(to.pathname)) await fetched(p, to.href);
      else todo.push(path);
    }
    if (close) await closely(p, role, kind, shots, gallery);
  }
  if (visited.length === maxPages) p.problems.push(`as ${role} there are more than ${maxPages} pages`);
  return { forms: [...forms.values()], pages: visited.length };
}

// meet runs in the page: its links and forms.
function meet() {
  const links = [...document.querySelectorAll('a[href]')].map(a => a.href);
  const forms = [...document.forms].map(f => ({
    action: f.getAttribute('action'), method: f.method,
    fields: [...f.elements].filter(e => e.name).map(e => ({ name: e.name, type: e.type, value: e.value, checked: e.checked })),
  }));
  return { links, forms };
}

// fetched asks for what is no page.
async function fetched(p, url) {
  const answer = await p.context.request.get(url);
  if (answer.status() !== 200) p.problems.push(`${url}: ${answer.status()}`);
  if (answer.headers()['x-content-type-options'] !== 'nosniff') p.problems.push(`${url}: may be sniffed`);
}

// closely looks at a page in all looks.
async function closely(p, role, kind, shots, gallery) {
  // The guide is the same for all, and its pages for programs are alike; of other pages the first page alone is another for each role.
  const language = await p.page.evaluate(() => document.documentElement.lang);
  const key = language + (kind.startsWith('/help/') ? kind.replace(/^\/help\/(?!problems|search)[^?]+/, '/help/*') : (kind === '/' ? role : '') + kind);
  const first = !done.has(key);
  done.add(key);
  crawled.add(kind);
  for (const look of first || shots || gallery.dir ? looks : [looks[1]]) {
    await p.page.setViewportSize(look.viewport);
    await p.page.emulateMedia({ colorScheme: look.colorScheme });
    p.problems.push(...await layout(p.page, look.name));
    // The colours are one scheme's, and the places one size's: two looks have all of them.
    if (first && (look.name === 'wide-light' || look.name === 'narrow-dark')) p.problems.push(...await accessible(p.page, look.name));
    const file = (role + kind).replace(/[^a-z0-9]+/gi, '-').replace(/-$/, '') + '-' + look.name;
    if (shots) {
      await mkdir(shots, { recursive: true });
      await p.page.screenshot({ path: join(shots, file + '.png'), fullPage: true });
    }
    if (gallery.dir && gallery.pages[file]) await picture(p, join(gallery.dir, gallery.pages[file] + '.webp'), look);
  }
  await p.page.setViewportSize(looks[0].viewport);
  await p.page.emulateMedia({ colorScheme: 'light' });
  if (first) p.problems.push(...await everyStop(p.page, 'wide-light'));
}

// mostHeight bounds a picture of the gallery, in pixels.
const mostHeight = 1400;

async function picture(p, path, look) {
  const session = await p.context.newCDPSession(p.page);
  const height = await p.page.evaluate(() => document.documentElement.scrollHeight);
  const clip = { x: 0, y: 0, width: look.viewport.width, height: Math.min(Math.max(height, 300), mostHeight), scale: 1 };
  const { data } = await session.send('Page.captureScreenshot', { format: 'webp', quality: 70, captureBeyondViewport: true, clip });
  await writeFile(path, Buffer.from(data, 'base64'));
  await session.detach();
}

// hostile is what no page may be led astray by.
export const hostile = {
  script: '"><script>alert(1)</script><img src=x onerror=alert(2)>\'{{7*7}}',
  lines: 'x\r\nSet-Cookie: evil=1\r\n\r\n<h1>evil</h1>',
  long: 'x'.repeat(100_000),
  letters: '😀👩‍👩‍👧 \u202e‏שלום مرحبا\u0000\ufeff',
  address: '<script>alert(1)</script>@"><img src=x>.example',
  path: '../../etc/passwd',
};

const typed = new Set(['text', 'password', 'search', 'textarea', 'email', 'url', 'number', 'date', 'hidden', 'tel']);

// attack sends every form with each hostile text in all its fields, first in those that somebody types into, then in hidden ones too. enter signs in
// again whoever was signed out by what he sent.
export async function attack(p, role, forms, enter) {
  let sent = 0;
  for (const form of forms.filter(f => f.action !== '/logout')) {
    for (const [kind, text] of Object.entries(hostile)) {
      for (const hidden of kind === 'script' || kind === 'path' ? [false, true] : [false]) {
        const answer = await submit(p, form, text, hidden);
        sent++;
        const where = `${form.method} ${form.action} as ${role} with ${kind}`;
        if (answer.status() >= 500) p.problems.push(`${where}: ${answer.status()}`);
        if (/html/.test(answer.headers()['content-type'] ?? '')) p.problems.push(...headerProblems(where, answer.headers()));
        const body = await answer.text();
        const bad = ['<script>alert', '<img src=x', '<h1>evil', 'root:x:'].filter(b => body.includes(b));
        if (bad.length) p.problems.push(`${where}: the answer has ${bad}`);
        if (answer.headers()['set-cookie']?.includes('evil')) p.problems.push(`${where}: the answer sets a cookie`);
      }
    }
    if (form.method === 'post') await foreign(p, role, form);
    await enter();
  }
  return sent;
}

async function submit(p, form, text, hidden) {
  const values = new URLSearchParams();
  for (const f of form.fields) {
    const type = typed.has(f.type) && (f.type !== 'hidden' || hidden);
    if (type) values.append(f.name, text);
    else if (!['checkbox', 'radio'].includes(f.type) || f.checked) values.append(f.name, f.value);
  }
  const url = new URL(form.action, p.origin + form.page).href;
  if (form.method === 'get') return p.context.request.get(url + '?' + String(values).slice(0, 8000));
  return p.context.request.post(url, {
    data: String(values), headers: { 'content-type': 'application/x-www-form-urlencoded', origin: p.origin, 'sec-fetch-site': 'same-origin' },
  });
}

// foreign sends a form as another site's page would have it sent.
async function foreign(p, role, form) {
  for (const headers of [
    { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
    { origin: 'http://localhost:1', 'sec-fetch-site': 'same-site' }, { origin: 'null' },
  ]) {
    const answer = await p.context.request.post(new URL(form.action, p.origin).href, {
      data: '', headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers }, maxRedirects: 0,
    });
    if (answer.status() !== 403) p.problems.push(`${form.action} as ${role}: a form of ${headers.origin} gets ${answer.status()}`);
  }
}

// show sends the forms that have a field to type into with the hostile script in the browser itself, which shows what is answered.
export async function show(p, role, forms) {
  let shown = 0;
  const written = f => f.fields.some(x => ['text', 'textarea', 'search'].includes(x.type));
  for (const form of forms.filter(f => f.action !== '/logout' && written(f))) {
    await p.page.goto(p.origin + form.page);
    const there = await p.page.evaluate(({ action, text, types }) => {
      const f = [...document.forms].find(f => f.getAttribute('action') === action);
      if (!f) return false;
      for (const e of f.elements) if (types.includes(e.type) && e.type !== 'hidden' && e.type !== 'date' && e.type !== 'number') e.value = text;
      f.noValidate = true;
      return true;
    }, { action: form.action, text: hostile.script, types: [...typed] });
    if (!there) continue;
    await Promise.all([
      p.page.waitForNavigation({ waitUntil: 'load' }),
      p.page.evaluate(action => [...document.forms].find(f => f.getAttribute('action') === action).submit(), form.action),
    ]);
    shown++;
  }
  return shown;
}

