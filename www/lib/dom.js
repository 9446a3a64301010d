/**
 * Builds elements. Text reaches the page only as text nodes and attributes, never as markup.
 * @module
 */

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, string | number | boolean | null | undefined | ((event: any) => void)>} Attributes */

/**
 * An element with attributes, listeners (`onclick: …`) and children. `true` sets an empty attribute; `false`, `null`
 * and `undefined` set none.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name.slice('on'.length), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...nodes(children));
  return element;
}

/**
 * Replaces everything inside `element`.
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/**
 * @template Item
 * @typedef {object} Plan how a list of items becomes child elements
 * @property {(item: Item) => string} key
 * @property {(item: Item) => Element} build
 * @property {(element: Element, item: Item) => void} [update] brings a kept element up to date, so that focus stays on it
 * @property {(item: Item) => string} [sign] an element is built anew when this differs from last time
 */

/** What each list holds: key → element and its sign. @type {WeakMap<Element, Map<string, { element: Element, sign: string }>>} */
const lists = new WeakMap();

/**
 * Makes the children of `parent` those of `items`, in order, keeping every element whose key stays.
 * @template Item
 * @param {Element} parent
 * @param {readonly Item[]} items
 * @param {Plan<Item>} plan
 */
export function children(parent, items, plan) {
  const before = lists.get(parent) ?? new Map();
  const after = new Map();
  for (const item of items) {
    const sign = plan.sign?.(item) ?? '';
    const kept = before.get(plan.key(item));
    const entry = kept?.sign === sign ? kept : { element: plan.build(item), sign };
    if (entry === kept) before.delete(plan.key(item));
    plan.update?.(entry.element, item);
    after.set(plan.key(item), entry);
  }
  for (const { element } of before.values()) element.remove();
  let next = parent.firstChild;
  for (const { element } of after.values()) {
    if (element === next) next = element.nextSibling;
    else parent.insertBefore(element, next);
  }
  lists.set(parent, after);
}

/**
 * The element that a page is known to contain.
 * @template {Element} T
 * @param {string} selector
 * @param {new () => T} type
 * @param {ParentNode} [root]
 * @returns {T}
 */
export function find(selector, type, root = document) {
  const found = root.querySelector(selector);
  if (!(found instanceof type)) throw new Error(`the page lacks ${selector}`);
  return found;
}

/**
 * Announces to the part above that something was asked for.
 * @param {Element} element
 * @param {string} name
 * @param {unknown} [detail]
 */
export function emit(element, name, detail) {
  element.dispatchEvent(new CustomEvent(name, { bubbles: true, detail }));
}

/**
 * @param {Child[]} children
 * @returns {(Node | string)[]}
 */
function nodes(children) {
  return children
    .filter((child) => child !== false && child != null)
    .map((child) => (child instanceof Node ? child : String(child)));
}
