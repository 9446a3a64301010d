/**
 * The icons of the page, each one line drawn in a square of 24. They live in the script so that they show while the
 * server is away.
 * @module
 */

const SVG = 'http://www.w3.org/2000/svg';

const LINES = {
  check: 'm5 12.5 4.5 4.5L19 7.5',
  clock: 'M4 12a8 8 0 1 0 16 0a8 8 0 1 0 -16 0M12 7.5V12l3 2',
  copy: 'M10.5 8.5h7a2 2 0 0 1 2 2v7a2 2 0 0 1 -2 2h-7a2 2 0 0 1 -2 -2v-7a2 2 0 0 1 2 -2zM15.5 5.5v-1h-11v11h1',
  down: 'M12 5v14M6 13l6 6 6-6',
  hash: 'M9.5 4 7.5 20M16.5 4l-2 16M4.5 9h16M3.5 15h16',
  leave: 'M10 4H6a2 2 0 0 0-2 2v12a2 2 0 0 0 2 2h4M15 8l4 4-4 4M19 12H9',
  lock: 'M7 11h10a2 2 0 0 1 2 2v5a2 2 0 0 1 -2 2h-10a2 2 0 0 1 -2 -2v-5a2 2 0 0 1 2 -2zM8 11V8a4 4 0 0 1 8 0v3',
  person: 'M8 8a4 4 0 1 0 8 0a4 4 0 1 0 -8 0M4.5 20c.8-4 3.8-6 7.5-6s6.7 2 7.5 6',
  'person-plus': 'M5.5 8a4 4 0 1 0 8 0a4 4 0 1 0 -8 0M2.5 20c.8-4 3.5-6 7-6s6.2 2 7 6M19 8v6M16 11h6',
  plus: 'M12 5v14M5 12h14',
  send: 'M4 12 20 4l-5.5 16-3-6.5zM11.5 13.5 20 4',
  warning: 'M12 4 3 19.5h18zM12 10v4.5M12 17.2v.1',
};

/** @typedef {keyof typeof LINES} IconName */

/**
 * An icon, hidden from assistive technology: what it means stands in words beside it or in a label.
 * @param {IconName} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', LINES[name]);
  svg.append(path);
  return svg;
}
