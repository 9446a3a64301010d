/**
 * The server's HTTP API as functions. Every failure is a {@link Problem} that can be shown in words.
 * @module
 */

/** @typedef {import('../types/api.d.ts').ChannelView} ChannelView */
/** @typedef {import('../types/api.d.ts').Me} Me */
/** @typedef {import('../types/api.d.ts').Page} Page */
/** @typedef {import('../types/api.d.ts').PeerView} PeerView */
/** @typedef {import('../types/api.d.ts').Stored} Stored */
/** @typedef {import('../types/api.d.ts').Visibility} Visibility */

/** A request without an answer counts as failed after this; the server's own limits are shorter. */
const ANSWER_TIMEOUT_MS = 15_000;

/** Statuses that say nothing about the request itself: the same one may succeed a moment later. */
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504]);

/** Why a request failed. `message` is for people. */
export class Problem extends Error {
  /**
   * @param {string} message
   * @param {number} status 0 when there was no answer at all
   * @param {number} [retryAfterMs] how long the server asks to wait
   */
  constructor(message, status, retryAfterMs = 0) {
    super(message);
    this.name = 'Problem';
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether trying again later makes sense. */
  get isPassing() {
    return this.status === 0 || PASSING.has(this.status);
  }

  /** Whether the server no longer knows who is asking. */
  get isSignedOut() {
    return this.status === 401;
  }
}

/**
 * What went wrong, in words.
 * @param {unknown} error
 */
export function words(error) {
  if (error instanceof Problem) return error.message;
  return error instanceof Error ? `Something in this page failed: ${error.message}` : 'Something in this page failed.';
}

/** @returns {Promise<Me>} */
export async function me() {
  return json(await request('GET', '/api/v1/me'));
}

/** @returns {Promise<ChannelView[]>} */
export async function channels() {
  return list(await json(await request('GET', '/api/v1/channels')), 'channels');
}

/** @returns {Promise<PeerView[]>} */
export async function people() {
  return list(await json(await request('GET', '/get-list')), 'peers');
}

/**
 * A page of a channel: the `limit` messages right after `after`, or right before `before`.
 * @param {string} channel
 * @param {{ after: number } | { before: number }} place
 * @param {number} limit
 * @returns {Promise<Page>}
 */
export async function messages(channel, place, limit) {
  const query = new URLSearchParams({ channel, limit: String(limit) });
  if ('after' in place) query.set('after', String(place.after));
  else query.set('before', String(place.before));
  return json(await request('GET', `/get-messages?${query}`));
}

/**
 * Asks the server to store a text. Sending the same `key` again stores nothing new and answers the same.
 * @param {string} channel
 * @param {string} text
 * @param {string} key
 * @returns {Promise<Stored>}
 */
export async function send(channel, text, key) {
  return json(await request('POST', '/send-message', { channel, text, key }));
}

/**
 * @param {string} channel
 * @param {Visibility} visibility
 */
export async function create(channel, visibility) {
  await request('POST', '/api/v1/channels', { channel, visibility });
}

/** @param {string} channel */
export async function join(channel) {
  await request('POST', `${path(channel)}/join`, {});
}

/** @param {string} channel */
export async function leave(channel) {
  await request('POST', `${path(channel)}/leave`, {});
}

/**
 * @param {string} channel
 * @param {string} user
 */
export async function invite(channel, user) {
  await request('POST', `${path(channel)}/invite`, { user });
}

/**
 * Keeps on the server up to where this person has read. Also sent while the page is being closed.
 * @param {string} channel
 * @param {number} seq
 */
export async function read(channel, seq) {
  await request('PUT', `${path(channel)}/read`, { seq }, { keepalive: true });
}

export async function logOut() {
  await request('POST', '/logout', {});
}

/**
 * Logs in or signs up; the answer's cookies are the session.
 * @param {'/login' | '/signup'} where
 * @param {string} username
 * @param {string} password
 */
export async function enter(where, username, password) {
  await request('POST', where, { username, password });
}

/** @param {string} channel */
function path(channel) {
  return `/api/v1/channels/${encodeURIComponent(channel)}`;
}

/**
 * @param {string} method
 * @param {string} target
 * @param {object} [body]
 * @param {RequestInit} [more]
 * @returns {Promise<Response>} a response of success
 */
async function request(method, target, body, more = {}) {
  /** @type {RequestInit} */
  const init = {
    method,
    headers: { Accept: 'application/json, application/problem+json' },
    signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    cache: 'no-store',
    redirect: 'error',
    ...more,
  };
  if (body !== undefined) {
    init.headers = { ...init.headers, 'Content-Type': 'application/json' };
    init.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(target, init);
  } catch {
    throw new Problem('The server cannot be reached.', 0);
  }
  if (!response.ok) throw await problem(response);
  return response;
}

/**
 * @param {Response} response
 * @returns {Promise<any>}
 */
async function json(response) {
  try {
    return await response.json();
  } catch {
    throw new Problem('The server answered with something this page cannot read.', 0);
  }
}

/**
 * A list that comes bare or inside an object.
 * @param {any} answer
 * @param {string} name
 * @returns {any[]}
 */
function list(answer, name) {
  const found = Array.isArray(answer) ? answer : answer?.[name];
  if (!Array.isArray(found)) throw new Problem('The server answered with something this page cannot read.', 0);
  return found;
}

/**
 * The reason in a problem document (RFC 9457), or the status in words when there is none.
 * @param {Response} response
 */
async function problem(response) {
  const retryAfterMs = Number(response.headers.get('Retry-After') ?? 0) * 1000 || 0;
  const told = await response.json().catch(() => null);
  const reason = [told?.detail, told?.title].find((part) => typeof part === 'string' && part !== '');
  return new Problem(reason === undefined ? statusWords(response.status) : sentence(reason), response.status, retryAfterMs);
}

/** @param {number} status */
function statusWords(status) {
  switch (status) {
    case 401:
      return 'You are not logged in.';
    case 403:
      return 'You may not do that.';
    case 404:
      return 'That does not exist.';
    case 413:
      return 'That is too long.';
    case 429:
      return 'Too many tries. Wait a little.';
    case 502:
    case 503:
    case 504:
      return 'The server is not ready. Try again in a moment.';
    default:
      return `The server answered ${status}.`;
  }
}

/**
 * Server errors are fragments in lower case; people read sentences.
 * @param {string} reason
 */
function sentence(reason) {
  const text = reason.charAt(0).toUpperCase() + reason.slice(1);
  return /[.!?]$/u.test(text) ? text : `${text}.`;
}
