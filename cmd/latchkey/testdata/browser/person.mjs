// Somebody at a browser, with a mouse or with a keyboard only.

import { accessible, crawled, focusProblem, layout, patience, pattern, watch } from './checks.mjs';

// axed are the kinds of pages that axe has looked at, in each look.
const axed = new Set();

// stops runs in the page: how many stops of Tab something is behind where the focus is, at least; 0 if it is before.
const stops = el => {
  const all = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')].filter(e =>
    e.checkVisibility({ visibilityProperty: true }) && (e.type !== 'radio' || e.checked));
  return Math.max(0, all.indexOf(el) - all.indexOf(document.activeElement));
};

export class Person {
  // origin is where the pages are; look is one of looks, with scripts unset where the browser runs none, and keys set where there is no mouse.
  static async come(browser, origin, look, problems, more = {}) {
    const context = await browser.newContext({
      viewport: look.viewport, colorScheme: look.colorScheme, javaScriptEnabled: look.scripts !== false, locale: 'en-GB',
      reducedMotion: 'reduce', // colours that are on their way to others are nobody's
      ...more,
    });
    context.setDefaultTimeout(patience);
    const p = new Person();
    Object.assign(p, { context, origin, look, problems, page: await context.newPage() });
    await watch(p.page, origin, problems);
    return p;
  }

  leave() { return this.context.close(); }

  // go types an address. status is what the answer must have.
  async go(path, status = 200) {
    const answer = await this.page.goto(this.origin + path);
    await this.look_at(answer.status(), status);
    return this;
  }

  // look_at looks at the page that has come.
  async look_at(got, wanted) {
    if (got !== wanted) this.problems.push(`${this.page.url()}: ${got}, want ${wanted}: ${(await this.text()).slice(0, 300)}`);
    this.problems.push(...await layout(this.page, this.look.name));
    const kind = pattern(this.page.url()), key = `${this.look.name} ${kind} ${got}`;
    if (this.look.scripts === false || axed.has(key) || got === 200 && crawled.has(kind)) return;
    axed.add(key);
    this.problems.push(...await accessible(this.page, this.look.name));
  }

  text() { return this.page.locator('body').innerText(); }

  // sees fails unless all words can be read.
  async sees(...words) {
    const text = (await this.text()).replace(/\s+/g, ' ');
    for (const w of words) if (!text.includes(w)) throw new Error(`${this.page.url()}: “${w}” is not in: ${text.slice(0, 1500)}`);
    return this;
  }

  // reach brings the focus to something by Tab.
  async reach(what) {
    const far = await what.evaluate(stops);
    await Promise.all(Array.from({ length: far }, () => this.page.keyboard.press('Tab')));
    for (let i = 0; i < 400; i++) {
      if (await what.evaluate(el => el === document.activeElement)) {
        const problem = await what.evaluate(focusProblem);
        if (problem) this.problems.push(`${this.page.url()}: ${await what.evaluate(el => el.outerHTML.slice(0, 120))} ${problem}`);
        return;
      }
      await this.page.keyboard.press('Tab');
    }
    throw new Error(`${this.page.url()}: Tab does not reach ${what}`);
  }

  // use presses something, and waits for the page that it leads to.
  async use(what, key, wanted) {
    if (this.look.keys) await this.reach(what);
    const [answer] = await Promise.all([
      this.page.waitForNavigation({ waitUntil: 'load', timeout: patience }),
      this.look.keys ? this.page.keyboard.press(key) : what.click(),
    ]);
    await this.look_at(answer.status(), wanted);
    return this;
  }

  // follow uses the first link to a path.
  follow(path, status = 200) { return this.use(this.page.locator(`a[href="${path}"]`).first(), 'Enter', status); }

  // reveal opens the details that something is in.
  async reveal(what) {
    for (const d of await what.locator('xpath=ancestor::details[not(@open)]').all()) {
      const summary = d.locator('> summary');
      if (this.look.keys) {
        await this.reach(summary);
        await this.page.keyboard.press('Space');
      } else await summary.click();
    }
  }

