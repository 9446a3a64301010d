/**
 * Says again and again that this person is here. A worker of its own, since browsers slow the timers of hidden pages down
 * until the server would take them for gone.
 * @module
 */

/** Time between two signs until the server says how long one lasts. */
const BEAT_MS = 5_000;
/** Signs within one lease: one may get lost. */
const BEATS_PER_LEASE = 3;

beat(BEAT_MS);

/** @param {number} afterMs what to wait if there is no answer */
async function beat(afterMs) {
  let waitMs = afterMs;
  try {
    const init = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"addresses":[]}' };
    const { lease_ms } = await (await fetch('/api/v1/presence', init)).json();
    if (Number.isFinite(lease_ms)) waitMs = Math.max(1_000, lease_ms / BEATS_PER_LEASE);
  } catch {
    // the server is away; it is asked again
  }
  setTimeout(() => beat(waitMs), waitMs);
}
