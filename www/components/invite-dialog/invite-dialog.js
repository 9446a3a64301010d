/**
 * Asks whom to invite to the open channel.
 * @module
 */
import { emit, fill, h } from '../../lib/dom.js';
import { userName } from '../../lib/names.js';

/** @typedef {import('../../types/chat.d.ts').Person} Person */

/** @fires invited its detail: the user's name */
export class InviteDialog extends HTMLElement {
  #title = h('h2', { id: 'invite-dialog-title' });
  #name = h('input', { id: 'invite-name', name: 'user', list: 'invite-people', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', maxlength: '33', required: true, 'aria-describedby': 'invite-error' });
  #people = h('datalist', { id: 'invite-people' });
  #error = h('p', { id: 'invite-error', class: 'field-error', role: 'alert' });
  #submit = h('button', { type: 'submit', class: 'primary' }, 'Invite');
  #dialog = h('dialog', { 'aria-labelledby': 'invite-dialog-title' });

  connectedCallback() {
    const close = h('button', { type: 'button', onclick: () => this.#dialog.close() }, 'Cancel');
    const form = h(
      'form',
      { onsubmit: (/** @type {Event} */ event) => this.#submitted(event), novalidate: true },
      this.#title,
      h('label', { for: 'invite-name' }, 'User name'),
      this.#name,
      this.#people,
      this.#error,
      h('div', { class: 'dialog-actions' }, close, this.#submit),
    );
    fill(this.#dialog, form);
    fill(this, this.#dialog);
  }

  /**
   * @param {string} channel
   * @param {readonly Person[]} people suggested
   */
  ask(channel, people) {
    this.#title.textContent = `Invite to ${channel}`;
    fill(this.#people, ...people.map((person) => h('option', { value: person.name })));
    this.#name.value = '';
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
    const user = userName(this.#name.value);
    if (user === null) {
      this.failed('Type the user name of somebody on this server.');
      this.#name.focus();
      return;
    }
    this.#submit.disabled = true;
    emit(this, 'invited', user);
  }
}

customElements.define('invite-dialog', InviteDialog);