  // send fills in the form of an action and sends it: true and false are for boxes, text is for fields, and for the value of a choice. has names
  // a field, hidden ones too, and its value, to tell forms of one action apart; press is a selector of the button, which is the last one otherwise.
  async send(action, fields = {}, { status = 200, has, press = 'button' } = {}) {
    let form = this.page.locator(`form[action="${action}"]`);
    if (has) form = form.filter({ has: this.page.locator(`[name="${has[0]}"][value="${has[1]}"]`) });
    form = form.first();
    await form.waitFor({ state: 'attached' });
    for (const [name, value] of Object.entries(fields)) await this.fill(form, name, value);
    const button = form.locator(press).last();
    await this.reveal(button);
    return this.use(button, 'Enter', status);
  }

  async fill(form, name, value) {
    const field = form.locator(`[name="${name}"]:not([type=hidden])`).first();
    await this.reveal(field);
    const kind = await field.evaluate(el => el.type);
    if (kind === 'radio') return this.choose(form, name, value);
    if (!this.look.keys) {
      if (kind === 'checkbox') return field.setChecked(value);
      if (kind === 'select-one') return field.selectOption(value);
      return field.fill(value);
    }
    await this.reach(field);
    if (kind === 'checkbox') {
      if (await field.isChecked() !== value) await this.page.keyboard.press('Space');
    } else if (kind === 'select-one') {
      const { from, to } = await field.evaluate((el, v) => ({ from: el.selectedIndex, to: [...el.options].findIndex(o => o.value === v) }), value);
      for (let i = from; i !== to; i += Math.sign(to - from)) await this.page.keyboard.press(to > from ? 'ArrowDown' : 'ArrowUp');
    } else if (kind === 'date') {
      const [year, month, day] = value.split('-');
      if (value) await this.page.keyboard.type(month + day + year); // the order of the browser, not of the page
      else for (const key of ['Delete', 'ArrowRight', 'Delete', 'ArrowRight', 'Delete']) await this.page.keyboard.press(key);
      if (await field.inputValue() !== value) throw new Error(`the date ${value} became ${await field.inputValue()}`);
    } else {
      await this.page.keyboard.press('Control+A');
      await this.page.keyboard.insertText(value);
      if (!value) await this.page.keyboard.press('Delete');
    }
  }

  // choose takes one of a group of radio buttons.
  async choose(form, name, value) {
    const wanted = form.locator(`[name="${name}"][value="${value}"]`);
    if (!this.look.keys) return wanted.check();
    await this.reach(form.locator(`[name="${name}"]:checked`));
    for (let i = 0; i < 10 && !await wanted.isChecked(); i++) await this.page.keyboard.press('ArrowDown');
  }

  // hides fails if something is to be seen.
  async hides(what) {
    for (const e of await this.page.locator(what).all()) {
      if (await e.isVisible()) throw new Error(`${this.page.url()}: ${what} is to be seen`);
    }
  }

  // fails presses the button of a form, whose script then says what went wrong and leads nowhere.
  async fails(action, words) {
    const button = this.page.locator(`form[action="${action}"] button`), url = this.page.url();
    if (this.look.keys) {
      await this.reach(button);
      await this.page.keyboard.press('Enter');
    } else await button.click();
    await this.page.locator('[role=alert]', { hasText: words }).waitFor();
    if (this.page.url() !== url) throw new Error(`${url}: it led to ${this.page.url()}`);
    this.problems.push(...await layout(this.page, this.look.name), ...await accessible(this.page, this.look.name));
  }

  // authenticator plugs one into the browser that keeps passkeys; knows says whether it knows who uses it.
  async authenticator() {
    const session = await this.context.newCDPSession(this.page);
    await session.send('WebAuthn.enable');
    const { authenticatorId } = await session.send('WebAuthn.addVirtualAuthenticator', { options: {
      protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true,
    } });
    return { knows: isUserVerified => session.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified }) };
  }

  async signIn(name, password, status = 200) {
    await this.go('/login');
    return this.send('/login', { name, password }, { status });
  }

  signOut() { return this.send('/logout'); }
}
