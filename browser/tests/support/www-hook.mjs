/** Every script below `www/` is a module. */

const WWW = new URL('../../../www/', import.meta.url).href;

/**
 * @param {string} url
 * @param {{ format?: string }} context
 * @param {(url: string, context: object) => unknown} next
 */
export function load(url, context, next) {
  return next(url, url.startsWith(WWW) ? { ...context, format: 'module' } : context);
}
