/** Small line charts as inline SVG. */
import { KEPT_MS } from './history.js';

const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT] = [240, 48];

/** A chart of the last two minutes; it is made once and drawn again and again. */
export class Chart {
  /** @param {string} [kind] a class for its colours */
  constructor(kind = '') {
    this.node = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', class: kind });
    this.area = shape('path', { class: 'area' });
    this.line = shape('path', { class: 'line' });
    const base = shape('path', { class: 'base', d: `M0 ${HEIGHT}H${WIDTH}` });
    this.node.append(this.area, this.line, base);
  }

  /**
   * @param {{ at: number, value: number }[]} points in order
   * @param {number} now the right edge, in milliseconds
   * @param {string} label what it says, for those who do not see it
   * @returns {number} the highest value shown
   */
  draw(points, now, label) {
    this.node.setAttribute('aria-label', label);
    const most = points.reduce((value, point) => Math.max(value, point.value), 0);
    const x = (/** @type {number} */ at) => round(WIDTH * (1 - (now - at) / KEPT_MS));
    const y = (/** @type {number} */ value) => round(HEIGHT - (most > 0 ? (value / most) * (HEIGHT - 2) : 0));
    const path = points.map((point) => `${x(point.at)} ${y(point.value)}`).join('L');
    const [first, last] = [points[0], points.at(-1)];
    this.line.setAttribute('d', path && `M${path}`);
    this.area.setAttribute('d', first && last ? `M${x(first.at)} ${HEIGHT}L${path}L${x(last.at)} ${HEIGHT}Z` : '');
    return most;
  }
}

/**
 * @param {string} name
 * @param {Record<string, string>} attributes
 */
function shape(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}
