/**
 * The chat page: puts what the chat knows into the components, and what people do in the components into the chat.
 * @module
 */
import * as api from './lib/api.js';
import { Chat } from './lib/chat.js';
import { fill, find, h } from './lib/dom.js';
import { channelLabel, channelOfFragment, fragment, isDirect } from './lib/names.js';
import { ChannelDialog } from './components/channel-dialog/channel-dialog.js';
import { ChannelHeader } from './components/channel-header/channel-header.js';
import { ChannelList } from './components/channel-list/channel-list.js';
import { ConnectionBanner } from './components/connection-banner/connection-banner.js';
import { InviteDialog } from './components/invite-dialog/invite-dialog.js';
import { MessageComposer } from './components/message-composer/message-composer.js';
import { MessageLog } from './components/message-log/message-log.js';
import { PeopleList } from './components/people-list/people-list.js';

/** How long a note about a failure stays. */
const NOTE_MS = 8_000;
/** The channel that people expect to begin in. */
const FIRST_CHANNEL = 'general';
/** First wait, and longest, before the first request is tried again while the server cannot be reached. */
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 10_000;

const banner = find('connection-banner', ConnectionBanner);
const channelList = find('channel-list', ChannelList);
const peopleList = find('people-list', PeopleList);
const header = find('channel-header', ChannelHeader);
const log = find('message-log', MessageLog);
const composer = find('message-composer', MessageComposer);
const channelDialog = find('channel-dialog', ChannelDialog);
const inviteDialog = find('invite-dialog', InviteDialog);
const placeholder = find('#placeholder', HTMLElement);
const note = find('#note', HTMLElement);
const menu = find('#menu', HTMLButtonElement);
const sides = find('#sides', HTMLElement);

begin(FIRST_RETRY_MS);

/**
 * Learns who is here; without a session leads to the login.
 * @param {number} waitMs
 */
async function begin(waitMs) {
  try {
    const chat = new Chat(await api.me(), localStorage);
    connect(chat);
    beHere(chat);
    await chat.start().catch((error) => tell(api.words(error)));
    route(chat);
  } catch (error) {
    const signedOut = error instanceof api.Problem && error.isSignedOut;
    banner.show(signedOut ? 'signed-out' : 'offline', here());
    if (!signedOut) setTimeout(() => begin(Math.min(waitMs * 2, LONGEST_RETRY_MS)), waitMs);
  }
}

/**
 * Counts as online while the page is open.
 * @param {Chat} chat
 */
function beHere(chat) {
  const heart = new Worker('/heartbeat.js', { type: 'module' });
  chat.addEventListener('connection', () => chat.connection === 'signed-out' && heart.terminate());
}

/** @param {Chat} chat */
function connect(chat) {
  fill(find('#me', HTMLElement), chat.me);
  chat.addEventListener('channels', () => drawChannels(chat));
  chat.addEventListener('people', () => peopleList.show(chat.people, chat.me));
  chat.addEventListener('log', () => drawLog(chat));
  chat.addEventListener('connection', () => banner.show(chat.connection, here()));
  chat.addEventListener('trouble', (event) => event instanceof CustomEvent && tell(event.detail));
  window.addEventListener('hashchange', () => route(chat));
  listenToComponents(chat);
  listenToPage(chat);
}

/** @param {Chat} chat */
function listenToComponents(chat) {
  on(composer, 'send', (text) => {
    chat.send(text);
    log.toEnd();
  });
  on(log, 'older', () => chat.older());
  on(log, 'heal', () => chat.healNow());
  on(log, 'retry', (key) => chat.retry(key));
  on(log, 'discard', (key) => chat.discard(key));
  on(log, 'at-end', () => watch(chat));
  on(banner, 'reconnect', () => chat.reconnect());
  on(channelList, 'new-channel', () => channelDialog.ask());
  on(channelDialog, 'new-channel-named', (wanted) => openNamed(chat, wanted.name, wanted.private));
  on(header, 'invite', () => inviteDialog.ask(chat.open ?? '', chat.people.filter((person) => person.name !== chat.me)));
  on(inviteDialog, 'invited', (user) => invite(chat, user));
  on(header, 'leave', () => leave(chat));
}

