// What must hold of every page that anybody is shown.

import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

// looks are the two sizes, each in light and in dark.
export const looks = [
  { name: 'wide-light', viewport: { width: 1280, height: 800 }, colorScheme: 'light' },
  { name: 'narrow-dark', viewport: { width: 390, height: 844 }, colorScheme: 'dark' },
  { name: 'wide-dark', viewport: { width: 1280, height: 800 }, colorScheme: 'dark' },
  { name: 'narrow-light', viewport: { width: 390, height: 844 }, colorScheme: 'light' },
];

// crawled are the kinds of pages that a crawl has looked at closely.
export const crawled = new Set();

// patience bounds whatever a browser is waited for, in milliseconds: machines of tests are busy.
export const patience = 30_000;

// pattern is the path of a page with what differs from one to the next taken out, so that each kind of page is known by one.
export function pattern(url) {
  const at = new URL(url);
  const path = at.pathname
    .replace(/^\/(mailbox|maildrop|explain)\/[^/]+/, '/$1/*')
    .replace(/\/[0-9][^/]*/g, '/*')
    .replace(/^\/static\/[^/]+/, '/static/*');
  const names = [...new Set(at.searchParams.keys())].sort();
  return path + (names.length ? '?' + names.join('&') : '');
}

// wantedHeaders are those of every page.
const wantedHeaders = {
  'content-security-policy': /^default-src 'none'/,
  'x-content-type-options': /^nosniff$/,
  'referrer-policy': /^same-origin$/,
  'cross-origin-opener-policy': /^same-origin$/,
  'x-frame-options': /^DENY$/,
};

// headerProblems is what is missing in the headers of a page's answer.
export function headerProblems(url, headers) {
  const found = [];
  for (const [name, wanted] of Object.entries(wantedHeaders)) {
    if (!wanted.test(headers[name] ?? '')) found.push(`${url}: ${name}: ${headers[name]}`);
  }
  if (/unsafe/.test(headers['content-security-policy'] ?? '')) found.push(`${url}: its policy lets something unsafe through`);
  const strict = headers['strict-transport-security'] ?? '';
  if (url.startsWith('https:') && !/max-age=[1-9]/.test(strict)) found.push(`${url}: no Strict-Transport-Security`);
  return found;
}

// watch collects what goes wrong on a page from now on: what the browser complains of, requests to others, dialogs, answers without their headers.
export async function watch(page, origin, problems) {
  await page.addInitScript(() => addEventListener('securitypolicyviolation', e => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`)));
  page.on('console', m => {
    if (!['error', 'warning'].includes(m.type())) return;
    // A page with a status of 400 and more, which a test expects or finds out by itself, is a complaint too.
    if (/^Failed to load resource: the server responded with a status of 4/.test(m.text()) && m.location().url === page.url()) return;
    problems.push(`${page.url()}: the browser says ${m.type()}: ${m.text()}`);
  });
  page.on('pageerror', e => problems.push(`${page.url()}: a script failed: ${e.message}`));
  page.on('dialog', d => {
    problems.push(`${page.url()}: a dialog opened: ${d.message()}`);
    d.dismiss().catch(() => {}); // the page may have gone
  });
  page.on('request', r => {
    if (!r.url().startsWith(origin + '/') && !r.url().startsWith('data:')) problems.push(`${page.url()}: asks for ${r.url()}`);
  });
  page.on('response', r => {
    if (r.status() >= 500) problems.push(`${r.url()}: ${r.status()}`);
    if (r.request().resourceType() === 'document') problems.push(...headerProblems(r.url(), r.headers()));
  });
}

// layout finds what does not fit: a document that is wider than the window, and words that are cut off.
export async function layout(page, look) {
  const found = await page.evaluate(() => {
    const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    const out = wide > 0 ? [`is ${wide} pixels too wide`] : [];
    if (!document.querySelector('link[rel=stylesheet]') || getComputedStyle(document.body).marginTop !== '0px') out.push('has no style');
    if (document.querySelectorAll('h1').length !== 1) out.push('has not one heading of the first level');
    return out;
  });
  return found.map(f => `${page.url()} ${look}: ${f}`);
}

// accessible lets axe look for what is serious or critical (WCAG 2.2 A and AA, and what is good practice). It needs scripts.
export async function accessible(page, look) {
  await page.evaluate(axe);
  const violations = await page.evaluate(async () => {
    const rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const r = await window.axe.run({ runOnly: rules, resultTypes: ['violations'] });
    return r.violations.filter(v => v.impact === 'serious' || v.impact === 'critical').map(v =>
      `${v.id} (${v.impact}): ${v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + ' ' + n.failureSummary.replace(/\s+/g, ' ')).join(' | ')}`);
  });
  return violations.map(v => `${page.url()} ${look}: ${v}`);
}

// focusProblem says whether whoever uses the keyboard sees where he is; '' if he does.
export const focusProblem = el => {
  const s = getComputedStyle(el), box = el.getBoundingClientRect();
  if (s.outlineStyle === 'none' || parseFloat(s.outlineWidth) < 2) return 'has no visible focus';
  return box.width > 0 && box.height > 0 ? '' : 'has the focus and cannot be seen';
};

// everyStop goes through a page by Tab: everything that can be used is met, once, and can be seen when it is.
export async function everyStop(page, look) {
  const problems = [];
  const wanted = await page.evaluate(() => {
    const usable = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')].filter(e =>
      !e.disabled && e.checkVisibility({ visibilityProperty: true }) && !e.closest('details:not([open]) > :not(summary)'));
    // One of a group of radio buttons is met by Tab, the others by arrows.
    return usable.filter(e => e.type !== 'radio' || e.checked).length;
  });
  await page.evaluate(() => { document.activeElement?.blur(); window.scrollTo(0, 0); });
  const seen = new Set();
  // A date has a stop for each of its parts.
  for (let i = 0; i < 3 * wanted && seen.size < wanted; i++) {
    await page.keyboard.press('Tab');
    const stop = await page.evaluateHandle(() => document.activeElement);
    const at = await stop.evaluate(el => el === document.body ? '' : (el.dataset.stop ??= String(Math.random())));
    if (!at) break;
    if (seen.has(at)) continue;
    const problem = await stop.evaluate(focusProblem);
    if (problem) problems.push(`${page.url()} ${look}: ${await stop.evaluate(el => el.outerHTML.slice(0, 120))} ${problem}`);
    seen.add(at);
  }
  if (seen.size !== wanted) problems.push(`${page.url()} ${look}: Tab meets ${seen.size} of ${wanted}`);
  return problems;
}
