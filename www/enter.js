/**
 * Login and sign-up: sends the form without leaving the page, so that what was typed stays when something is wrong.
 * Without this script the form still works.
 * @module
 */
import * as api from './lib/api.js';
import { find } from './lib/dom.js';

const form = find('form', HTMLFormElement);
const trouble = find('#trouble', HTMLElement);
const button = find('button[type=submit]', HTMLButtonElement);
const next = localTarget(
  form.querySelector('input[name=next]')?.getAttribute('value') ?? new URLSearchParams(location.search).get('next'),
);

for (const link of document.querySelectorAll('a[data-keeps-next]')) {
  if (link instanceof HTMLAnchorElement && next !== '/') link.search = `?next=${encodeURIComponent(next)}`;
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const typed = new FormData(form);
  button.disabled = true;
  trouble.textContent = '';
  document.querySelector('.error')?.remove(); // what the server said to a form sent without this script
  try {
    const where = new URL(form.action).pathname === '/signup' ? '/signup' : '/login';
    await api.enter(where, String(typed.get('username')), String(typed.get('password')));
    location.assign(next);
  } catch (error) {
    trouble.textContent = api.words(error);
    button.disabled = false;
    find('input[name=password]', HTMLInputElement).select();
  }
});

/**
 * A place on this site to go to; anything else becomes the first page.
 * @param {string | null} wanted
 */
function localTarget(wanted) {
  if (wanted === null || !wanted.startsWith('/')) return '/';
  try {
    const url = new URL(wanted, location.origin);
    return url.origin === location.origin ? url.pathname + url.search + url.hash : '/';
  } catch {
    return '/';
  }
}