/** @param {Chat} chat */
function listenToPage(chat) {
  document.addEventListener('visibilitychange', () => watch(chat));
  window.addEventListener('focus', () => {
    watch(chat);
    chat.lookAround();
  });
  window.addEventListener('blur', () => watch(chat));
  window.addEventListener('pageshow', (event) => event.persisted && chat.reconnect());
  window.addEventListener('pagehide', () => chat.flushRead());
  menu.addEventListener('click', () => openSides(sides.dataset['open'] === undefined));
  sides.addEventListener('click', (event) => {
    if (event.target instanceof Element && event.target.closest('a') !== null) openSides(false);
  });
  find('.skip', HTMLAnchorElement).addEventListener('click', (event) => {
    event.preventDefault(); // the part of the address behind # names a channel
    composer.focusField();
  });
  find('#veil', HTMLElement).addEventListener('click', () => openSides(false));
  document.addEventListener('keydown', (event) => key(chat, event));
  find('#log-out', HTMLButtonElement).addEventListener('click', async () => {
    await api.logOut().catch((error) => tell(api.words(error)));
    location.assign('/login');
  });
}

/**
 * Opens the channel that the page's address names; without one, the one of last time.
 * @param {Chat} chat
 */
function route(chat) {
  openSides(false);
  const named = channelOfFragment(decodeURIComponent(location.hash), chat.me);
  const name = named ?? startChannel(chat);
  if (name !== null && named === null) history.replaceState(null, '', fragment(name, chat.me));
  if (name !== null) localStorage.setItem(lastName(chat), name);
  chat.choose(name);
  if (name !== null && matchMedia('(hover: hover)').matches) composer.focusField(); // on a phone it would open the keyboard
}

/** @param {Chat} chat */
function startChannel(chat) {
  const own = chat.channels.filter((entry) => entry.member).map((entry) => entry.name);
  const last = localStorage.getItem(lastName(chat));
  if (last !== null && own.includes(last)) return last;
  return own.includes(FIRST_CHANNEL) ? FIRST_CHANNEL : (own[0] ?? null);
}

/** @param {Chat} chat */
function drawChannels(chat) {
  channelList.show(chat.channels, chat.me);
  header.show(chat.openEntry);
  drawPlaceholder(chat);
  const { unread, open } = chat;
  const where = open === null ? '' : `${fragment(open, chat.me).replace(/^#@/u, '')} – `;
  document.title = `${unread > 0 ? `(${unread}) ` : ''}${where}WeApRous`;
  const elsewhere = chat.channels.some((entry) => entry.unread > 0 && !entry.open);
  menu.classList.toggle('has-unread', elsewhere);
  menu.setAttribute('aria-label', elsewhere ? 'Channels and people, some unread' : 'Channels and people');
}

/** @param {Chat} chat */
function drawLog(chat) {
  const view = chat.log;
  if (view !== null && log.atEnd) chat.trim();
  log.hidden = view === null;
  composer.hidden = view === null;
  log.show(view);
  if (view !== null) composer.show(view.channel, isDirect(view.channel) ? channelLabel(view.channel, chat.me) : `#${view.channel}`);
  drawPlaceholder(chat);
}

/**
 * What stands in place of messages while there are none to show.
 * @param {Chat} chat
 */
function drawPlaceholder(chat) {
  const entry = chat.openEntry;
  placeholder.hidden = entry?.member === true;
  if (placeholder.hidden) return;
  const sign = JSON.stringify([chat.open, entry?.members]);
  if (placeholder.dataset['sign'] === sign) return;
  placeholder.dataset['sign'] = sign;
  if (entry !== null) {
    const comeIn = async () => {
      await chat.join(entry.name);
      requestAnimationFrame(() => composer.focusField()); // once the redraw has let the field be written in
    };
    const join = h('button', { type: 'button', class: 'primary', onclick: () => attempt(comeIn) }, `Join #${entry.label}`);
    fill(placeholder, h('p', {}, `You are not in #${entry.label} yet.`), join);
  } else if (chat.open !== null) {
    const name = chat.open;
    const make = h('button', { type: 'button', class: 'primary', onclick: () => channelDialog.ask(name) }, 'Make it');
    fill(placeholder, h('p', {}, `There is no channel #${name} that you can see.`), make);
  } else {
    const make = h('button', { type: 'button', class: 'primary', onclick: () => channelDialog.ask() }, 'New channel');
    fill(placeholder, h('p', {}, 'Join a channel from the list, write to somebody who is online, or make a channel of your own.'), make);
  }
}

