/** Who gets in, and what strangers see. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, logIn, PASSWORD, person, signUp } from './support/browser.mjs';
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

test('signing up leads to the first page, logging out closes the door', async () => {
  const { page, context, troubles } = await person(browser);
  await signUp(page, server.page, 'alice');
  const command = page.getByRole('textbox', { name: 'Terminal command' });
  await assertText(command, `weaprous chat --username alice --tracker ${server.page.replace('localhost', '127.0.0.1')}`);
  const session = (await context.cookies()).find((cookie) => cookie.name === 'session');
  assert.ok(session?.httpOnly, 'scripts cannot read the session');
  assert.equal(session.sameSite, 'Lax');
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
  assert.equal((await page.goto(`${server.page}/index.html`)).status(), 401);
  assert.deepEqual(troubles.filter((trouble) => !trouble.includes('401')), []);
  await context.close();
});

test('a wrong password is told in words, and what was typed stays', async () => {
  const { page, context } = await person(browser);
  await signUp(page, server.page, 'bob');
  await context.clearCookies();
  await logIn(page, server.page, 'bob', 'not the password');
  await assertText(page.getByRole('alert'), /name or the password is wrong/u);
  assert.equal(await page.getByLabel('User name').inputValue(), 'bob');
  assert.equal(new URL(page.url()).pathname, '/login.html');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { name: 'Hello, bob' }).waitFor();
  await context.close();
});

test('a name that is taken and a weak password are told in words', async () => {
  const { page, context } = await person(browser);
  await signUp(page, server.page, 'carol');
  await context.clearCookies();
  await page.goto(`${server.page}/signup.html`);
  await page.getByLabel('User name').fill('carol');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign up' }).click();
  await assertText(page.getByRole('alert'), /taken/u);
  await page.getByLabel('User name').fill('carola');
  await page.getByLabel('Password').fill('aaaaaaaaaaaa');
  await page.getByRole('button', { name: 'Sign up' }).click();
  await assertText(page.getByRole('alert'), /password/u);
  await context.close();
});

test('without scripts the forms work as well', async () => {
  const { page, context } = await person(browser, { javaScriptEnabled: false });
  await page.goto(`${server.page}/login?next=%2Fchat.html`);
  await page.getByLabel('User name').fill('admin');
  await page.getByLabel('Password').fill('wrong one');
  await page.getByRole('button', { name: 'Log in' }).click();
  await assertText(page.locator('form .error, .card .error'), /wrong/u);
  await page.getByLabel('Password').fill('password');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.waitForURL(`${server.page}/chat.html`);
  await context.close();
});

for (const [what, cookies] of [
  ['no cookie', []],
  ['a forged auth cookie', [{ name: 'auth', value: 'true' }]],
  ['a made-up session', [{ name: 'auth', value: 'true' }, { name: 'session', value: 'AAAAAAAAAAAAAAAAAAAAAA' }]],
]) {
  test(`with ${what} the pages answer 401 and lead to the login`, async () => {
    const { page, context } = await person(browser);
    await context.addCookies(cookies.map((cookie) => ({ ...cookie, url: server.page })));
    for (const path of ['/', '/index.html', '/chat.html']) {
      const response = await page.goto(server.page + path);
      assert.equal(response.status(), 401, path);
      assert.equal(await page.getByText('Open the chat').count(), 0);
    }
    await page.getByRole('link', { name: 'Log in' }).click();
    await page.getByLabel('User name').fill('admin');
    await page.getByLabel('Password').fill('password');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.waitForURL(/\/chat\.html/u);
    await context.close();
  });
}

test('the way back after a login stays on this site', async () => {
  const { page, context } = await person(browser);
  for (const evil of ['//evil.example/', 'https://evil.example/', '/\\evil.example', '/\t/evil.example/']) {
    await page.goto(`${server.page}/login.html?next=${encodeURIComponent(evil)}`);
    await page.getByLabel('User name').fill('admin');
    await page.getByLabel('Password').fill('password');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('heading', { name: 'Hello, admin' }).waitFor();
    assert.equal(new URL(page.url()).origin, new URL(server.page).origin, evil);
  }
  await context.close();
});

test('a session that ends while the chat is open leads to the login and loses nothing written', async () => {
  const { page, context } = await person(browser);
  await signUp(page, server.page, 'dora');
  await page.goto(`${server.page}/chat.html#general`);
  await page.getByRole('button', { name: 'Join #general' }).click();
  const field = page.getByRole('textbox', { name: 'Message to' });
  await field.waitFor();
  await context.clearCookies();
  await field.fill('written without a session');
  await field.press('Enter');
  await page.getByRole('link', { name: 'Log in again' }).click();
  await page.getByLabel('User name').fill('dora');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('log').getByText('written without a session').waitFor();
  assert.equal(new URL(page.url()).hash, '#general');
  await context.close();
});

/**
 * @param {import('playwright-core').Locator} locator
 * @param {string | RegExp} expected
 */
async function assertText(locator, expected) {
  await locator.filter({ hasText: expected }).first().waitFor();
}
