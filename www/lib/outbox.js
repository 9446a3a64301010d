/**
 * Messages on their way to the server. Each is kept in the browser's storage from the key press until the server says
 * that it is stored, so that a reload, a crash or a lost connection loses none; each carries a random key, so that
 * sending it twice stores it once.
 *
 * ```text
 *   queued ──▶ sending ──stored──▶ gone from here
 *     ▲           │ no answer: queued again, by itself
 *     │           └ the server says no ──▶ refused ──▶ a person retries or discards it
 *     └──────────────────────────────────────┘
 * ```
 * @module
 */
import { Backoff } from './backoff.js';
import { Problem, words } from './api.js';

/** @typedef {import('../types/api.d.ts').MessageView} MessageView */
/** @typedef {import('../types/api.d.ts').Stored} Stored */
/** @typedef {import('../types/chat.d.ts').Unsent} Unsent */

/** First and longest wait before a message without an answer is sent again. */
const RETRY_MS = { first: 500, longest: 15_000 };

/**
 * @typedef {object} Wires
 * @property {Storage} storage
 * @property {(channel: string, text: string, key: string) => Promise<Stored>} send
 * @property {(unsent: Unsent, stored: Stored) => void} stored
 * @property {(channel: string) => void} changed
 * @property {() => void} signedOut
 */

export class Outbox {
  #wires;
  #prefix;
  /** In the order they were written. @type {Unsent[]} */
  #entries = [];
  /** Channels with a message under way: one at a time keeps their order. @type {Set<string>} */
  #busy = new Set();
  /** Own messages seen in the log while their answer is outstanding: entry key → message id. @type {Map<string, string>} */
  #seen = new Map();
  /** Keys that may have reached the server. @type {Set<string>} */
  #tried = new Set();
  #backoff = new Backoff(RETRY_MS.first, RETRY_MS.longest);
  #timer = 0;
  #signedOut = false;

  /**
   * @param {string} user
   * @param {Wires} wires
   */
  constructor(user, wires) {
    this.#wires = wires;
    this.#prefix = `weaprous/outbox/${user}/`;
    this.#entries = this.#load();
  }

  /**
   * What of `channel` is not stored yet, without what the log already shows.
   * @param {string} channel
   */
  of(channel) {
    return this.#entries.filter((entry) => entry.channel === channel && !this.#seen.has(entry.key));
  }

