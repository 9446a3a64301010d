/**
 * Asks for the name of a channel to make or to join.
 * @module
 */
import { emit, fill, h } from '../../lib/dom.js';
import { channelName } from '../../lib/names.js';

/** @fires new-channel-named its detail: name, private */
export class ChannelDialog extends HTMLElement {
  #name = h('input', { id: 'channel-name', name: 'channel', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', maxlength: '65', required: true, 'aria-describedby': 'channel-name-help channel-name-error' });
  #private = h('input', { id: 'channel-private', type: 'checkbox', name: 'private' });
  #error = h('p', { id: 'channel-name-error', class: 'field-error', role: 'alert' });
  #submit = h('button', { type: 'submit', class: 'primary' }, 'Open channel');
  #dialog = h('dialog', { 'aria-labelledby': 'channel-dialog-title' });

  connectedCallback() {
    const close = h('button', { type: 'button', onclick: () => this.#dialog.close() }, 'Cancel');
    const form = h(
      'form',
      { onsubmit: (/** @type {Event} */ event) => this.#submitted(event), novalidate: true },
      h('h2', { id: 'channel-dialog-title' }, 'New channel'),
      h('label', { for: 'channel-name' }, 'Name'),
      this.#name,
      h('p', { id: 'channel-name-help', class: 'hint' }, 'Letters, digits, dots, hyphens and underscores. If a public channel of this name exists, you join it.'),
      this.#error,
      h('div', { class: 'check' }, this.#private, h('label', { for: 'channel-private' }, 'Private: people join only when a member invites them')),
      h('div', { class: 'dialog-actions' }, close, this.#submit),
    );
    fill(this.#dialog, form);
    fill(this, this.#dialog);
  }

  /** @param {string} [name] what the field begins with */
  ask(name = '') {
    this.#name.value = name;
    this.#private.checked = false;
    this.failed('');
    this.#dialog.showModal();
    this.#name.focus();
  }

  close() {
    this.#dialog.close();
  }

  /** @param {string} reason in words; empty for none */
  failed(reason) {
    this.#error.textContent = reason;
    this.#name.setAttribute('aria-invalid', String(reason !== ''));
    this.#submit.disabled = false;
  }

  /** @param {Event} event */
  #submitted(event) {
    event.preventDefault();
    const name = channelName(this.#name.value);
    if (name === null) {
      this.failed('A name has 1 to 64 letters, digits, dots, hyphens or underscores and begins with a letter or digit.');
      this.#name.focus();
      return;
    }
    this.#submit.disabled = true;
    emit(this, 'new-channel-named', { name, private: this.#private.checked });
  }
}

customElements.define('channel-dialog', ChannelDialog);
