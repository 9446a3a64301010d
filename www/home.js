/**
 * The first page after the login: who one is, the way into the chat, the command for the terminal.
 * @module
 */
import * as api from './lib/api.js';
import { fill, find } from './lib/dom.js';
import { CopyCommand } from './components/copy-command/copy-command.js';

show();

async function show() {
  const command = find('copy-command', CopyCommand);
  try {
    const { user } = await api.me();
    fill(find('#me', HTMLElement), user);
    command.show(`weaprous chat --username ${user} --tracker ${tracker()}`);
  } catch (error) {
    fill(find('#me', HTMLElement), 'you');
    fill(find('#trouble', HTMLElement), api.words(error));
    command.show(`weaprous chat --username NAME --tracker ${tracker()}`);
  }
}

/** This server as terminal clients reach it, which want an address and not the name `localhost`. */
function tracker() {
  return location.origin.replace('//localhost', '//127.0.0.1');
}
