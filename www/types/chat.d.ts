/** What the page itself keeps and passes between its parts. */
import type { MessageView, Visibility } from './api.d.ts';

/** A message of ours that the server has not confirmed. */
export interface Unsent {
  /** 128 random bits in hexadecimal; the server stores one message per user and key. */
  key: string;
  channel: string;
  text: string;
  written_at_ms: number;
  /** `refused`: the server said no and will say so again, so a person decides. */
  state: 'queued' | 'sending' | 'refused';
  /** Why it was refused, in words. */
  reason?: string;
}

/** A stretch of a channel's log that is not here yet, both ends included. */
export interface Gap {
  from: number;
  to: number;
}

export interface Person {
  name: string;
  online: boolean;
  /** Online only through keys that the server keeps. */
  hosted: boolean;
}

export interface ChannelEntry {
  name: string;
  /** What people call it: `general`, or the other person's name. */
  label: string;
  visibility: Visibility;
  member: boolean;
  members: number;
  unread: number;
  open: boolean;
}

/** How the page hears of news. */
export type Connection = 'connecting' | 'live' | 'polling' | 'many-tabs' | 'offline' | 'signed-out';

/** One line of the message list, ready to be drawn. */
export type Row =
  | { type: 'start'; key: string; label: string; direct: boolean }
  | { type: 'day'; key: string; label: string }
  | { type: 'unread'; key: string }
  | { type: 'gap'; key: string; gap: Gap; failed: boolean }
  | { type: 'event'; key: string; message: MessageView; words: string }
  | { type: 'message'; key: string; message: MessageView; grouped: boolean; mine: boolean }
  | { type: 'unsent'; key: string; unsent: Unsent; grouped: boolean };

/** What the message list draws. */
export interface LogView {
  channel: string;
  rows: Row[];
  /** Older messages can be fetched. */
  older: boolean;
  loading: boolean;
  me: string;
}
