/**
 * Who is there. A name leads to the direct messages with that person.
 * @module
 */
import { children, fill, h } from '../../lib/dom.js';

/** @typedef {import('../../types/chat.d.ts').Person} Person */

/** Most people away that are listed; everybody can be written to by the address `#@name`. */
const AWAY_SHOWN_MAX = 100;

const HOSTED = 'Writes through this server, which keeps their key';

export class PeopleList extends HTMLElement {
  #title = h('h2', { id: 'people-heading' }, 'Online');
  #online = h('ul', { class: 'entries', 'aria-labelledby': 'people-heading' });
  #summary = h('summary');
  #away = h('ul', { class: 'entries' });
  #details = h('details', { class: 'away' }, this.#summary, this.#away);

  connectedCallback() {
    fill(this, h('div', { class: 'section-head' }, this.#title), this.#online, this.#details);
  }

  /**
   * @param {readonly Person[]} people
   * @param {string} me
   */
  show(people, me) {
    const online = people.filter((person) => person.online);
    const away = people.filter((person) => !person.online);
    const plan = {
      key: (/** @type {Person} */ person) => person.name,
      sign: (/** @type {Person} */ person) => String(person.hosted),
      build: (/** @type {Person} */ person) => entry(person, me),
    };
    this.#title.textContent = `Online · ${online.length}`;
    children(this.#online, online, plan);
    children(this.#away, away.slice(0, AWAY_SHOWN_MAX), plan);
    const more = away.length > AWAY_SHOWN_MAX ? `, the first ${AWAY_SHOWN_MAX} shown` : '';
    this.#summary.textContent = `Away · ${away.length}${more}`;
    this.#details.hidden = away.length === 0;
  }
}

/**
 * @param {Person} person
 * @param {string} me
 */
function entry(person, me) {
  const inside = [
    h('span', { class: person.online ? 'dot online' : 'dot' }),
    h('span', { class: 'label' }, person.name),
    person.hosted && h('span', { class: 'tag', title: HOSTED }, 'hosted'),
  ];
  if (person.name === me) return h('li', {}, h('span', { class: 'self' }, ...inside, h('span', { class: 'faint' }, 'you')));
  const title = `Write to ${person.name}`;
  return h('li', {}, h('a', { href: `#@${person.name}`, title }, ...inside));
}

customElements.define('people-list', PeopleList);
