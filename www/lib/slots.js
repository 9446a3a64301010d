/**
 * Browsers keep at most six connections to one server over HTTP/1.1, for all tabs together. A stream occupies one for as
 * long as its tab is open, so only some tabs may have one: the rest stay free for requests.
 * @module
 */

/** Tabs that may hold a stream at a time. */
const SLOTS = 4;

/**
 * Takes one of the places for streams and keeps it until the tab is closed. Where the browser cannot tell tabs apart
 * (pages without TLS), there is always one.
 * @returns {Promise<boolean>} whether there was one
 */
export async function takeSlot() {
  if (!('locks' in navigator)) return true;
  for (let slot = 1; slot <= SLOTS; slot += 1) if (await take(`weaprous/stream/${slot}`)) return true;
  return false;
}

/**
 * @param {string} name
 * @returns {Promise<boolean>}
 */
function take(name) {
  return new Promise((resolve) => {
    const held = navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock === null ? undefined : new Promise(() => {}); // never given back while the tab lives
    });
    held.catch(() => resolve(true)); // the browser forbids locks here: then there is nothing to share
  });
}
