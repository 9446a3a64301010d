/** Conversations between browsers and terminals, through the proxy, against the real servers. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { field, launch, message, openGeneral, person, signUp, soon, texts, write } from './support/browser.mjs';
import { Server } from './support/server.mjs';

let server;
let browser;

before(async () => {
  [server, browser] = await Promise.all([new Server().start(), launch()]);
});

after(async () => {
  await browser?.close();
  await server?.kill();
});

/** Signs up and opens `general`. */
async function member(name, options) {
  const one = await person(browser, options);
  await signUp(one.page, server.page, name);
  await openGeneral(one.page, server.page);
  return one;
}

test('a browser and a terminal read each other within a second', async () => {
  const { page, context, troubles } = await member('alice');
  const terminal = await server.terminal('bob');
  await page.getByRole('link', { name: 'bob' }).waitFor(); // online

  await write(page, 'hello from the browser');
  await soon(terminal.sees('general', 'alice', 'hello from the browser'));
  const line = await terminal.sees('general', 'alice', 'hello from the browser');
  assert.match(line, /\(tracker, hosted\)$/u);
  await message(page, 'hello from the browser').getByText('stored').waitFor({ state: 'attached' });

  terminal.type('hello from the terminal');
  await soon(message(page, 'hello from the terminal').waitFor());
  assert.equal(await message(page, 'hello from the terminal').getByText('hosted').count(), 0);
  assert.equal(await message(page, 'hello from the browser').getByText('hosted').count(), 1);
  assert.deepEqual(troubles, []);
  await terminal.kill();
  await context.close();
});

test('two browsers read each other within a second, in the same order', async () => {
  const [one, other] = [await member('carol'), await member('dave')];
  await write(one.page, 'one');
  await soon(message(other.page, 'one').waitFor());
  await write(other.page, 'two');
  await soon(message(one.page, 'two').waitFor());
  await write(one.page, 'three');
  await message(other.page, 'three').waitFor();
  await message(one.page, 'three').waitFor();
  assert.deepEqual((await texts(one.page)).slice(-3), ['one', 'two', 'three']);
  assert.deepEqual((await texts(other.page)).slice(-3), ['one', 'two', 'three']);
  assert.deepEqual([...one.troubles, ...other.troubles], []);
  await one.context.close();
  await other.context.close();
});

