/**
 * Everything the chat page knows: channels, people, messages, what is unsent, and whether news arrive. Asks the server,
 * never touches the page: whoever draws listens to its events.
 *
 * Events: `channels`, `people`, `log` (of the open channel), `connection`, `trouble` (its detail says what, in words).
 * @module
 */
import * as api from './api.js';
import { Live } from './live.js';
import { channelLabel, isDirect } from './names.js';
import { Outbox } from './outbox.js';
import { rows } from './rows.js';
import { isText, Timeline } from './timeline.js';

/** @typedef {import('../types/api.d.ts').ChannelView} ChannelView */
/** @typedef {import('../types/api.d.ts').MessageView} MessageView */
/** @typedef {import('../types/api.d.ts').PresenceEvent} PresenceEvent */
/** @typedef {import('../types/api.d.ts').Visibility} Visibility */
/** @typedef {import('../types/chat.d.ts').ChannelEntry} ChannelEntry */
/** @typedef {import('../types/chat.d.ts').Connection} Connection */
/** @typedef {import('../types/chat.d.ts').LogView} LogView */
/** @typedef {import('../types/chat.d.ts').Person} Person */

/** Messages fetched at a time. */
const PAGE = 50;
/** Most messages fetched at once to fill a gap. */
const GAP_PAGE = 100;
/** A gap at the end larger than this is skipped: the newest page is loaded, the rest comes by scrolling up. */
const GAP_FETCHED_MAX = 300;
/** Most messages kept of a channel while its end is shown. */
const KEPT_MAX = 600;
/** Unread messages are counted up to here; more show as `99+`. */
export const UNREAD_MAX = 100;
/** A missing message is fetched after this, since news of one moment often arrive out of order. */
const GAP_PATIENCE_MS = 120;
/** A gap that could not be fetched is tried again after this. */
const GAP_RETRY_MS = 4_000;
/** Changes within this time cause one refresh of the channel list. */
const REFRESH_MS = 150;
/** Messages that arrive within this time are shown together. */
const FRAME_MS = 16;
/** Returning to the page refreshes the channel list if it is older than this. */
const LOOK_AROUND_MS = 5_000;
/** The read mark goes to the server after this, so that a burst causes one request. */
const READ_MS = 400;

/**
 * What is known of one channel.
 * @typedef {object} Channel
 * @property {ChannelView} view
 * @property {Timeline} timeline
 * @property {boolean} loaded whether its newest page was fetched
 * @property {boolean} loading
 * @property {boolean} failed whether the last try to fetch something missing failed
 * @property {boolean} healing whether what is missing is being fetched
 * @property {boolean} counting whether unread messages are being counted
 * @property {number} dividerAfter
 * @property {number} unread
 * @property {number} countedTo up to which `seq` unread messages were counted
 * @property {number} readTimer
 * @property {number} healTimer
 */

export class Chat extends EventTarget {
  #me;
  #outbox;
  #live;
  /** @type {Map<string, Channel>} */
  #channels = new Map();
  /** User → device → how it is there. @type {Map<string, Map<string, { online: boolean, hosted: boolean }>>} */
  #people = new Map();
  /** @type {string | null} */
  #open = null;
  /** Whether the person has the end of the open channel before their eyes. */
  #watched = false;
  /** @type {Connection} */
  #connection = 'connecting';
  #refreshTimer = 0;
  #refreshedMs = 0;
  #drawTimer = 0;

