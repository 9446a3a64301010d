/**
 * How long to wait before the next try: doubling from the first wait to the longest, with some chance so that many
 * pages do not return all at once.
 * @module
 */

export class Backoff {
  #tries = 0;

  /**
   * @param {number} firstMs
   * @param {number} longestMs
   */
  constructor(firstMs, longestMs) {
    this.firstMs = firstMs;
    this.longestMs = longestMs;
  }

  /** Failed tries since the last success. */
  get tries() {
    return this.#tries;
  }

  /** Counts a failure and says how long to wait. */
  next() {
    const wait = Math.min(this.firstMs * 2 ** this.#tries, this.longestMs);
    this.#tries += 1;
    return wait * (0.75 + Math.random() / 2);
  }

  reset() {
    this.#tries = 0;
  }
}
