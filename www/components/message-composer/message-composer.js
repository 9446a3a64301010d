/**
 * Where one writes. Enter sends, Shift+Enter begins a new line; what is typed stays with its channel until it is sent.
 * @module
 */
import { emit, fill, h } from '../../lib/dom.js';
import { icon } from '../../lib/icons.js';

/** Longest text that the server takes, in bytes of UTF-8. */
export const TEXT_BYTES_MAX = 16 * 1024;
/** From here on the room left is shown. */
const COUNT_FROM_BYTES = TEXT_BYTES_MAX - 1024;

const encoder = new TextEncoder();

/** @fires send */
export class MessageComposer extends HTMLElement {
  #field = h('textarea', {
    id: 'message-field',
    rows: '1',
    dir: 'auto',
    autocomplete: 'off',
    enterkeyhint: 'send',
    'aria-describedby': 'composer-hint',
    oninput: () => this.#typed(),
    onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
  });
  #label = h('label', { for: 'message-field', class: 'visually-hidden' });
  #count = h('span', { class: 'count', role: 'status' });
  #button = h('button', { type: 'submit', class: 'primary square', 'aria-label': 'Send', title: 'Send (Enter)' }, icon('send'));
  #channel = '';

  connectedCallback() {
    const hint = h('p', { id: 'composer-hint', class: 'composer-hint' }, 'Enter sends, Shift+Enter begins a new line');
    const box = h('div', { class: 'composer-box' }, this.#label, this.#field, this.#count, this.#button);
    const submit = (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#send();
    };
    fill(this, h('form', { onsubmit: submit, 'aria-label': 'Write a message' }, box, hint));
    this.#typed();
  }

  /**
   * @param {string} channel
   * @param {string} label what the channel is called to the person
   */
  show(channel, label) {
    if (channel === this.#channel) return;
    this.#channel = channel;
    this.#label.textContent = `Message to ${label}`;
    this.#field.placeholder = `Message to ${label}`;
    this.#field.value = sessionStorage.getItem(this.#draftName) ?? '';
    this.#typed();
  }

  focusField() {
    this.#field.focus();
  }

  get #draftName() {
    return `weaprous/draft/${this.#channel}`;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#send();
  }

  #send() {
    const text = this.#field.value.replace(/\r\n?/gu, '\n').trim();
    if (text === '' || encoder.encode(text).length > TEXT_BYTES_MAX) return;
    emit(this, 'send', text);
    this.#field.value = '';
    this.#typed();
    this.#field.focus();
  }

  #typed() {
    const bytes = encoder.encode(this.#field.value.trim()).length;
    const room = TEXT_BYTES_MAX - bytes;
    this.#count.textContent = bytes < COUNT_FROM_BYTES ? '' : room < 0 ? `${-room} bytes too long` : `${room} bytes left`;
    this.#count.classList.toggle('over', room < 0);
    this.#button.disabled = bytes === 0 || room < 0;
    if (this.#channel !== '') remember(this.#draftName, this.#field.value);
    this.#grow();
  }

  /** Makes the field as tall as its text; the style sheet sets the most. */
  #grow() {
    this.#field.style.height = 'auto';
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }
}

/**
 * @param {string} name
 * @param {string} text
 */
function remember(name, text) {
  try {
    if (text === '') sessionStorage.removeItem(name);
    else sessionStorage.setItem(name, text);
  } catch {
    // the storage is full or forbidden: the draft lives as long as the page
  }
}

customElements.define('message-composer', MessageComposer);
