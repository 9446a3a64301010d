/** The pages for people who use a keyboard, a screen reader, a phone, or the dark. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { field, launch, message, openGeneral, PASSWORD, person, signUp, write } from './support/browser.mjs';
import { Server } from './support/server.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let server;
let browser;

before(async () => {
  [server, browser] = await Promise.all([new Server().start(), launch()]);
});

after(async () => {
  await browser?.close();
  await server?.kill();
});

test('everything from sign-up to a sent message works by keyboard', async () => {
  const { page, context } = await person(browser);
  await page.goto(`${server.page}/signup.html`);
  await page.keyboard.type('alice'); // the field has the focus
  await page.keyboard.press('Tab');
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Hello, alice' }).waitFor();
  await tabTo(page, 'Open the chat');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'WeApRous' }).waitFor();
  await tabTo(page, 'general');
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Join #general' }).waitFor();
  await tabTo(page, 'Join #general');
  await page.keyboard.press('Enter');
  await field(page).waitFor();
  await page.locator('textarea:focus').waitFor(); // whoever has joined can write at once
  await page.keyboard.type('typed blind');
  await page.keyboard.press('Enter');
  await message(page, 'typed blind').waitFor();

  await tabTo(page, 'New channel');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.type('music');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'music' }).waitFor();
  await page.keyboard.press('Alt+ArrowUp');
  await page.getByRole('heading', { name: 'general' }).waitFor();
  await page.keyboard.press('Alt+ArrowDown');
  await page.getByRole('heading', { name: 'music' }).waitFor();
  await context.close();
});

test('the skip link leads to the field', async () => {
  const { page, context } = await person(browser);
  await signUp(page, server.page, 'bob');
  await openGeneral(page, server.page);
  await page.reload();
  await field(page).waitFor();
  await tabTo(page, 'Skip to writing a message');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'message-field');
  await message(page, 'typed blind').waitFor();
  assert.equal(await page.getByRole('heading', { level: 1 }).textContent(), 'general');
  await context.close();
});

test('new messages are announced, older ones are not', async () => {
  const { page, context } = await person(browser);
  await signUp(page, server.page, 'carol');
  await openGeneral(page, server.page);
  await message(page, 'typed blind').waitFor();
  const log = page.getByRole('log');
  await page.waitForFunction(() => document.querySelector('[role=log]')?.getAttribute('aria-live') === 'polite');
  assert.equal(await log.getAttribute('aria-relevant'), 'additions');
  await write(page, 'announced');
  await message(page, 'announced').waitFor();
  assert.equal(await log.getAttribute('aria-live'), 'polite');
  await context.close();
});

test('on a phone the sides open and close, by touch and by Escape', async () => {
  const { page, context } = await person(browser, { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true });
  await signUp(page, server.page, 'dave');
  await openGeneral(page, server.page);
  const menu = page.getByRole('button', { name: 'Channels and people' });
  const channels = page.getByRole('navigation', { name: 'Channels' });
  assert.equal(await channels.isVisible(), false);
  await menu.tap();
  await channels.getByRole('link', { name: 'general' }).tap();
  await channels.waitFor({ state: 'hidden' });
  await menu.tap();
  await channels.waitFor();
  await page.keyboard.press('Escape');
  await channels.waitFor({ state: 'hidden' });
  await page.getByRole('button', { name: 'Invite' }).tap();
  await page.getByRole('dialog').waitFor();
  await context.close();
});

for (const [name, options] of [
  ['light', { colorScheme: 'light' }],
  ['dark', { colorScheme: 'dark' }],
  ['light, on a phone', { colorScheme: 'light', viewport: { width: 390, height: 780 } }],
  ['dark, on a phone', { colorScheme: 'dark', viewport: { width: 390, height: 780 } }],
]) {
  test(`axe finds nothing to complain about, ${name}`, async () => {
    const { page, context, troubles } = await person(browser, { ...options, reducedMotion: 'reduce' });
    const found = [];
    const check = async (where) => found.push(...(await violations(page)).map((each) => `${where}: ${each}`));
    for (const path of ['login.html', 'signup.html']) {
      await page.goto(`${server.page}/${path}`);
      await check(path);
    }
    await page.goto(`${server.page}/chat.html`);
    await check('401');
    await signUp(page, server.page, `axe-${name.replace(/\W+/gu, '-')}`);
    await check('first page');
    await page.goto(`${server.page}/chat.html#general`);
    await page.getByRole('button', { name: 'Join #general' }).waitFor();
    await check('before joining');
    await page.getByRole('button', { name: 'Join #general' }).click();
    await write(page, 'a message with https://example.org/ and a hidden \u202e character');
    await page.getByRole('log').getByRole('link').first().waitFor();
    const refuse = (route) => route.fulfill({ status: 403, contentType: 'application/problem+json', body: '{"detail":"no"}' });
    await page.route('**/send-message', refuse);
    await write(page, 'refused');
    await page.getByText('Not sent').waitFor();
    await check('chat');
    await page.route('**/api/v1/events**', (route) => route.abort());
    await page.reload();
    await page.getByText('Live updates do not come through').waitFor();
    await check('chat with a banner');
    const menu = page.getByRole('button', { name: 'Channels and people' });
    if (await menu.isVisible()) {
      await menu.click();
      await check('sides');
      await page.keyboard.press('Escape');
    } else {
      await page.getByRole('button', { name: 'New channel' }).first().click();
      await page.getByRole('button', { name: 'Open channel' }).click();
      await check('dialog');
    }
    assert.deepEqual(found, []);
    assert.deepEqual(troubles.filter((trouble) => trouble.startsWith('CSP')), []);
    await context.close();
  });
}

/** Presses Tab until what has this name or text has the focus, and insists that one sees it. */
async function tabTo(page, name) {
  for (let presses = 0; presses < 40; presses += 1) {
    await page.keyboard.press('Tab');
    const focus = await page.evaluate(() => {
      const element = document.activeElement;
      if (element === document.body) return { label: '', seen: false };
      const label = element?.getAttribute('aria-label') ?? element?.labels?.[0]?.textContent ?? element?.textContent ?? '';
      const ring = element ? getComputedStyle(element).outlineStyle : 'none';
      const box = element?.parentElement ? getComputedStyle(element.parentElement).boxShadow : 'none';
      return { label: label.trim(), seen: ring !== 'none' || box !== 'none' };
    });
    if (!focus.label.startsWith(name)) continue;
    assert.ok(focus.seen, `one sees that ${name} has the focus`);
    return;
  }
  assert.fail(`${name} cannot be reached with Tab`);
}

/** What axe finds, in short. */
async function violations(page) {
  await page.evaluate(axe);
  const { violations: found } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return found.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map((node) => node.target.join(' ')).join(', ')}`);
}
