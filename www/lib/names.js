/**
 * Names of users and channels, by the server's rules.
 * @module
 */

const USER = /^[a-z0-9][a-z0-9._-]{0,31}$/u;
const CHANNEL = /^[a-z0-9][a-z0-9._-]{0,63}$/u;

/**
 * What was typed, as the name of a channel; `null` when it is none. Lower case, a leading `#` is left out.
 * @param {string} typed
 */
export function channelName(typed) {
  const name = typed.trim().replace(/^#/u, '').toLowerCase();
  return CHANNEL.test(name) ? name : null;
}

/**
 * What was typed, as the name of a user; `null` when it is none. Lower case, a leading `@` is left out.
 * @param {string} typed
 */
export function userName(typed) {
  const name = typed.trim().replace(/^@/u, '').toLowerCase();
  return USER.test(name) ? name : null;
}

/**
 * The direct channel of two people: `@alice+bob`, in alphabetical order.
 * @param {string} one
 * @param {string} other
 */
export function directChannel(one, other) {
  return `@${[one, other].sort().join('+')}`;
}

/** @param {string} channel */
export function isDirect(channel) {
  return channel.startsWith('@');
}

/**
 * What `me` calls a channel: its name, or the other person's.
 * @param {string} channel
 * @param {string} me
 */
export function channelLabel(channel, me) {
  if (!isDirect(channel)) return channel;
  return channel.slice(1).split('+').find((user) => user !== me) ?? me;
}

/**
 * The part of the page's address that stands for a channel: `#general` or `#@bob`.
 * @param {string} channel
 * @param {string} me
 */
export function fragment(channel, me) {
  return `#${isDirect(channel) ? '@' : ''}${channelLabel(channel, me)}`;
}

/**
 * The channel that a part of the page's address stands for; `null` when it stands for none.
 * @param {string} part
 * @param {string} me
 */
export function channelOfFragment(part, me) {
  const named = part.replace(/^#/u, '');
  if (!isDirect(named)) return channelName(named);
  const user = userName(named);
  return user === null || user === me ? null : directChannel(me, user);
}