  /**
   * @param {import('../types/api.d.ts').Me} me
   * @param {Storage} storage
   */
  constructor(me, storage) {
    super();
    this.#me = me.user;
    this.#outbox = new Outbox(me.user, {
      storage,
      send: api.send,
      stored: (unsent, stored) => this.#stored(unsent, stored),
      changed: (channel) => this.#changed(channel),
      signedOut: () => this.#live.stop(),
    });
    this.#live = new Live(
      {
        message: (message) => this.#arrived(message),
        presence: (presence) => this.#present(presence),
        channel: () => this.#refreshSoon(),
        read: (channel, seq) => this.#readElsewhere(channel, seq),
        connection: (connection) => this.#connected(connection),
        catchUp: () => this.#catchUp(),
      },
      me.position,
    );
    window.addEventListener('storage', (event) => event.key?.startsWith('weaprous/outbox/') && this.#outbox.reload());
  }

  /** Fetches the first view of everything, then listens for news. */
  async start() {
    this.#live.start();
    await this.#catchUp();
  }

  get me() {
    return this.#me;
  }

  get connection() {
    return this.#connection;
  }

  /** The open channel's name. */
  get open() {
    return this.#open;
  }

  /** The open channel as the list shows it; `null` when none is open or it is not known. */
  get openEntry() {
    return this.channels.find((entry) => entry.open) ?? null;
  }

  /** Channels by name, those with people in them first. @returns {ChannelEntry[]} */
  get channels() {
    return [...this.#channels.values()]
      .map(({ view, unread }) => ({
        name: view.name,
        label: channelLabel(view.name, this.#me),
        visibility: view.visibility,
        member: view.member,
        members: view.members,
        unread: view.member ? unread : 0,
        open: view.name === this.#open,
      }))
      .sort((a, b) => (a.label < b.label ? -1 : 1));
  }

  /** Everybody known, those online first. @returns {Person[]} */
  get people() {
    return [...this.#people]
      .map(([name, devices]) => {
        const online = [...devices.values()].filter((device) => device.online);
        return { name, online: online.length > 0, hosted: online.length > 0 && online.every((device) => device.hosted) };
      })
      .sort((a, b) => Number(b.online) - Number(a.online) || (a.name < b.name ? -1 : 1));
  }

  /** Messages of other people not read yet, over all channels. */
  get unread() {
    return this.channels.reduce((sum, entry) => sum + entry.unread, 0);
  }

  /** What the message list shows of the open channel. @returns {LogView | null} */
  get log() {
    const channel = this.#openChannel();
    if (channel === null || !channel.view.member) return null;
    const label = channelLabel(channel.view.name, this.#me);
    return {
      channel: channel.view.name,
      rows: channel.loaded
        ? rows({
            timeline: channel.timeline,
            unsent: this.#outbox.of(channel.view.name),
            me: this.#me,
            label,
            direct: isDirect(channel.view.name),
            dividerAfter: channel.dividerAfter,
            gapsFailed: channel.failed,
            now_ms: Date.now(),
          })
        : [],
      older: channel.loaded && channel.timeline.hasOlder,
      loading: channel.loading,
      me: this.#me,
    };
  }

  /**
   * Shows a channel; one that the list lacks is taken for new if it is direct.
   * @param {string | null} name
   */
  async choose(name) {
    this.#open = name;
    if (name !== null && isDirect(name) && !this.#channels.has(name)) this.#channels.set(name, unwritten(name));
    const channel = this.#openChannel();
    if (channel !== null) channel.dividerAfter = channel.unread > 0 ? channel.view.read_seq : 0;
    this.#emit('channels');
    this.#emit('log');
    if (channel !== null && channel.view.member) await this.#load(channel);
  }

  /**
   * Takes a message to be sent to the open channel.
   * @param {string} text
   */
  send(text) {
    const channel = this.#openChannel();
    if (channel === null) return;
    channel.dividerAfter = 0;
    this.#outbox.add(channel.view.name, text);
  }

  /** @param {string} key */
  retry(key) {
    this.#outbox.retry(key);
  }

  /** @param {string} key */
  discard(key) {
    this.#outbox.discard(key);
  }

  /** Fetches the page before the oldest message of the open channel. */
  async older() {
    const channel = this.#openChannel();
    if (channel === null || channel.loading || !channel.loaded || !channel.timeline.hasOlder) return;
    await this.#fetch(channel, { before: channel.timeline.first }, PAGE);
  }

  /** Tries again to fetch what the open channel lacks. */
  healNow() {
    const channel = this.#openChannel();
    if (channel !== null) this.#heal(channel);
  }

  /**
   * Makes a channel and opens it.
   * @param {string} name
   * @param {Visibility} visibility
   */
  async create(name, visibility) {
    await api.create(name, visibility);
    await this.#refresh();
  }

  /** @param {string} name */
  async join(name) {
    await api.join(name);
    await this.#refresh();
    const channel = this.#channels.get(name);
    if (channel !== undefined && name === this.#open) await this.#load(channel);
  }

  /** @param {string} name */
  async leave(name) {
    await api.leave(name);
    this.#channels.delete(name);
    await this.#refresh();
  }

  /**
   * @param {string} name
   * @param {string} user
   */
  async invite(name, user) {
    await api.invite(name, user);
  }

  /**
   * Says whether the person has the end of the open channel before their eyes; what is there is then read.
   * @param {boolean} watched
   */
  watch(watched) {
    this.#watched = watched;
    const channel = this.#openChannel();
    if (!watched || channel === null || !channel.loaded) return;
    const last = channel.timeline.messages.at(-1)?.seq ?? 0;
    if (last <= channel.view.read_seq) return;
    channel.view.read_seq = last;
    this.#recount(channel);
    clearTimeout(channel.readTimer);
    channel.readTimer = setTimeout(() => this.#sendRead(channel), READ_MS);
    this.#emit('channels');
  }

  /** Sends read marks that wait, because the page is about to go. */
  flushRead() {
    for (const channel of this.#channels.values()) if (channel.readTimer !== 0) this.#sendRead(channel);
  }

  /** Looks for what the stream does not tell, such as invitations; at most once in a while. */
  lookAround() {
    if (Date.now() - this.#refreshedMs > LOOK_AROUND_MS) this.#refreshSoon();
  }

  /** Lets go of the oldest messages of the open channel when there are very many. */
  trim() {
    this.#openChannel()?.timeline.trim(KEPT_MAX);
  }

  /** Tries to reach the server now. */
  reconnect() {
    this.#live.retryNow();
    this.#outbox.flush();
  }

  #openChannel() {
    return this.#open === null ? null : (this.#channels.get(this.#open) ?? null);
  }

  /** Brings everything up to date after news may have been missed. */
  async #catchUp() {
    const [, people] = await Promise.all([this.#refresh(), api.people()]);
    this.#people.clear();
    for (const peer of people) this.#device(peer.username, peer.device, peer.online, peer.hosted);
    this.#emit('people');
    this.#outbox.flush();
  }

  /** Fetches the list of channels, then what is new in them. */
  async #refresh() {
    const views = await api.channels();
    this.#refreshedMs = Date.now();
    const names = new Set(views.map((view) => view.name));
    for (const [name, channel] of this.#channels) {
      if (!names.has(name) && !(isDirect(name) && channel.timeline.last === 0)) this.#channels.delete(name);
    }
    for (const view of views) this.#learn(view);
    this.#emit('channels');
    const member = [...this.#channels.values()].filter((channel) => channel.view.member);
    await Promise.all(member.map((channel) => this.#bringUpToDate(channel)));
    this.#emit('log');
  }

  #refreshSoon() {
    if (this.#refreshTimer !== 0) return;
    this.#refreshTimer = setTimeout(() => {
      this.#refreshTimer = 0;
      this.#refresh().catch((error) => this.#trouble(error));
    }, REFRESH_MS);
  }

  /** @param {ChannelView} view */
  #learn(view) {
    const known = this.#channels.get(view.name);
    if (known === undefined) {
      this.#channels.set(view.name, channelOf(view));
      return;
    }
    const before = known.view.read_seq;
    const read = Math.max(view.read_seq, before);
    const last = Math.max(view.last_seq, known.view.last_seq);
    known.view = { ...view, read_seq: read, last_seq: last };
    if (known.loaded) this.#recount(known);
    else if (read > before) Object.assign(known, { countedTo: read, unread: 0 });
  }

  /** @param {Channel} channel */
  async #bringUpToDate(channel) {
    if (channel.loaded) {
      channel.timeline.reach(channel.view.last_seq);
      await this.#heal(channel);
    } else if (channel.view.name === this.#open) await this.#load(channel);
    else await this.#count(channel);
  }

  /**
   * Fetches the newest page of a channel once.
   * @param {Channel} channel
   */
  async #load(channel) {
    if (channel.loaded || channel.loading) return;
    const fetched = await this.#fetch(channel, { before: channel.view.last_seq + 1 }, PAGE);
    if (!fetched) return;
    channel.loaded = true;
    channel.timeline.reach(channel.view.last_seq);
    if (channel.dividerAfter === 0 && channel.unread > 0) channel.dividerAfter = channel.view.read_seq;
    this.#recount(channel);
    this.#emit('channels');
    this.#changed(channel.view.name);
    await this.#heal(channel);
  }

  /**
   * Fetches a page into the timeline. A failure is told, not thrown.
   * @param {Channel} channel
   * @param {{ before: number } | { after: number }} place
   * @param {number} limit
   */
  async #fetch(channel, place, limit) {
    channel.loading = true;
    this.#changed(channel.view.name);
    try {
      const page = await api.messages(channel.view.name, place, limit);
      channel.timeline.insert(page.messages);
      channel.view.last_seq = Math.max(channel.view.last_seq, page.last);
      channel.failed = false;
      return true;
    } catch (error) {
      channel.failed = true;
      this.#trouble(error);
      return false;
    } finally {
      channel.loading = false;
      this.#changed(channel.view.name);
    }
  }

  /**
   * Fetches what is missing between the messages that are here and the newest.
   * @param {Channel} channel
   */
  async #heal(channel) {
    if (channel.healing || !channel.loaded) return;
    channel.healing = true;
    try {
      for (let gap = channel.timeline.gaps()[0]; gap !== undefined; gap = channel.timeline.gaps()[0]) {
        const missing = gap.to - gap.from + 1;
        if (missing > GAP_FETCHED_MAX && gap.to === channel.timeline.last) {
          channel.timeline.clear();
          channel.loaded = false;
          break;
        }
        const page = await api.messages(channel.view.name, { after: gap.from - 1 }, Math.min(missing, GAP_PAGE));
        if (this.#take(channel, page.messages) === 0) throw new api.Problem('The server does not have them.', 0);
        channel.failed = false;
        this.#changed(channel.view.name);
      }
    } catch {
      channel.failed = true;
      this.#healLater(channel, GAP_RETRY_MS);
    } finally {
      channel.healing = false;
    }
    this.#recount(channel);
    this.#emit('channels');
    this.#changed(channel.view.name);
    if (!channel.loaded && channel.view.name === this.#open) await this.#load(channel);
  }

  /**
   * Counts unread messages of a channel that is not loaded.
   * @param {Channel} channel
   */
  async #count(channel) {
    if (channel.counting || channel.loaded || channel.countedTo >= channel.view.last_seq) return;
    channel.counting = true;
    try {
      const page = await api.messages(channel.view.name, { after: channel.countedTo }, UNREAD_MAX);
      if (channel.loaded) return; // counted from what is here by now
      const texts = page.messages.filter((message) => isText(message) && message.author !== this.#me);
      channel.unread = Math.min(channel.unread + texts.length, UNREAD_MAX);
      const counted = page.messages.at(-1)?.seq ?? channel.view.last_seq;
      channel.countedTo = channel.unread === UNREAD_MAX ? channel.view.last_seq : counted;
    } catch {
      channel.unread = Math.min(channel.view.last_seq - channel.view.read_seq, UNREAD_MAX); // an upper bound until asked again
      return;
    } finally {
      channel.counting = false;
    }
    this.#emit('channels');
    await this.#count(channel);
  }

  /** @param {Channel} channel */
  #recount(channel) {
    if (!channel.loaded) return;
    channel.unread = Math.min(channel.timeline.textsAfter(channel.view.read_seq, this.#me).length, UNREAD_MAX);
    channel.countedTo = channel.timeline.last;
  }

  /** @param {Channel} channel */
  #sendRead(channel) {
    clearTimeout(channel.readTimer);
    channel.readTimer = 0;
    const seq = channel.view.read_seq;
    api.read(channel.view.name, seq).catch(() => {}); // the next one carries a higher mark
  }

  /**
   * Puts messages into a channel's timeline and tells the outbox of our own.
   * @param {Channel} channel
   * @param {MessageView[]} messages
   */
  #take(channel, messages) {
    const fresh = channel.timeline.insert(messages);
    for (const message of fresh) if (message.author === this.#me && isText(message)) this.#outbox.see(message);
    channel.view.last_seq = Math.max(channel.view.last_seq, channel.timeline.last);
    return fresh.length;
  }

  /** @param {MessageView} message */
  #arrived(message) {
    const channel = this.#channels.get(message.channel);
    if (channel === undefined || !channel.view.member) {
      this.#refreshSoon();
      return;
    }
    if (!channel.loaded) {
      channel.view.last_seq = Math.max(channel.view.last_seq, message.seq);
      this.#count(channel);
      return;
    }
    const allRead = channel.unread === 0;
    this.#take(channel, [message]);
    this.#recount(channel);
    if (allRead && channel.unread > 0 && !(this.#watched && message.channel === this.#open)) {
      channel.dividerAfter = channel.view.read_seq;
    }
    this.#showSoon();
    if (channel.timeline.gaps().length > 0) this.#healLater(channel, GAP_PATIENCE_MS);
  }

  /**
   * @param {Channel} channel
   * @param {number} waitMs
   */
  #healLater(channel, waitMs) {
    clearTimeout(channel.healTimer);
    channel.healTimer = setTimeout(() => this.#heal(channel), waitMs);
  }

  /**
   * @param {import('../types/chat.d.ts').Unsent} unsent
   * @param {import('../types/api.d.ts').Stored} stored
   */
  #stored(unsent, stored) {
    const channel = this.#channels.get(unsent.channel);
    if (channel === undefined || !channel.loaded) return;
    /** @type {MessageView} */
    const message = {
      seq: stored.seq,
      id: stored.id,
      channel: unsent.channel,
      author: this.#me,
      device: '',
      sent_at_ms: Date.now(),
      kind: 'text',
      text: unsent.text,
      hosted: true,
      provisional: true,
    };
    channel.timeline.insert([message]);
    channel.view.last_seq = Math.max(channel.view.last_seq, stored.seq);
    if (channel.timeline.gaps().length > 0) this.#healLater(channel, GAP_PATIENCE_MS);
  }

  /** @param {PresenceEvent} presence */
  #present({ user, device, online, hosted }) {
    this.#device(user, device, online, hosted);
    this.#emit('people');
  }

  /**
   * @param {string} user
   * @param {string} device
   * @param {boolean} online
   * @param {boolean | undefined} hosted
   */
  #device(user, device, online, hosted) {
    const devices = this.#people.get(user) ?? new Map();
    devices.set(device, { online, hosted: hosted ?? devices.get(device)?.hosted ?? false });
    this.#people.set(user, devices);
  }

  /** @param {Connection} connection */
  #connected(connection) {
    this.#connection = connection;
    if (connection === 'signed-out') this.#outbox.stop();
    if (connection !== 'connecting' && connection !== 'offline') this.#outbox.flush();
    this.#emit('connection');
  }

  /**
   * @param {string} name
   * @param {number} seq
   */
  #readElsewhere(name, seq) {
    const channel = this.#channels.get(name);
    if (channel === undefined || seq <= channel.view.read_seq) return;
    this.#learn({ ...channel.view, read_seq: seq });
    this.#emit('channels');
    this.#count(channel);
  }

  /** @param {string} channel */
  #changed(channel) {
    if (channel === this.#open) this.#emit('log');
  }

  /** @param {unknown} error */
  #trouble(error) {
    if (error instanceof api.Problem && error.isSignedOut) this.#live.stop();
    else this.dispatchEvent(new CustomEvent('trouble', { detail: api.words(error) }));
  }

  /** Tells of arrived messages, many at a time when many arrive. */
  #showSoon() {
    if (this.#drawTimer !== 0) return;
    this.#drawTimer = setTimeout(() => {
      this.#drawTimer = 0;
      this.#emit('channels');
      this.#emit('log');
    }, FRAME_MS);
  }

  /** @param {'channels' | 'people' | 'log' | 'connection'} what */
  #emit(what) {
    this.dispatchEvent(new Event(what));
  }
}

/**
 * @param {ChannelView} view
 * @returns {Channel}
 */
function channelOf(view) {
  return {
    view,
    timeline: new Timeline(),
    loaded: false,
    loading: false,
    failed: false,
    healing: false,
    counting: false,
    dividerAfter: 0,
    unread: 0,
    countedTo: view.read_seq,
    readTimer: 0,
    healTimer: 0,
  };
}

/**
 * A direct channel in which nobody wrote yet: it begins with its first message.
 * @param {string} name
 */
function unwritten(name) {
  const channel = channelOf({ name, visibility: 'direct', member: true, members: 2, last_seq: 0, read_seq: 0 });
  channel.loaded = true;
  return channel;
}
