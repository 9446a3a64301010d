/**
 * The messages of the open channel. Stays at the end while one is there, keeps its place while one reads further up, asks
 * for older messages as one nears the top.
 * @module
 */
import { children, emit, fill, h } from '../../lib/dom.js';
import { icon } from '../../lib/icons.js';
import { buildRow, signRow } from './row.js';

/** @typedef {import('../../types/chat.d.ts').LogView} LogView */
/** @typedef {import('../../types/chat.d.ts').Row} Row */

/** This near to the end, in CSS pixels, counts as being there. */
const END_PX = 48;
/** This near to the top, older messages are asked for. */
const TOP_PX = 400;

/**
 * @fires older
 * @fires heal
 * @fires retry
 * @fires discard
 * @fires at-end its detail says whether the end is before the reader's eyes
 */
export class MessageLog extends HTMLElement {
  #older = h('p', { class: 'older', 'aria-live': 'off' });
  #rows = h('ol');
  #log = h('div', { role: 'log', 'aria-labelledby': 'channel-title', 'aria-live': 'polite', 'aria-relevant': 'additions' }, this.#rows);
  #unsent = h('ol', { 'aria-label': 'Not stored yet' });
  #scroller = h('div', { class: 'scroller', tabindex: '0', role: 'group', 'aria-label': 'Messages' }, this.#older, this.#log, this.#unsent);
  #jump = h('button', { type: 'button', class: 'jump', hidden: true, onclick: () => this.toEnd() });
  /** @type {LogView | null} */
  #view = null;
  #atEnd = true;
  /** The newest `seq` that was at the end of the list while the reader was there. */
  #seenEnd = 0;

  connectedCallback() {
    fill(this, this.#scroller, this.#jump);
    this.#scroller.addEventListener('scroll', () => this.#measure(), { passive: true });
    const resized = new ResizeObserver(() => this.#atEnd && this.toEnd());
    resized.observe(this.#scroller);
  }

  get atEnd() {
    return this.#atEnd;
  }

  /** @param {LogView | null} view */
  show(view) {
    const before = this.#view;
    this.#view = view;
    const sent = view !== null && before !== null && unsentKeys(view).some((key) => !unsentKeys(before).includes(key));
    if (view === null || before?.channel !== view.channel || before.rows.length === 0) this.#showAnew(view);
    else if (this.#atEnd || sent) {
      this.#draw(view);
      this.toEnd();
    } else this.#keepingPlace(() => this.#draw(view));
    this.#measure();
  }

  /** Shows the newest message. */
  toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#measure();
  }

  /** @param {LogView | null} view */
  #showAnew(view) {
    this.#silently(() => {
      children(this.#rows, [], plan);
      children(this.#unsent, [], plan);
      if (view !== null) this.#draw(view);
    });
    this.#seenEnd = newest(view);
    const divider = this.#rows.querySelector('.unread-divider');
    if (divider === null) this.toEnd();
    else divider.scrollIntoView({ block: 'start' });
  }

  /** @param {LogView} view */
  #draw(view) {
    const unsent = view.rows.filter((row) => row.type === 'unsent');
    const stored = view.rows.filter((row) => row.type !== 'unsent');
    const grew = firstKey(stored) !== this.#rows.firstElementChild?.getAttribute('data-key');
    const draw = () => children(this.#rows, stored, plan);
    if (grew) this.#silently(draw);
    else draw();
    children(this.#unsent, unsent, plan);
    this.#unsent.hidden = unsent.length === 0;
    this.#older.textContent = view.loading ? 'Loading…' : '';
    this.#older.hidden = !view.loading;
  }

  /**
   * Changes the list without a word to screen readers: history is there to be read, not announced.
   * @param {() => void} change
   */
  #silently(change) {
    this.#log.setAttribute('aria-live', 'off');
    change();
    setTimeout(() => this.#log.setAttribute('aria-live', 'polite'), 300);
  }

  /**
   * Keeps the first visible row where it is on the screen while rows above it come and go.
   * @param {() => void} change
   */
  #keepingPlace(change) {
    const top = this.#scroller.getBoundingClientRect().top;
    const anchor = [...this.#rows.children].find((row) => row.getBoundingClientRect().bottom > top);
    const offset = anchor?.getBoundingClientRect().top ?? 0;
    change();
    if (anchor?.isConnected) this.#scroller.scrollTop += anchor.getBoundingClientRect().top - offset;
  }

  /** Finds out where the reader is and tells whoever wants to know. */
  #measure() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < END_PX;
    if (this.#atEnd) this.#seenEnd = newest(this.#view);
    this.#showJump();
    emit(this, 'at-end', this.#atEnd);
    if (scrollTop < TOP_PX && this.#view?.older && !this.#view.loading) emit(this, 'older');
  }

  #showJump() {
    const news = this.#view?.rows.filter(
      (row) => row.type === 'message' && !row.mine && row.message.seq > this.#seenEnd,
    ).length;
    this.#jump.hidden = this.#atEnd;
    if (this.#atEnd) return;
    const words = !news ? 'To the newest' : news === 1 ? '1 new message' : `${news} new messages`;
    if (this.#jump.textContent !== words) fill(this.#jump, words, icon('down'));
  }
}

/** @type {import('../../lib/dom.js').Plan<Row>} */
const plan = {
  key: (row) => row.key,
  sign: signRow,
  build: (row) => {
    const element = buildRow(row);
    element.setAttribute('data-key', row.key);
    return element;
  },
};

/** @param {LogView} view */
function unsentKeys(view) {
  return view.rows.filter((row) => row.type === 'unsent').map((row) => row.key);
}

/** @param {readonly Row[]} stored */
function firstKey(stored) {
  return stored[0]?.key ?? null;
}

/** @param {LogView | null} view */
function newest(view) {
  const last = view?.rows.findLast((row) => row.type === 'message' || row.type === 'event');
  return last !== undefined && 'message' in last ? last.message.seq : 0;
}

customElements.define('message-log', MessageLog);
