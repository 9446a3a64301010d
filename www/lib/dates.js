/**
 * Days and times in the reader's own language and zone.
 * @module
 */

const time = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const dayWithYear = new Intl.DateTimeFormat(undefined, { dateStyle: 'full' });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });

/** Latest instant that a Date can hold. */
const DATE_MS_MAX = 8_640_000_000_000_000;

/** @param {number} ms */
export function clockTime(ms) {
  return time.format(dateOf(ms));
}

/**
 * As {@link clockTime} without the half of the day, where there is little room.
 * @param {number} ms
 */
export function shortTime(ms) {
  const parts = time.formatToParts(dateOf(ms)).filter((part) => part.type !== 'dayPeriod');
  return parts.map((part) => part.value).join('').trim();
}

/** @param {number} ms */
export function fullTime(ms) {
  return moment.format(dateOf(ms));
}

/** @param {number} ms */
export function isoTime(ms) {
  return dateOf(ms).toISOString();
}

/**
 * One number for each day of the reader's calendar.
 * @param {number} ms
 */
export function dayNumber(ms) {
  const date = dateOf(ms);
  return Math.round(Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 86_400_000);
}

/**
 * `today`, `yesterday`, or the date.
 * @param {number} ms
 * @param {number} now_ms
 */
export function dayLabel(ms, now_ms) {
  const days = dayNumber(ms) - dayNumber(now_ms);
  if (days === 0 || days === -1) return capital(relative.format(days, 'day'));
  const sameYear = dateOf(ms).getFullYear() === dateOf(now_ms).getFullYear();
  return (sameYear ? day : dayWithYear).format(dateOf(ms));
}

/**
 * A date from a number that somebody else chose: out of range becomes the nearest date there is.
 * @param {number} ms
 */
function dateOf(ms) {
  return new Date(Number.isFinite(ms) ? Math.min(Math.max(ms, 0), DATE_MS_MAX) : 0);
}

/** @param {string} words */
function capital(words) {
  return words.charAt(0).toLocaleUpperCase() + words.slice(1);
}
