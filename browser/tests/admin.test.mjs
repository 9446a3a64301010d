/** The operators' page of the proxy: what it shows while requests come, and what its buttons do. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, person } from './support/browser.mjs';
import { Lines } from './support/process.mjs';
import { binary, temporaryFolder } from './support/server.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const upstreams = [];
let proxy;
let front;
let admin;
let browser;
let isOver = false;
let load;

before(async () => {
  const ports = [];
  for (const name of ['one', 'two']) {
    const server = createServer((request, response) => {
      response.statusCode = request.url === '/broken' ? 500 : 200;
      response.end(name);
    });
    await new Promise((listening) => server.listen(0, '127.0.0.1', () => listening(undefined)));
    upstreams.push(server);
    ports.push(server.address().port);
  }
  const file = join(temporaryFolder(), 'proxy.conf');
  writeFileSync(
    file,
    `upstream app { server 127.0.0.1:${ports[0]}; server 127.0.0.1:${ports[1]}; }
     host default {
       proxy_pass http://app;
       location /<b>/ { respond 200 "not markup"; }
     }`,
  );
  proxy = new Lines(binary, ['proxy', '--config', file, '--server-port', '0', '--admin-port', '0']);
  const address = async (name) => (await proxy.line(name, (line) => line.trim().startsWith(`${name} `))).split(/\s+/u).at(-1);
  [front, admin] = [await address('proxy'), await address('admin')];
  browser = await launch();
  load = ask();
});

after(async () => {
  isOver = true;
  await load;
  await browser?.close();
  await proxy?.kill();
  for (const server of upstreams) server.close();
});

/** Asks all the time; now and then for something that fails. */
async function ask() {
  for (let count = 0; !isOver; count += 1) {
    await fetch(`${front}${count % 20 === 0 ? '/broken' : '/'}`).then((response) => response.text());
    await new Promise((next) => setTimeout(next, 10));
  }
}

/** @param {import('playwright-core').Page} page */
async function open(page) {
  await page.goto(admin);
  await page.getByRole('row', { name: /^default\b/u }).first().waitFor();
  await page.waitForFunction(() => /\d\/s/u.test(document.querySelector('#routes tbody tr td:nth-child(3)')?.textContent ?? ''));
}

test('routes and servers are shown with rates and durations, and move', async () => {
  const { page, context, troubles } = await person(browser);
  await open(page);
  const route = page.locator('#routes tbody tr').first();
  assert.match(await route.locator('td').nth(2).innerText(), /(µs|ms| s)$/u, 'a median');
  await page.waitForFunction(() => document.querySelectorAll('#servers tbody tr').length === 3);
  assert.equal(await page.locator('#servers .state-up').count(), 2);
  assert.match(await page.locator('#servers tr.group').innerText(), /app\s+2 of 2 up/u);
  await page.waitForFunction(() => (document.querySelector('#charts .line')?.getAttribute('d') ?? '').split('L').length > 3);
  assert.match((await page.locator('#charts svg').first().getAttribute('aria-label')) ?? '', /^Requests: now \d/u);
  assert.equal(await page.getByRole('rowheader', { name: 'default/<b>/' }).count(), 1, 'a name is no markup');
  assert.deepEqual(troubles, []);
  await context.close();
});

test('a server is drained, disabled after a question, and enabled again, by keyboard alone', async () => {
  const { page, context, troubles } = await person(browser);
  await open(page);
  const name = upstreams[0].address().port;
  const row = page.getByRole('row', { name: new RegExp(`127\\.0\\.0\\.1:${name}`, 'u') });
  const state = (wanted) => row.locator(`.state-${wanted}`).waitFor();

  await row.getByRole('button', { name: 'Drain' }).focus();
  await page.keyboard.press('Enter');
  await state('draining');
  assert.match(await page.getByRole('status').innerText(), /finishes what it has/u);
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), 'Drain', 'the place is kept');
  for (let count = 0; count < 6; count += 1) assert.equal(await (await fetch(front)).text(), 'two');

  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.press('Escape');
  await state('draining');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await state('disabled');

  await row.getByRole('button', { name: 'Enable' }).focus();
  await page.keyboard.press('Enter');
  await state('up');
  const names = new Set();
  for (let count = 0; count < 8; count += 1) names.add(await (await fetch(front)).text());
  assert.deepEqual([...names].sort(), ['one', 'two']);
  assert.deepEqual(troubles, []);
  await context.close();
});

test('a pause stops the numbers, and a proxy that is gone is said', async () => {
  const { page, context } = await person(browser);
  await open(page);
  const pause = page.getByRole('button', { name: 'Pause' });
  await pause.click();
  assert.equal(await pause.getAttribute('aria-pressed'), 'true');
  await pause.click();
  await context.setOffline(true);
  await page.getByRole('alert').waitFor();
  await context.setOffline(false);
  await page.getByRole('alert').waitFor({ state: 'hidden' });
  await context.close();
});

for (const [name, options] of [
  ['light', { colorScheme: 'light' }],
  ['dark', { colorScheme: 'dark' }],
  ['dark-phone', { colorScheme: 'dark', viewport: { width: 390, height: 780 } }],
]) {
  test(`axe finds nothing to complain about, ${name}`, async () => {
    const { page, context, troubles } = await person(browser, options);
    await open(page);
    await page.waitForFunction(() => (document.querySelector('#charts .line')?.getAttribute('d') ?? '').split('L').length > 4);
    if (process.env.SCREENSHOTS) {
      await page.screenshot({ path: join(process.env.SCREENSHOTS, `admin-${name}.png`), fullPage: true });
    }
    assert.deepEqual(troubles, []);
    const found = await page.evaluate(`(() => { ${axe}; return globalThis.axe.run(); })()`);
    assert.deepEqual(found.violations.map((each) => `${each.id}: ${each.nodes.map((node) => node.target).join(' ')}`), []);
    const isWide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.equal(isWide, false, 'the page itself does not scroll sideways');
    await context.close();
  });
}
