/**
 * Turns what others wrote into something safe to show: web addresses become links, characters that hide, reorder or
 * erase text become visible. Never drops a character silently and never builds markup from text.
 * @module
 */
import { h } from './dom.js';

/**
 * @typedef {{ type: 'text', text: string }
 *   | { type: 'link', text: string, href: string }
 *   | { type: 'hidden', text: string, code: string }} Segment
 */

/** Longest address made into a link, in UTF-16 units; what is longer stays plain text. */
const LINK_LENGTH_MAX = 2048;

/**
 * Control characters other than tab and line feed; bidirectional embeddings, overrides and isolates, which can make a
 * line read backwards; invisible fillers and tags. Joiners and direction marks stay: scripts and emoji need them.
 */
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u180e\u200b\u2028\u2029\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/u;

/** The three flags of Unicode that are spelled with tag characters: England, Scotland, Wales. */
const FLAG = /\u{1f3f4}[\u{e0061}-\u{e007a}\u{e0030}-\u{e0039}]{1,6}\u{e007f}/u;

const ADDRESS = /\bhttps?:\/\/[^\s<>"'`\u0000-\u001f\u007f-\u009f]+/iu;

const TOKEN = new RegExp(`(?<flag>${FLAG.source})|(?<hidden>${HIDDEN.source})|(?<address>${ADDRESS.source})`, 'giu');

/**
 * Splits `text` into what is shown as it is, as a link, and as the name of a hidden character.
 * @param {string} text
 * @returns {Segment[]}
 */
export function segments(text) {
  text = text.replaceAll('\r\n', '\n');
  /** @type {Segment[]} */
  const found = [];
  const plain = (/** @type {string} */ part) => {
    const last = found.at(-1);
    if (part === '') return;
    if (last?.type === 'text') last.text += part;
    else found.push({ type: 'text', text: part });
  };
  let rest = 0;
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(text); match !== null; match = TOKEN.exec(text)) {
    plain(text.slice(rest, match.index));
    rest = match.index + match[0].length;
    const { hidden, address } = match.groups ?? {};
    if (hidden !== undefined) found.push({ type: 'hidden', text: hidden, code: codePoint(hidden) });
    else if (address === undefined) plain(match[0]);
    else {
      const link = linkIn(address);
      if (link === null) plain(address);
      else {
        found.push(link);
        rest = match.index + link.text.length;
        TOKEN.lastIndex = rest;
      }
    }
  }
  plain(text.slice(rest));
  return found;
}

/**
 * `text` as nodes for the page.
 * @param {string} text
 * @returns {Node[]}
 */
export function textNodes(text) {
  return segments(text).map((segment) => {
    switch (segment.type) {
      case 'text':
        return document.createTextNode(segment.text);
      case 'hidden':
        return h('span', { class: 'hidden-character', title: 'A character that does not show itself' }, segment.code);
      case 'link':
        return h(
          'a',
          { href: segment.href, rel: 'noopener noreferrer', target: '_blank', title: segment.href },
          segment.text,
        );
    }
  });
}

/**
 * `text` on one line without anything that hides or reorders, for titles and announcements.
 * @param {string} text
 */
export function plainLine(text) {
  return segments(text)
    .map((segment) => (segment.type === 'hidden' ? ' ' : segment.text))
    .join('')
    .replace(/\s+/gu, ' ')
    .trim();
}

/**
 * The link at the start of `address`, without the punctuation of the sentence around it.
 * @param {string} address
 * @returns {Segment & { type: 'link' } | null}
 */
function linkIn(address) {
  const hidden = HIDDEN.exec(address);
  const text = withoutTail(hidden === null ? address : address.slice(0, hidden.index));
  if (text.length > LINK_LENGTH_MAX) return null;
  try {
    const url = new URL(text);
    const named = url.hostname !== '' && url.username === '' && url.password === '';
    const web = url.protocol === 'http:' || url.protocol === 'https:';
    return named && web ? { type: 'link', text, href: url.href } : null;
  } catch {
    return null;
  }
}

/**
 * Cuts sentence marks, and closing brackets that were opened before the address.
 * @param {string} address
 */
function withoutTail(address) {
  let end = address.length;
  for (; end > 0; end -= 1) {
    const last = address[end - 1] ?? '';
    if ('.,;:!?…*_~'.includes(last)) continue;
    const open = { ')': '(', ']': '[', '}': '{' }[last];
    const part = address.slice(0, end);
    if (open === undefined || count(part, last) <= count(part, open)) break;
  }
  return address.slice(0, end);
}

/**
 * @param {string} text
 * @param {string} character
 */
function count(text, character) {
  return text.split(character).length - 1;
}

/** @param {string} character */
function codePoint(character) {
  const number = character.codePointAt(0) ?? 0;
  return `U+${number.toString(16).toUpperCase().padStart(4, '0')}`;
}
