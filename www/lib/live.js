/**
 * Hears of news: by the server's event stream while it works, by asking again and again while it does not. Knows nothing
 * of what the news means.
 *
 * ```text
 *   connecting ──ready──▶ live ──lost──▶ connecting ──lost twice──▶ polling ⇄ offline
 *       │                  ▲                                           │
 *       └ no slot ─▶ many-tabs ─────────────ready──────────────────────┘
 * ```
 * @module
 */
import { Backoff } from './backoff.js';
import { Problem } from './api.js';
import { takeSlot } from './slots.js';

/** @typedef {import('../types/api.d.ts').MessageView} MessageView */
/** @typedef {import('../types/api.d.ts').PresenceEvent} PresenceEvent */
/** @typedef {import('../types/chat.d.ts').Connection} Connection */

/**
 * @typedef {object} Listener
 * @property {(message: MessageView) => void} message
 * @property {(presence: PresenceEvent) => void} presence
 * @property {() => void} channel somebody joined, left, or a channel was made
 * @property {(channel: string, seq: number) => void} read this person read up to there, here or elsewhere
 * @property {(connection: Connection) => void} connection
 * @property {() => Promise<void>} catchUp asks for everything that may have been missed
 */

/** First and longest wait before the stream is opened again. */
const STREAM_RETRY_MS = { first: 300, longest: 10_000 };
/** Lost streams in a row before polling begins. */
const STREAM_TRIES_MAX = 2;
/** A stream that says nothing for this long after opening is given up. */
const READY_TIMEOUT_MS = 8_000;
/** Time between two polls. */
const POLL_MS = 2_500;
/** Timers that run this late mean that the machine slept, and that the stream may be dead without saying so. */
const SLEEP_MS = 20_000;

export class Live {
  #listener;
  #since;
  /** @type {EventSource | null} */
  #source = null;
  #backoff = new Backoff(STREAM_RETRY_MS.first, STREAM_RETRY_MS.longest);
  /** @type {Connection} */
  #state = 'connecting';
  #retryTimer = 0;
  #readyTimer = 0;
  #pollTimer = 0;
  #stopped = false;
  /** Whether the first stream became ready: later ones follow a break. */
  #begun = false;

  /**
   * @param {Listener} listener
   * @param {number} since position in the stream up to which everything is known
   */
  constructor(listener, since) {
    this.#listener = listener;
    this.#since = since;
  }

  start() {
    this.#begin();
    let expected = Date.now() + SLEEP_MS / 4;
    setInterval(() => {
      if (Date.now() - expected > SLEEP_MS) this.retryNow();
      expected = Date.now() + SLEEP_MS / 4;
    }, SLEEP_MS / 4);
    window.addEventListener('online', () => this.retryNow());
  }

  /** Opens the stream if the browser has a connection left for it; otherwise asks again and again until it has. */
  async #begin() {
    if (await takeSlot()) this.#open();
    else this.#pollUntilSlot();
  }

  async #pollUntilSlot() {
    if (this.#stopped) return;
    this.#enter('many-tabs');
    await this.#catchUp().catch(() => {}); // the next try says more
    setTimeout(() => this.#begin(), POLL_MS);
  }

  /** Opens the stream again without waiting, for when something says that it may work now. */
  retryNow() {
    if (this.#stopped || this.#state === 'many-tabs') return;
    this.#backoff.reset();
    this.#close();
    this.#open();
  }

  /** Ends everything: the session is over. */
  stop() {
    this.#stopped = true;
    this.#close();
    clearTimeout(this.#pollTimer);
    this.#enter('signed-out');
  }

  #open() {
    const source = new EventSource(`/api/v1/events?since=${this.#since}`);
    this.#source = source;
    this.#readyTimer = setTimeout(() => this.#lost(source), READY_TIMEOUT_MS);
    source.addEventListener('ready', (event) => this.#ready(parse(event).position));
    source.addEventListener('message', (event) => {
      this.#advance(Number(event.lastEventId));
      this.#listener.message(parse(event));
    });
    source.addEventListener('presence', (event) => this.#listener.presence(parse(event)));
    source.addEventListener('channel', () => this.#listener.channel());
    source.addEventListener('read', (event) => {
      const { channel, seq } = parse(event);
      this.#listener.read(channel, seq);
    });
    source.addEventListener('error', () => this.#lost(source));
  }

  #close() {
    clearTimeout(this.#readyTimer);
    clearTimeout(this.#retryTimer);
    this.#source?.close();
    this.#source = null;
  }

  /** @param {unknown} position */
  #ready(position) {
    clearTimeout(this.#readyTimer);
    clearTimeout(this.#pollTimer);
    this.#pollTimer = 0;
    this.#backoff.reset();
    if (typeof position === 'number' && position < this.#since) this.#since = position; // another log than before
    const broken = this.#begun;
    this.#begun = true;
    this.#enter('live');
    if (broken) this.#catchUp().catch(() => {}); // the stream resumes by itself; presence does not
  }

  /** @param {EventSource} source */
  #lost(source) {
    if (this.#stopped || source !== this.#source) return;
    this.#close();
    this.#retryTimer = setTimeout(() => this.#open(), this.#backoff.next());
    if (this.#state === 'live') this.#enter('connecting');
    if (this.#backoff.tries >= STREAM_TRIES_MAX && this.#pollTimer === 0) this.#poll();
  }

  async #poll() {
    clearTimeout(this.#pollTimer);
    this.#pollTimer = setTimeout(() => this.#poll(), POLL_MS);
    try {
      await this.#catchUp();
      if (this.#pollTimer !== 0) this.#enter('polling');
    } catch {
      if (this.#pollTimer !== 0) this.#enter('offline');
    }
  }

  async #catchUp() {
    try {
      await this.#listener.catchUp();
    } catch (error) {
      if (error instanceof Problem && error.isSignedOut) this.stop();
      else throw error;
    }
  }

  /** @param {number} position */
  #advance(position) {
    if (Number.isSafeInteger(position)) this.#since = Math.max(this.#since, position);
  }

  /** @param {Connection} state */
  #enter(state) {
    if (this.#state === state) return;
    if (this.#stopped && state !== 'signed-out') return;
    this.#state = state;
    this.#listener.connection(state);
  }
}

/**
 * @param {MessageEvent} event
 * @returns {any}
 */
function parse(event) {
  return JSON.parse(event.data);
}
