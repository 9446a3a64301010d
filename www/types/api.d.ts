/** What the server's HTTP API answers, as far as the page uses it. */

/** One signed envelope as the API shows it. */
export interface MessageView {
  /** Place in the channel's log, from 1 without holes. */
  seq: number;
  id: string;
  channel: string;
  author: string;
  device: string;
  sent_at_ms: number;
  /** `text`, `channel.create`, `member.join`, `member.leave`, `member.invite`, `member.remove`, or one of the future. */
  kind: string;
  /** Only of kind `text`. */
  text?: string;
  body?: { user?: string; visibility?: Visibility };
  /** Signed by a key that the server keeps for its author. */
  hosted: boolean;
  /** Made by this page from the server's confirmation; the log's own copy takes its place. */
  provisional?: boolean;
}

export type Visibility = 'public' | 'private' | 'direct';

export interface ChannelView {
  name: string;
  visibility: Visibility;
  /** Whether the caller is a member. */
  member: boolean;
  /** How many members it has. */
  members: number;
  last_seq: number;
  /** Up to where the caller has read, kept by the server. */
  read_seq: number;
}

export interface PeerView {
  username: string;
  device: string;
  hosted: boolean;
  online: boolean;
}

export interface Me {
  user: string;
  /** Where the stream of events stands. */
  position: number;
}

export interface Page {
  messages: MessageView[];
  /** The channel's newest `seq`. */
  last: number;
}

export interface Stored {
  id: string;
  seq: number;
}

export interface PresenceEvent {
  user: string;
  device: string;
  online: boolean;
  hosted?: boolean;
}
