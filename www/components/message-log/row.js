/**
 * One line of the message list as an element.
 * @module
 */
import { clockTime, fullTime, isoTime, shortTime } from '../../lib/dates.js';
import { emit, h } from '../../lib/dom.js';
import { icon } from '../../lib/icons.js';
import { plainLine, textNodes } from '../../lib/text.js';

/** @typedef {import('../../types/api.d.ts').MessageView} MessageView */
/** @typedef {import('../../types/chat.d.ts').Row} Row */
/** @typedef {import('../../types/chat.d.ts').Unsent} Unsent */

/** Colours that the style sheet has for people. */
const HUES = 12;

const HOSTED = 'Signed by this server with a key that it keeps for its author, not by the author’s own device';

/**
 * What an element depends on besides its key.
 * @param {Row} row
 */
export function signRow(row) {
  switch (row.type) {
    case 'message':
      return `${row.grouped} ${row.message.provisional ?? false}`;
    case 'unsent':
      return `${row.unsent.state} ${row.unsent.reason ?? ''} ${row.grouped}`;
    case 'gap':
      return `${row.gap.to} ${row.failed}`;
    case 'day':
      return row.label;
    default:
      return '';
  }
}

/**
 * @param {Row} row
 * @returns {HTMLLIElement}
 */
export function buildRow(row) {
  switch (row.type) {
    case 'start':
      return start(row.label, row.direct);
    case 'day':
      return h('li', { class: 'day' }, h('span', {}, row.label));
    case 'unread':
      return h('li', { class: 'unread-divider' }, h('span', {}, 'New messages'));
    case 'gap':
      return gap(row.gap, row.failed);
    case 'event':
      return event(row.message, row.words);
    case 'message':
      return message(row.message, row.grouped, row.mine);
    case 'unsent':
      return unsent(row.unsent, row.grouped);
  }
}

/**
 * @param {string} label
 * @param {boolean} direct
 */
function start(label, direct) {
  const words = direct ? `This is where your messages with ${label} begin.` : `This is where #${label} begins.`;
  return h('li', { class: 'start' }, words);
}

/**
 * @param {import('../../types/chat.d.ts').Gap} missing
 * @param {boolean} failed
 */
function gap(missing, failed) {
  const count = missing.to - missing.from + 1;
  const what = count === 1 ? '1 message is missing here' : `${count} messages are missing here`;
  /** @type {HTMLLIElement} */
  const element = h(
    'li',
    { class: 'gap' },
    icon('warning'),
    h('span', {}, failed ? `${what} and could not be fetched yet.` : `${what}; fetching…`),
    failed && h('button', { type: 'button', class: 'quiet', onclick: () => emit(element, 'heal') }, 'Try again'),
  );
  return element;
}

/**
 * @param {MessageView} of
 * @param {string} words
 */
function event(of, words) {
  return h('li', { class: 'event' }, h('span', { class: 'author' }, of.author), ' ', plainLine(words), ' ', time(of.sent_at_ms));
}

/**
 * @param {MessageView} of
 * @param {boolean} grouped
 * @param {boolean} mine
 */
function message(of, grouped, mine) {
  const stored = h('span', { class: 'state stored', title: 'Stored on the server’s disk' }, icon('check'), h('span', { class: 'visually-hidden' }, 'stored'));
  return h(
    'li',
    { class: `message${grouped ? ' grouped' : ''}${mine ? ' mine' : ''}`, 'data-seq': of.seq },
    grouped ? time(of.sent_at_ms, 'gutter', shortTime) : avatar(of.author),
    grouped ? h('span', { class: 'visually-hidden' }, `${of.author}: `) : head(of.author, of.sent_at_ms, of.hosted),
    h('div', { class: 'text', dir: 'auto' }, ...textNodes(of.text ?? '')),
    mine && stored,
  );
}

/**
 * @param {Unsent} of
 * @param {boolean} grouped
 */
function unsent(of, grouped) {
  /** @type {HTMLLIElement} */
  const element = h(
    'li',
    { class: `message mine unsent ${of.state}${grouped ? ' grouped' : ''}` },
    grouped ? h('span', { class: 'gutter' }) : h('span', { class: 'avatar pending', 'aria-hidden': 'true' }, icon('clock')),
    !grouped && h('div', { class: 'head' }, h('span', { class: 'author' }, 'You'), time(of.written_at_ms)),
    h('div', { class: 'text', dir: 'auto' }, ...textNodes(of.text)),
    h('div', { class: 'state' }, ...state()),
  );
  return element;

  function state() {
    if (of.state === 'sending') return [icon('clock'), 'Sending…'];
    if (of.state === 'queued') return [icon('clock'), 'Waiting for the server; kept in this browser'];
    return [
      icon('warning'),
      h('span', {}, `Not sent: ${of.reason ?? 'the server refused it.'}`),
      h('button', { type: 'button', class: 'quiet', onclick: () => emit(element, 'retry', of.key) }, 'Try again'),
      h('button', { type: 'button', class: 'quiet', onclick: () => emit(element, 'discard', of.key) }, 'Discard'),
    ];
  }
}

/**
 * @param {string} author
 * @param {number} sentAtMs
 * @param {boolean} hosted
 */
function head(author, sentAtMs, hosted) {
  const mark = hosted && h('span', { class: 'tag', title: HOSTED }, 'hosted');
  return h('div', { class: 'head' }, h('span', { class: 'author' }, author), time(sentAtMs), mark);
}

/**
 * @param {number} ms
 * @param {string} [className]
 * @param {(ms: number) => string} [words]
 */
function time(ms, className = '', words = clockTime) {
  return h('time', { class: className, datetime: isoTime(ms), title: fullTime(ms) }, words(ms));
}

/** @param {string} author */
function avatar(author) {
  return h('span', { class: 'avatar', 'data-hue': hue(author), 'aria-hidden': 'true' }, author.charAt(0).toUpperCase());
}

/**
 * The same colour for the same name on every page.
 * @param {string} name
 */
function hue(name) {
  let hash = 0x811c9dc5; // FNV-1a
  for (const character of name) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
  return ((hash ^ (hash >>> 15)) >>> 0) % HUES;
}