test('text from others cannot become markup, and hidden characters show', async () => {
  const { page, context, troubles } = await member('erin');
  const nasty = '<img src=x onerror="document.title=1"> photo\u202egpj.exe javascript:alert(1) https://example.org/a?b=c.';
  await write(page, nasty);
  const text = message(page, nasty.replace('\u202e', 'U+202E')).locator('.text');
  await text.waitFor();
  assert.equal(await text.locator('img').count(), 0);
  assert.equal(await text.locator('.hidden-character').textContent(), 'U+202E');
  const link = text.getByRole('link');
  assert.equal(await link.count(), 1);
  assert.equal(await link.getAttribute('href'), 'https://example.org/a?b=c');
  assert.equal(await link.getAttribute('rel'), 'noopener noreferrer');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('Shift+Enter begins a new line, long words wrap', async () => {
  const { page, context } = await member('frank', { viewport: { width: 390, height: 780 } });
  await field(page).pressSequentially('first');
  await field(page).press('Shift+Enter');
  await field(page).pressSequentially('second');
  await field(page).press('Enter');
  await page.getByRole('log').getByText('first\nsecond').waitFor();
  await write(page, 'x'.repeat(3_000));
  await message(page, 'x'.repeat(3_000)).waitFor();
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, 'the page does not scroll sideways');
  await context.close();
});

test('unread messages are counted, marked where they begin, and read everywhere once read', async () => {
  const [reader, writer] = [await member('gina'), await member('henry')];
  await write(writer.page, 'before');
  await message(reader.page, 'before').waitFor();
  await readMark(reader.page);
  await reader.page.evaluate(() => (location.hash = '#@henry'));
  await reader.page.getByRole('heading', { name: 'henry' }).waitFor();

  for (const text of ['unread one', 'unread two']) await write(writer.page, text);
  const entry = reader.page.getByRole('link', { name: 'general 2 unread' });
  await entry.waitFor();
  await reader.page.waitForFunction(() => document.title.startsWith('(2) '));

  // another window of the same person knows as well: the mark is on the server
  const second = await reader.context.newPage();
  await second.goto(`${server.page}/chat.html#@henry`);
  await second.getByRole('link', { name: 'general 2 unread' }).waitFor();

  await reader.page.bringToFront();
  await entry.click();
  await message(reader.page, 'unread two').waitFor();
  const order = await reader.page.locator('[role=log] .unread-divider, [role=log] .message .text').allTextContents();
  assert.deepEqual(order.slice(-4), ['before', 'New messages', 'unread one', 'unread two']);
  await reader.page.waitForFunction(() => !document.title.startsWith('('));
  await second.getByRole('link', { name: 'general', exact: true }).waitFor();
  await readMark(reader.page);
  await reader.page.reload();
  await message(reader.page, 'unread two').waitFor();
  assert.equal(await reader.page.locator('.unread-divider').count(), 0);
  await reader.context.close();
  await writer.context.close();
});

test('direct messages reach one person, by a click on the name', async () => {
  const [one, other] = [await member('iris'), await member('jack')];
  await one.page.getByRole('complementary', { name: 'People' }).getByRole('link', { name: 'jack' }).click();
  await one.page.getByRole('heading', { name: 'jack' }).waitFor();
  await write(one.page, 'just for you');
  const entry = other.page.getByRole('navigation', { name: 'Channels' }).getByRole('link', { name: 'iris 1 unread' });
  await soon(entry.waitFor());
  await entry.click();
  await message(other.page, 'just for you').waitFor();
  await write(other.page, 'thank you');
  await soon(message(one.page, 'thank you').waitFor());
  await one.context.close();
  await other.context.close();
});

test('a channel is made, found, joined and left; a private one needs an invitation', async () => {
  const [maker, guest] = [await member('kate'), await member('liam')];
  await make(maker.page, 'chess', false);
  await guest.page.getByRole('link', { name: /^chess/u }).click();
  await guest.page.getByRole('button', { name: 'Join #chess' }).click();
  await write(guest.page, 'may I play?');
  await message(maker.page, 'may I play?').waitFor();

  await make(maker.page, 'board', true);
  await write(maker.page, 'secret');
  await guest.page.reload();
  await guest.page.getByRole('link', { name: /^chess/u }).waitFor();
  assert.equal(await guest.page.getByRole('link', { name: /^board/u }).count(), 0);
  await maker.page.getByRole('button', { name: 'Invite' }).click();
  await maker.page.getByLabel('User name').fill('liam');
  await maker.page.getByRole('dialog').getByRole('button', { name: 'Invite' }).click();
  await maker.page.getByText('liam is invited').waitFor();
  await guest.page.reload();
  await guest.page.getByRole('link', { name: /^board/u }).click();
  await guest.page.getByRole('button', { name: 'Join #board' }).click();
  await message(guest.page, 'secret').waitFor();

  guest.page.on('dialog', (dialog) => dialog.accept());
  await guest.page.getByRole('button', { name: 'Leave' }).click();
  await guest.page.getByRole('button', { name: 'Join #board' }).or(guest.page.getByText('There is no channel #board')).first().waitFor();
  assert.equal(await guest.page.getByText('secret').count(), 0);
  await maker.context.close();
  await guest.context.close();
});

test('older messages come while one scrolls up, and the place is kept', async () => {
  const { page, context } = await member('mona');
  await fill(page, 'history', 130);
  await page.evaluate(() => (location.hash = '#history'));
  await message(page, 'line 130').waitFor();
  await page.reload();
  await message(page, 'line 130').waitFor();
  assert.equal(await message(page, 'line 20').count(), 0);
  const scroller = page.locator('.scroller');
  for (let tries = 0; (await message(page, 'line 1').count()) === 0; tries += 1) {
    assert.ok(tries < 20, 'the first message never came');
    const top = await topRow(page);
    await scroller.evaluate((element) => (element.scrollTop = Math.max(0, element.scrollTop - 2_000)));
    await page.waitForFunction((before) => document.querySelector('[role=log] .message .text')?.textContent !== before, top, { timeout: 2_000 }).catch(() => {});
  }
  assert.equal((await texts(page)).length, 130);
  await page.getByText('This is where #history begins.').waitFor();

  // somebody writes while one reads above: the place stays, a button tells
  await scroller.evaluate((element) => (element.scrollTop = 300));
  const place = () => scroller.evaluate((element) => element.scrollTop);
  const before = await place();
  await fill(page, 'history', 1, 'late');
  await page.getByRole('button', { name: 'To the newest' }).waitFor();
  await message(page, 'late 1').waitFor({ state: 'attached' });
  assert.equal(await place(), before);
  await page.getByRole('button', { name: 'To the newest' }).click();
  await page.waitForFunction(() => {
    const element = document.querySelector('.scroller');
    return element.scrollHeight - element.scrollTop - element.clientHeight < 2;
  });
  await context.close();
});

test('a message whose answer is lost is stored once', async () => {
  const { page, context } = await member('nina');
  let lost = 0;
  await page.route('**/send-message', async (route) => {
    if (lost > 0) return route.continue();
    lost += 1;
    await route.fetch(); // it reaches the server, the answer does not come back
    return route.abort();
  });
  await write(page, 'sent twice, stored once');
  await message(page, 'sent twice, stored once').waitFor();
  await page.locator('.unsent').waitFor({ state: 'detached' });
  await page.waitForFunction(() => Object.keys(localStorage).every((name) => !name.startsWith('weaprous/outbox/')));
  assert.equal(lost, 1);
  await page.reload();
  await message(page, 'sent twice, stored once').waitFor();
  assert.equal(await message(page, 'sent twice, stored once').count(), 1);
  await context.close();
});

test('a message that the server refuses stays with its reason, over a reload, until one decides', async () => {
  const { page, context } = await member('olga');
  const refuse = (route) =>
    route.fulfill({ status: 403, contentType: 'application/problem+json', body: '{"status":403,"detail":"not today"}' });
  await page.route('**/send-message', refuse);
  await write(page, 'refused for now');
  await page.getByText('Not sent: Not today.').waitFor();
  await page.reload();
  await page.getByText('Not sent: Not today.').waitFor();
  await page.unroute('**/send-message', refuse);
  await page.getByRole('button', { name: 'Try again' }).click();
  await message(page, 'refused for now').waitFor();
  assert.equal(await page.locator('.unsent').count(), 0);
  await context.close();
});

test('when the event stream does not come through, the page asks again and again instead', async () => {
  const { page, context } = await person(browser);
  await signUp(page, server.page, 'paul');
  await page.route('**/api/v1/events**', (route) => route.abort());
  await openGeneral(page, server.page);
  await page.getByText('Live updates do not come through').waitFor();
  const writer = await member('quinn');
  await write(writer.page, 'heard by asking');
  await message(page, 'heard by asking').waitFor();
  await page.unroute('**/api/v1/events**');
  await page.getByRole('button', { name: 'Try now' }).click();
  await page.getByText('Live updates do not come through').waitFor({ state: 'detached' });
  await write(writer.page, 'heard live');
  await soon(message(page, 'heard live').waitFor());
  await context.close();
  await writer.context.close();
});

test('with more tabs than the browser has connections every tab still works', async () => {
  const { page, context } = await member('rita');
  const tabs = [page];
  while (tabs.length < 7) {
    const tab = await context.newPage();
    await openGeneral(tab, server.page);
    tabs.push(tab);
  }
  const last = tabs.at(-1);
  await last.getByText('open in many tabs').waitFor();
  await write(last, 'from the seventh tab');
  for (const tab of tabs) await message(tab, 'from the seventh tab').waitFor({ state: 'attached' });

  // a place becomes free: the last tab takes it
  for (const tab of tabs.slice(0, 4)) await tab.close();
  await last.getByText('open in many tabs').waitFor({ state: 'detached' });
  await context.close();
});

/** Waits until the read mark has reached the server. */
function readMark(page) {
  return page.waitForFunction(async () => {
    const list = await (await fetch('/api/v1/channels')).json();
    const general = (list.channels ?? list).find((channel) => channel.name === 'general');
    return general.read_seq === general.last_seq;
  });
}

/** Makes a channel in the page. */
async function make(page, name, isPrivate) {
  await page.getByRole('button', { name: 'New channel' }).first().click();
  await page.getByLabel('Name', { exact: true }).fill(name);
  if (isPrivate) await page.getByLabel('Private').check();
  await page.getByRole('button', { name: 'Open channel' }).click();
  await page.getByRole('heading', { name }).waitFor();
  await field(page).waitFor();
}

/** Writes many messages into a channel over the API, making the channel if it is not there. */
async function fill(page, channel, count, word = 'line') {
  await page.evaluate(
    async ({ channel, count, word }) => {
      const post = (path, body) =>
        fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
      await post('/api/v1/channels', { channel, visibility: 'public' });
      for (let number = 1; number <= count; number += 1) {
        const answer = await post('/send-message', { channel, text: `${word} ${number}` });
        if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
      }
    },
    { channel, count, word },
  );
}

/** The text of the topmost message that is there. */
function topRow(page) {
  return page.getByRole('log').locator('.message .text').first().textContent();
}