  /** Channels with something unsent. */
  channels() {
    return [...new Set(this.#entries.map((entry) => entry.channel))];
  }

  /**
   * Takes a message from the person and begins to send it.
   * @param {string} channel
   * @param {string} text
   */
  add(channel, text) {
    /** @type {Unsent} */
    const entry = { key: randomKey(), channel, text, written_at_ms: this.#nextMoment(), state: 'queued' };
    this.#entries.push(entry);
    this.#save(entry);
    this.#wires.changed(channel);
    this.flush();
  }

  /** @param {string} key */
  retry(key) {
    const entry = this.#entries.find((each) => each.key === key);
    if (entry === undefined) return;
    entry.state = 'queued';
    delete entry.reason;
    this.#save(entry);
    this.#wires.changed(entry.channel);
    this.flush();
  }

  /** @param {string} key */
  discard(key) {
    const entry = this.#entries.find((each) => each.key === key);
    if (entry !== undefined) this.#remove(entry);
  }

  /** Sends what waits, now. */
  flush() {
    clearTimeout(this.#timer);
    if (this.#signedOut) return;
    for (const channel of this.channels()) this.#sendNext(channel);
  }

  /** Stops sending; everything stays in the storage for the next login. */
  stop() {
    this.#signedOut = true;
    clearTimeout(this.#timer);
  }

  /**
   * Learns that the log shows a message of ours. If it looks like one that still waits for its answer, that one is no
   * longer shown as unsent; it leaves the storage only when the server answers.
   * @param {MessageView} message
   */
  see(message) {
    if ([...this.#seen.values()].includes(message.id)) return;
    const match = this.#entries.find(
      (entry) =>
        this.#tried.has(entry.key) &&
        entry.channel === message.channel &&
        entry.text === message.text &&
        !this.#seen.has(entry.key) &&
        message.sent_at_ms >= entry.written_at_ms - CLOCK_DIFFERENCE_MS,
    );
    if (match !== undefined) this.#seen.set(match.key, message.id);
  }

  /** Takes over what another tab of this browser wrote or finished. */
  reload() {
    const before = this.channels();
    const stored = this.#load();
    const known = new Set(this.#entries.map((entry) => entry.key));
    const still = new Set(stored.map((entry) => entry.key));
    this.#entries = [
      ...this.#entries.filter((entry) => still.has(entry.key) || entry.state === 'sending'),
      ...stored.filter((entry) => !known.has(entry.key)),
    ];
    for (const channel of new Set([...before, ...this.channels()])) this.#wires.changed(channel);
    this.flush();
  }

  /** Now, and later than every message before, so that the order survives a reload. */
  #nextMoment() {
    return Math.max(Date.now(), (this.#entries.at(-1)?.written_at_ms ?? 0) + 1);
  }

  /** @param {string} channel */
  async #sendNext(channel) {
    if (this.#busy.has(channel)) return;
    const entry = this.#entries.find((each) => each.channel === channel && each.state === 'queued');
    if (entry === undefined) return;
    this.#busy.add(channel);
    entry.state = 'sending';
    this.#tried.add(entry.key);
    this.#wires.changed(channel);
    let more = true;
    try {
      const stored = await this.#wires.send(channel, entry.text, entry.key);
      this.#backoff.reset();
      this.#wires.stored(entry, stored);
      this.#remove(entry);
    } catch (error) {
      more = this.#failed(entry, error);
    } finally {
      this.#busy.delete(channel);
    }
    if (more) this.#sendNext(channel);
  }

  /**
   * @param {Unsent} entry
   * @param {unknown} error
   * @returns {boolean} whether the next one may be tried at once
   */
  #failed(entry, error) {
    const passing = error instanceof Problem && (error.isPassing || error.isSignedOut);
    entry.state = passing ? 'queued' : 'refused';
    if (!passing) {
      entry.reason = words(error);
      this.#seen.delete(entry.key);
      this.#tried.delete(entry.key);
      this.#save(entry);
    } else if (error.isSignedOut) {
      this.stop();
      this.#wires.signedOut();
    } else {
      clearTimeout(this.#timer);
      const wait = Math.max(this.#backoff.next(), error.retryAfterMs);
      this.#timer = setTimeout(() => this.flush(), wait);
    }
    this.#wires.changed(entry.channel);
    return !passing;
  }

  /** @param {Unsent} entry */
  #remove(entry) {
    this.#entries = this.#entries.filter((each) => each !== entry);
    this.#seen.delete(entry.key);
    this.#tried.delete(entry.key);
    this.#wires.storage.removeItem(this.#prefix + entry.key);
    this.#wires.changed(entry.channel);
  }

  /** @param {Unsent} entry */
  #save(entry) {
    try {
      this.#wires.storage.setItem(this.#prefix + entry.key, JSON.stringify(entry));
    } catch {
      // the storage is full or forbidden: the message still goes out, it only would not survive a reload
    }
  }

  /** @returns {Unsent[]} */
  #load() {
    const { storage } = this.#wires;
    /** @type {Unsent[]} */
    const found = [];
    for (let index = 0; index < storage.length; index += 1) {
      const name = storage.key(index);
      if (name?.startsWith(this.#prefix)) found.push(...parse(storage.getItem(name)));
    }
    return found.sort((a, b) => a.written_at_ms - b.written_at_ms || (a.key < b.key ? -1 : 1));
  }
}

/** How far the clocks of browser and server may differ. */
const CLOCK_DIFFERENCE_MS = 10 * 60 * 1000;

/**
 * An entry from the storage, or nothing when it is damaged. What was being sent when the page went away is sent again.
 * @param {string | null} stored
 * @returns {Unsent[]}
 */
function parse(stored) {
  try {
    const entry = JSON.parse(stored ?? '');
    const sound = ['key', 'channel', 'text'].every((name) => typeof entry[name] === 'string');
    if (!sound || !Number.isFinite(entry.written_at_ms)) return [];
    return [{ ...entry, state: entry.state === 'refused' ? 'refused' : 'queued' }];
  } catch {
    return [];
  }
}

function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
