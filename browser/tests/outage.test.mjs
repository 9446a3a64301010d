/** The whole server is killed and comes back: nothing is lost, nothing is doubled. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, message, openGeneral, person, signUp, texts, write } from './support/browser.mjs';
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

test('what was written before, during and after an outage is there once, in one order', async () => {
  const { page, context } = await person(browser);
  await signUp(page, server.page, 'alice');
  await openGeneral(page, server.page);
  const [bob, carol] = await Promise.all([server.terminal('bob'), server.terminal('carol')]);
  await bob.line('its link to carol', (line) => line.startsWith('* ') && line.includes('carol') && line.includes('direct'));
  await write(page, 'before, from the browser');
  await bob.sees('general', 'alice', 'before, from the browser');
  bob.type('before, from bob');
  await message(page, 'before, from bob').waitFor();

  await server.kill();
  await page.getByText('The server cannot be reached').waitFor();
  await write(page, 'during, from the browser 1');
  await write(page, 'during, from the browser 2');
  await page.getByText('Waiting for the server').first().waitFor();
  bob.type('during, from bob');
  await carol.sees('general', 'bob', 'during, from bob');
  carol.type('during, from carol');
  await bob.sees('general', 'carol', 'during, from carol');

  await server.start();
  const expected = [
    ...['before, from the browser', 'before, from bob', 'during, from the browser 1', 'during, from the browser 2'],
    ...['during, from bob', 'during, from carol'],
  ];
  for (const text of expected) await message(page, text).waitFor();
  await page.getByText('The server cannot be reached').waitFor({ state: 'detached' });
  await page.locator('.unsent').waitFor({ state: 'detached' });
  await write(page, 'after, from the browser');
  await bob.sees('general', 'alice', 'after, from the browser');

  const shown = await texts(page);
  assert.deepEqual([...shown].sort(), [...expected, 'after, from the browser'].sort());
  assert.ok(shown.indexOf('during, from the browser 1') < shown.indexOf('during, from the browser 2'));
  const seqs = await page.locator('[role=log] .message').evaluateAll((rows) => rows.map((row) => Number(row.dataset.seq)));
  assert.deepEqual(seqs, [...seqs].sort((a, b) => a - b));
  assert.equal(await page.locator('.gap').count(), 0);

  await page.reload();
  await message(page, 'after, from the browser').waitFor();
  assert.deepEqual(await texts(page), shown, 'a fresh page shows the same');
  for (const terminal of [bob, carol]) {
    assert.equal(terminal.count((line) => line.includes('during, from the browser 1')), 1);
  }
  await Promise.all([bob.kill(), carol.kill()]);
  await context.close();
});

test('what was written during an outage survives a reload of the page', async () => {
  const { page, context } = await person(browser);
  await signUp(page, server.page, 'dave');
  await openGeneral(page, server.page);
  await server.kill();
  await page.getByText('The server cannot be reached').waitFor();
  await write(page, 'kept over the reload');
  await page.goto('about:blank');
  await server.start();
  await openGeneral(page, server.page);
  await message(page, 'kept over the reload').waitFor();
  await page.reload();
  await message(page, 'kept over the reload').waitFor();
  assert.equal(await message(page, 'kept over the reload').count(), 1);
  await context.close();
});
