/**
 * What the message list shows, line by line, from what is known: days, the mark before unread messages, gaps, groups of
 * one author, what is not sent yet. Pure.
 * @module
 */
import { dayLabel, dayNumber } from './dates.js';
import { isText } from './timeline.js';

/** @typedef {import('../types/api.d.ts').MessageView} MessageView */
/** @typedef {import('../types/chat.d.ts').Row} Row */
/** @typedef {import('../types/chat.d.ts').Unsent} Unsent */
/** @typedef {import('./timeline.js').Timeline} Timeline */

/** Messages of one author within this time share one heading. */
const GROUP_MS = 5 * 60 * 1000;

/**
 * @typedef {object} Scene
 * @property {Timeline} timeline
 * @property {readonly Unsent[]} unsent
 * @property {string} me
 * @property {string} label
 * @property {boolean} direct
 * @property {number} dividerAfter the `seq` after which the mark for new messages stands; 0 for none
 * @property {boolean} gapsFailed whether the last try to fetch what is missing failed
 * @property {number} now_ms
 */

/**
 * @param {Scene} scene
 * @returns {Row[]}
 */
export function rows(scene) {
  /** @type {Row[]} */
  const all = [];
  const { timeline, me } = scene;
  if (!timeline.hasOlder) all.push({ type: 'start', key: 'start', label: scene.label, direct: scene.direct });
  const gaps = timeline.gaps();
  /** @type {MessageView | undefined} */
  let previous;
  let divided = scene.dividerAfter === 0 || timeline.first > scene.dividerAfter + 1;
  for (const message of timeline.messages) {
    const gap = gaps[0];
    if (gap !== undefined && gap.to < message.seq) {
      gaps.shift();
      all.push({ type: 'gap', key: `gap-${gap.from}`, gap, failed: scene.gapsFailed });
      previous = undefined;
    }
    if (previous === undefined || dayNumber(previous.sent_at_ms) !== dayNumber(message.sent_at_ms)) {
      const label = dayLabel(message.sent_at_ms, scene.now_ms);
      all.push({ type: 'day', key: `day-${message.seq}`, label });
      previous = undefined;
    }
    if (!divided && message.seq > scene.dividerAfter && isText(message) && message.author !== me) {
      divided = true;
      all.push({ type: 'unread', key: 'unread' });
      previous = undefined;
    }
    all.push(row(message, previous, me));
    previous = message;
  }
  for (const gap of gaps) all.push({ type: 'gap', key: `gap-${gap.from}`, gap, failed: scene.gapsFailed });
  for (const [index, unsent] of scene.unsent.entries()) {
    const grouped = index > 0 || (previous !== undefined && isText(previous) && previous.author === me);
    all.push({ type: 'unsent', key: unsent.key, unsent, grouped });
  }
  return all;
}

/**
 * @param {MessageView} message
 * @param {MessageView | undefined} previous
 * @param {string} me
 * @returns {Row}
 */
function row(message, previous, me) {
  const key = message.id;
  if (!isText(message)) return { type: 'event', key, message, words: eventWords(message) };
  const grouped =
    previous !== undefined &&
    isText(previous) &&
    previous.author === message.author &&
    previous.hosted === message.hosted &&
    Math.abs(message.sent_at_ms - previous.sent_at_ms) < GROUP_MS;
  return { type: 'message', key, message, grouped, mine: message.author === me };
}

/**
 * What happened, told after the author's name.
 * @param {MessageView} message
 */
export function eventWords(message) {
  const user = message.body?.user ?? 'somebody';
  switch (message.kind) {
    case 'channel.create':
      return message.body?.visibility === 'private' ? 'made this private channel' : 'made this channel';
    case 'member.join':
      return 'joined';
    case 'member.leave':
      return 'left';
    case 'member.invite':
      return `invited ${user}`;
    case 'member.remove':
      return `removed ${user}`;
    default:
      return `sent something that this page does not know (${message.kind})`;
  }
}