/**
 * Joins the channel of this name if there is one to see, else makes it.
 * @param {Chat} chat
 * @param {string} name
 * @param {boolean} isPrivate
 */
async function openNamed(chat, name, isPrivate) {
  try {
    const known = chat.channels.find((entry) => entry.name === name);
    if (known === undefined) await chat.create(name, isPrivate ? 'private' : 'public');
    else if (!known.member) await chat.join(name);
    channelDialog.close();
    go(chat, name);
  } catch (error) {
    channelDialog.failed(api.words(error));
  }
}

/**
 * @param {Chat} chat
 * @param {string} user
 */
async function invite(chat, user) {
  try {
    if (chat.open !== null) await chat.invite(chat.open, user);
    inviteDialog.close();
    tell(`${user} is invited and can join now.`);
  } catch (error) {
    inviteDialog.failed(api.words(error));
  }
}

/** @param {Chat} chat */
function leave(chat) {
  const { open } = chat;
  if (open === null || !confirm(`Leave #${open}? You will no longer get its messages.`)) return;
  attempt(() => chat.leave(open));
}

/**
 * @param {Chat} chat
 * @param {string} channel
 */
function go(chat, channel) {
  const target = fragment(channel, chat.me);
  if (location.hash === target) route(chat);
  else location.hash = target;
}

/**
 * Alt with an arrow goes to the channel above or below; Escape closes the side or returns to the field.
 * @param {Chat} chat
 * @param {KeyboardEvent} event
 */
function key(chat, event) {
  if (event.key === 'Escape' && sides.dataset['open'] !== undefined) {
    openSides(false);
    menu.focus();
  } else if (event.key === 'Escape' && event.target instanceof Node && log.contains(event.target)) composer.focusField();
  else if (event.altKey && (event.key === 'ArrowUp' || event.key === 'ArrowDown')) {
    event.preventDefault();
    step(chat, event.key === 'ArrowUp' ? -1 : 1);
  }
}

/**
 * @param {Chat} chat
 * @param {1 | -1} by
 */
function step(chat, by) {
  const member = chat.channels.filter((entry) => entry.member);
  const own = [...member.filter((entry) => !isDirect(entry.name)), ...member.filter((entry) => isDirect(entry.name))];
  const at = own.findIndex((entry) => entry.open);
  const next = own[(at + by + own.length) % own.length];
  if (next !== undefined) go(chat, next.name);
}

/** @param {Chat} chat */
function watch(chat) {
  chat.watch(!document.hidden && document.hasFocus() && log.atEnd);
}

/** @param {boolean} open */
function openSides(open) {
  if (open) sides.dataset['open'] = '';
  else delete sides.dataset['open'];
  menu.setAttribute('aria-expanded', String(open));
  find('main', HTMLElement).inert = open;
  if (open) sides.querySelector('a')?.focus();
}

/** @param {() => Promise<void>} act */
async function attempt(act) {
  try {
    await act();
  } catch (error) {
    tell(api.words(error));
  }
}

/**
 * Shows a sentence for a while.
 * @param {string} words
 */
function tell(words) {
  note.textContent = words;
  note.hidden = false;
  clearTimeout(Number(note.dataset['timer']));
  note.dataset['timer'] = String(setTimeout(() => (note.hidden = true), NOTE_MS));
}

/** The page's own address within the site. */
function here() {
  return location.pathname + location.hash;
}

/** @param {Chat} chat */
function lastName(chat) {
  return `weaprous/last/${chat.me}`;
}

/**
 * @param {HTMLElement} element
 * @param {string} name
 * @param {(detail: any) => void} act
 */
function on(element, name, act) {
  element.addEventListener(name, (event) => act(event instanceof CustomEvent ? event.detail : undefined));
}
