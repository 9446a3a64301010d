/** Chromium, and what a person does in it. */
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export const PASSWORD = 'correct horse battery';

/** How soon what one writes must reach another. */
export const SOON_MS = 1_000;

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS });
}

/**
 * A person's own browser window: cookies of its own, and a record of everything that went wrong.
 * @param {import('playwright-core').Browser} browser
 * @param {import('playwright-core').BrowserContextOptions} [options]
 */
export async function person(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(15_000);
  const page = await context.newPage();
  const troubles = [];
  page.on('console', (message) => message.type() === 'error' && troubles.push(message.text()));
  page.on('pageerror', (error) => troubles.push(String(error)));
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
  });
  return { context, page, troubles };
}

/**
 * Signs up through the page and ends on the first page.
 * @param {import('playwright-core').Page} page
 * @param {string} server
 * @param {string} name
 */
export async function signUp(page, server, name) {
  await page.goto(`${server}/signup.html`);
  await page.getByLabel('User name').fill(name);
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign up' }).click();
  await page.getByRole('heading', { name: `Hello, ${name}` }).waitFor();
}

/**
 * Logs in through the page.
 * @param {import('playwright-core').Page} page
 * @param {string} server
 * @param {string} name
 * @param {string} password
 */
export async function logIn(page, server, name, password) {
  await page.goto(`${server}/login.html`);
  await page.getByLabel('User name').fill(name);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Log in' }).click();
}

/**
 * Opens the chat in `general`, joining it first if need be.
 * @param {import('playwright-core').Page} page
 * @param {string} server
 */
export async function openGeneral(page, server) {
  await page.goto(`${server}/chat.html#general`);
  const join = page.getByRole('button', { name: 'Join #general' });
  await join.or(field(page)).first().waitFor();
  if (await join.isVisible()) await join.click();
  await field(page).waitFor();
}

/** Where one writes. */
export function field(page) {
  return page.getByRole('textbox', { name: 'Message to' });
}

/**
 * Writes a message and sends it with Enter.
 * @param {import('playwright-core').Page} page
 * @param {string} text
 */
export async function write(page, text) {
  await field(page).fill(text);
  await field(page).press('Enter');
}

/** The lines of the log that show exactly this text. */
export function message(page, text) {
  return page.getByRole('log').locator('.message').filter({ has: page.locator('.text', { hasText: exactly(text) }) });
}

/** The texts of the log, top down. */
export function texts(page) {
  return page.getByRole('log').locator('.message .text').allTextContents();
}

/**
 * Says that `happens` takes no longer than a conversation bears.
 * @param {Promise<unknown>} happens
 */
export async function soon(happens) {
  const begun = performance.now();
  await happens;
  const took = Math.round(performance.now() - begun);
  assert.ok(took <= SOON_MS, `took ${took} ms, at most ${SOON_MS} expected`);
}

function exactly(text) {
  return new RegExp(`^${text.replace(/[.*+?^${}()|[\]\\]/gu, '\\$&')}$`, 'u');
}
