/**
 * The heading of the open channel: what it is, and what can be done with it.
 * @module
 */
import { emit, fill, h } from '../../lib/dom.js';
import { icon } from '../../lib/icons.js';
import { isDirect } from '../../lib/names.js';

/** @typedef {import('../../types/chat.d.ts').ChannelEntry} ChannelEntry */

/**
 * @fires invite
 * @fires leave
 */
export class ChannelHeader extends HTMLElement {
  #title = h('h1', { id: 'channel-title', tabindex: '-1' });
  #about = h('p', { class: 'about' });
  #actions = h('div', { class: 'actions' });
  #sign = '';

  connectedCallback() {
    fill(this, h('div', { class: 'titles' }, this.#title, this.#about), this.#actions);
  }

  /** @param {ChannelEntry | null} entry */
  show(entry) {
    const sign = JSON.stringify(entry && [entry.name, entry.visibility, entry.member, entry.members]);
    if (sign === this.#sign) return;
    this.#sign = sign;
    if (entry === null) {
      fill(this.#title, 'WeApRous');
      fill(this.#about);
      fill(this.#actions);
      return;
    }
    const direct = isDirect(entry.name);
    fill(this.#title, icon(direct ? 'person' : entry.visibility === 'private' ? 'lock' : 'hash'), entry.label);
    fill(this.#about, direct ? 'Direct messages: only the two of you, and this server, can read them' : about(entry));
    const actions = direct || !entry.member ? [] : [this.#action('person-plus', 'Invite', 'invite'), this.#action('leave', 'Leave', 'leave')];
    fill(this.#actions, ...actions);
  }

  /**
   * @param {import('../../lib/icons.js').IconName} symbol
   * @param {string} label
   * @param {'invite' | 'leave'} name
   */
  #action(symbol, label, name) {
    return h('button', { type: 'button', class: 'quiet', onclick: () => emit(this, name) }, icon(symbol), h('span', {}, label));
  }
}

/** @param {ChannelEntry} entry */
function about(entry) {
  const people = entry.members === 1 ? '1 member' : `${entry.members} members`;
  return entry.visibility === 'private' ? `Private, by invitation · ${people}` : `Public, anyone may join · ${people}`;
}

customElements.define('channel-header', ChannelHeader);
