/**
 * The list of channels: those with you in them, direct ones, and public ones to discover. Each is an ordinary link, so
 * that the browser's back button and new tabs work.
 * @module
 */
import { children, emit, fill, h } from '../../lib/dom.js';
import { icon } from '../../lib/icons.js';
import { fragment, isDirect } from '../../lib/names.js';
import { UNREAD_MAX } from '../../lib/chat.js';

/** @typedef {import('../../types/chat.d.ts').ChannelEntry} ChannelEntry */

/** @fires new-channel */
export class ChannelList extends HTMLElement {
  #own = h('ul', { class: 'entries' });
  #direct = h('ul', { class: 'entries' });
  #others = h('ul', { class: 'entries' });
  #ownEmpty = h('p', { class: 'hint' }, 'You are in no channel yet.');
  #directSection = section('direct-heading', 'Direct messages', this.#direct);
  #othersSection = section('others-heading', 'Channels to discover', this.#others);

  connectedCallback() {
    const add = h(
      'button',
      { type: 'button', class: 'quiet square', 'aria-label': 'New channel', title: 'New channel', onclick: () => emit(this, 'new-channel') },
      icon('plus'),
    );
    const heading = h('div', { class: 'section-head' }, h('h2', { id: 'channels-heading' }, 'Channels'), add);
    const own = h('section', { 'aria-labelledby': 'channels-heading' }, heading, this.#own, this.#ownEmpty);
    fill(this, own, this.#directSection, this.#othersSection);
  }

  /**
   * @param {readonly ChannelEntry[]} entries
   * @param {string} me
   */
  show(entries, me) {
    const plan = {
      key: (/** @type {ChannelEntry} */ entry) => entry.name,
      build: (/** @type {ChannelEntry} */ entry) => h('li', {}, h('a', { href: fragment(entry.name, me) })),
      update: (/** @type {Element} */ element, /** @type {ChannelEntry} */ entry) => describe(element, entry),
    };
    const own = entries.filter((entry) => entry.member && !isDirect(entry.name));
    const direct = entries.filter((entry) => entry.member && isDirect(entry.name));
    const others = entries.filter((entry) => !entry.member);
    children(this.#own, own, plan);
    children(this.#direct, direct, plan);
    children(this.#others, others, plan);
    this.#ownEmpty.hidden = own.length > 0;
    this.#directSection.hidden = direct.length === 0;
    this.#othersSection.hidden = others.length === 0;
  }
}

/**
 * @param {string} id
 * @param {string} title
 * @param {Element} list
 */
function section(id, title, list) {
  const head = h('div', { class: 'section-head' }, h('h2', { id }, title));
  return h('section', { 'aria-labelledby': id }, head, list);
}

/**
 * @param {Element} element
 * @param {ChannelEntry} entry
 */
function describe(element, entry) {
  const link = element.firstElementChild;
  if (!(link instanceof HTMLAnchorElement)) return;
  const sign = [entry.unread, entry.members, entry.member, entry.open].join();
  if (link.dataset['sign'] === sign) return;
  link.dataset['sign'] = sign;
  link.classList.toggle('unread', entry.unread > 0);
  if (entry.open) link.setAttribute('aria-current', 'page');
  else link.removeAttribute('aria-current');
  fill(
    link,
    icon(isDirect(entry.name) ? 'person' : entry.visibility === 'private' ? 'lock' : 'hash'),
    h('span', { class: 'label' }, entry.label),
    entry.unread > 0 && badge(entry.unread),
    !entry.member && h('span', { class: 'faint' }, entry.visibility === 'private' ? 'invited' : people(entry.members)),
  );
}

/** @param {number} unread */
function badge(unread) {
  const number = unread >= UNREAD_MAX ? `${UNREAD_MAX - 1}+` : unread;
  return h('span', { class: 'badge' }, number, h('span', { class: 'visually-hidden' }, ' unread'));
}

/** @param {number} members */
function people(members) {
  return members === 1 ? '1 person' : `${members} people`;
}

customElements.define('channel-list', ChannelList);
