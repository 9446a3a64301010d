/**
 * From counts to rates: what a status said now and ten seconds ago, and how that went for two minutes. Pure: no page,
 * no clock.
 *
 * @typedef {{ counts: number[] }} Took counts by bucket; the last bucket has no upper edge
 * @typedef {{ classes: number[], in_flight: number, took: Took, failures?: number, attempts?: number, opened?: number,
 *   reused?: number, retries?: number, bytes_in?: number, bytes_out?: number, broken_off?: number }} Counts
 * @typedef {{ at: number, counts: Counts }} Sample `at` in milliseconds
 * @typedef {{ rate: number, p50: number | null, p99: number | null, errors: number | null, errorRate: number,
 *   reuse: number | null, retries: number, traffic: number }} Rates
 */

/** How long samples are kept, and how long the numbers in the tables look back. */
export const KEPT_MS = 120_000;
export const WINDOW_MS = 10_000;

/** The place of 5xx among the classes; before it stand 1xx to 4xx. */
const SERVER_ERRORS = 4;

/** What one route or one server did lately. */
export class History {
  /** @type {Sample[]} */
  samples = [];

  /** @type {{ at: number, value: number }[]} requests per second, one for each pair of samples */
  points = [];

  /** @type {{ at: number, value: number }[]} errors per second */
  errorPoints = [];

  /** @type {{ at: number, value: number }[]} the 99th percentile in milliseconds */
  slowPoints = [];

  /**
   * Adds what a status says. Counts that went down mean another process: everything before is forgotten.
   * @param {Sample} sample
   * @param {number[]} edges upper edges of the buckets in milliseconds
   */
  add(sample, edges) {
    const last = this.samples.at(-1);
    if (last && (total(sample.counts.classes) < total(last.counts.classes) || sample.at <= last.at)) {
      this.samples = [];
      this.points = [];
      this.errorPoints = [];
      this.slowPoints = [];
    } else if (last) {
      const now = between(last, sample, edges);
      this.points.push({ at: sample.at, value: now.rate });
      this.errorPoints.push({ at: sample.at, value: now.errorRate });
      this.slowPoints.push({ at: sample.at, value: now.p99 ?? 0 });
    }
    this.samples.push(sample);
    const old = sample.at - KEPT_MS;
    for (const list of [this.points, this.errorPoints, this.slowPoints]) {
      while (list[0] && list[0].at < old) list.shift();
    }
    // One sample older than the window stays, so that the window is whole.
    while (this.samples[1] && this.samples[1].at <= sample.at - WINDOW_MS) this.samples.shift();
  }

  /**
   * What happened in the last ten seconds; none before the second sample.
   * @param {number[]} edges
   * @returns {Rates | null}
   */
  rates(edges) {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    return first && last && first !== last ? between(first, last, edges) : null;
  }
}

/**
 * @param {Sample} before
 * @param {Sample} after
 * @param {number[]} edges
 * @returns {Rates}
 */
export function between(before, after, edges) {
  const seconds = (after.at - before.at) / 1000;
  /** @param {keyof Counts} name */
  const grown = (name) => Number(after.counts[name] ?? 0) - Number(before.counts[name] ?? 0);
  const requests = total(after.counts.classes) - total(before.counts.classes);
  const failed =
    (after.counts.classes[SERVER_ERRORS] ?? 0) -
    (before.counts.classes[SERVER_ERRORS] ?? 0) +
    grown('broken_off') +
    grown('failures');
  const asked = Math.max(requests, grown('attempts'));
  const took = after.counts.took.counts.map((count, index) => count - (before.counts.took.counts[index] ?? 0));
  const connections = grown('opened') + grown('reused');
  return {
    rate: asked / seconds,
    p50: quantile(took, edges, 0.5),
    p99: quantile(took, edges, 0.99),
    errors: asked > 0 ? (100 * failed) / asked : null,
    errorRate: failed / seconds,
    reuse: connections > 0 ? (100 * grown('reused')) / connections : null,
    retries: grown('retries') / seconds,
    traffic: (grown('bytes_in') + grown('bytes_out')) / seconds,
  };
}

/**
 * The duration that a share of all stays below, in milliseconds: within its bucket taken as evenly spread.
 * @param {number[]} counts by bucket
 * @param {number[]} edges upper edges; the last bucket has none
 * @param {number} share
 */
export function quantile(counts, edges, share) {
  const wanted = total(counts) * share;
  if (wanted <= 0) return null;
  let passed = 0;
  for (const [index, count] of counts.entries()) {
    if (passed + count >= wanted && count > 0) {
      const low = index === 0 ? 0 : /** @type {number} */ (edges[index - 1]);
      const high = edges[index] ?? low; // beyond the last edge nothing is known
      return low + ((high - low) * (wanted - passed)) / count;
    }
    passed += count;
  }
  return edges.at(-1) ?? null;
}

/**
 * Adds the counts of several up.
 * @param {Counts[]} all
 * @returns {Counts}
 */
export function sum(all) {
  /** @param {keyof Counts} name */
  const of = (name) => all.reduce((value, counts) => value + Number(counts[name] ?? 0), 0);
  /** @param {(counts: Counts) => number[]} pick */
  const lists = (pick) =>
    all.map(pick).reduce((sums, list) => list.map((value, index) => value + (sums[index] ?? 0)), []);
  return {
    classes: lists((counts) => counts.classes),
    took: { counts: lists((counts) => counts.took.counts) },
    in_flight: of('in_flight'),
    retries: of('retries'),
    bytes_in: of('bytes_in'),
    bytes_out: of('bytes_out'),
    broken_off: of('broken_off'),
  };
}

/** @param {number[]} list */
function total(list) {
  return list.reduce((value, more) => value + more, 0);
}
