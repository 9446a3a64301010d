/**
 * One channel's messages as far as they are here: ordered by the log's own numbers, each once, with what is missing
 * named. Pure: fetches nothing, draws nothing.
 * @module
 */

/** @typedef {import('../types/api.d.ts').MessageView} MessageView */
/** @typedef {import('../types/chat.d.ts').Gap} Gap */

export class Timeline {
  /** Ascending by `seq`, each `seq` once. @type {MessageView[]} */
  #messages = [];

  /** The newest number that the server is known to have given. */
  #last = 0;

  get messages() {
    return /** @type {readonly MessageView[]} */ (this.#messages);
  }

  get isEmpty() {
    return this.#messages.length === 0;
  }

  /** The smallest `seq` that is here, or the one after the newest when nothing is. */
  get first() {
    return this.#messages[0]?.seq ?? this.#last + 1;
  }

  /** The newest `seq` that exists, here or not. */
  get last() {
    return this.#last;
  }

  /** Whether the log has messages before the first one here. */
  get hasOlder() {
    return this.first > 1;
  }

  /**
   * Takes what arrived, in any order and any number of times.
   * @param {readonly MessageView[]} arrived
   * @returns {MessageView[]} those that were not here before, ascending
   */
  insert(arrived) {
    const fresh = new Map();
    for (const message of arrived) {
      const at = this.#place(message.seq);
      const here = this.#messages[at];
      if (here?.seq !== message.seq) fresh.set(message.seq, message);
      else if (here.provisional) this.#messages[at] = message;
    }
    const news = [...fresh.values()].sort((a, b) => a.seq - b.seq);
    const newest = news.at(-1);
    if (newest === undefined) return news;
    const behind = (this.#messages.at(-1)?.seq ?? 0) < (news[0]?.seq ?? 0);
    this.#messages.push(...news);
    if (!behind) this.#messages.sort((a, b) => a.seq - b.seq);
    this.#last = Math.max(this.#last, newest.seq);
    return news;
  }

  /**
   * Learns that the log reaches up to `last`, so that what is missing at its end becomes a gap.
   * @param {number} last
   */
  reach(last) {
    this.#last = Math.max(this.#last, last);
  }

  /** Stretches missing between the first message here and the newest that exists. @returns {Gap[]} */
  gaps() {
    /** @type {Gap[]} */
    const gaps = [];
    let expected = this.first;
    for (const { seq } of this.#messages) {
      if (seq > expected) gaps.push({ from: expected, to: seq - 1 });
      expected = seq + 1;
    }
    if (expected <= this.#last) gaps.push({ from: expected, to: this.#last });
    return gaps;
  }

  /**
   * Messages of other people than `me` after `seq`.
   * @param {number} seq
   * @param {string} me
   */
  textsAfter(seq, me) {
    const unread = this.#messages.slice(this.#place(seq + 1));
    return unread.filter((message) => isText(message) && message.author !== me);
  }

  /**
   * Lets go of the oldest messages so that at most `most` stay.
   * @param {number} most
   */
  trim(most) {
    if (this.#messages.length > most) this.#messages.splice(0, this.#messages.length - most);
  }

  /** Lets go of everything; `last` stays known. */
  clear() {
    this.#messages = [];
  }

  /**
   * Index of the first message whose number is at least `seq`.
   * @param {number} seq
   */
  #place(seq) {
    let low = 0;
    let high = this.#messages.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#messages[middle]?.seq ?? 0) < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/**
 * Whether a person wrote it, as opposed to an event of the channel.
 * @param {MessageView} message
 */
export function isText(message) {
  return message.kind === 'text';
}
