/**
 * A command for the terminal with a button that copies it.
 * @module
 */
import { fill, h } from '../../lib/dom.js';
import { icon } from '../../lib/icons.js';

/** How long the button says that it copied. */
const THANKS_MS = 2_000;

export class CopyCommand extends HTMLElement {
  #code = h('code', { tabindex: '0', role: 'textbox', 'aria-readonly': 'true', 'aria-label': 'Terminal command' });
  #button = h('button', { type: 'button', onclick: () => this.#copy() });
  #status = h('span', { class: 'visually-hidden', role: 'status' });

  connectedCallback() {
    this.#offer();
    fill(this, this.#code, this.#button, this.#status);
  }

  /** @param {string} command */
  show(command) {
    // each option with its value stays on one line
    fill(this.#code, ...command.split(/(?= --)/u).map((part) => h('span', {}, part)));
  }

  #offer() {
    fill(this.#button, icon('copy'), 'Copy');
    this.#status.textContent = '';
  }

  async #copy() {
    getSelection()?.selectAllChildren(this.#code);
    try {
      await navigator.clipboard.writeText(this.#code.textContent ?? '');
    } catch {
      fill(this.#button, 'Press Ctrl+C'); // without TLS, pages may not write to the clipboard; the command is selected
      this.#status.textContent = 'The command is selected; press Ctrl+C to copy it';
      return;
    }
    fill(this.#button, icon('check'), 'Copied');
    this.#status.textContent = 'Copied';
    setTimeout(() => this.#offer(), THANKS_MS);
  }
}

customElements.define('copy-command', CopyCommand);
