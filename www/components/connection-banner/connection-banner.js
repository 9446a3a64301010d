/**
 * Says when news cannot arrive as they should, and what happens meanwhile. Silent while all is well.
 * @module
 */
import { emit, fill, h } from '../../lib/dom.js';
import { icon } from '../../lib/icons.js';

/** @typedef {import('../../types/chat.d.ts').Connection} Connection */

/** A break shorter than this is not worth a word. */
const PATIENCE_MS = 1_500;

/** @fires reconnect */
export class ConnectionBanner extends HTMLElement {
  #timer = 0;

  connectedCallback() {
    this.setAttribute('role', 'status');
  }

  /**
   * @param {Connection} connection
   * @param {string} next the page's own address, to return to after a login
   */
  show(connection, next) {
    clearTimeout(this.#timer);
    const patience = connection === 'connecting' ? PATIENCE_MS : 0;
    if (patience === 0) this.#draw(connection, next);
    else this.#timer = setTimeout(() => this.#draw(connection, next), patience);
  }

  /**
   * @param {Connection} connection
   * @param {string} next
   */
  #draw(connection, next) {
    this.dataset['connection'] = connection;
    switch (connection) {
      case 'live':
        fill(this);
        break;
      case 'connecting':
        this.#say('Connecting…', null);
        break;
      case 'polling':
        this.#say('Live updates do not come through. Checking for news every few seconds.', this.#retry());
        break;
      case 'many-tabs':
        this.#say('The chat is open in many tabs. This one checks for news every few seconds.', null);
        break;
      case 'offline':
        this.#say('The server cannot be reached. What you write is kept here and sent when it is back.', this.#retry());
        break;
      case 'signed-out':
        this.#say('Your session has ended. What you wrote is kept here.', h('a', { class: 'button', href: `/login?next=${encodeURIComponent(next)}` }, 'Log in again'));
        break;
    }
  }

  /**
   * @param {string} text
   * @param {Element | null} action
   */
  #say(text, action) {
    fill(this, icon('warning'), h('span', {}, text), action);
  }

  #retry() {
    return h('button', { type: 'button', onclick: () => emit(this, 'reconnect') }, 'Try now');
  }
}

customElements.define('connection-banner', ConnectionBanner);
