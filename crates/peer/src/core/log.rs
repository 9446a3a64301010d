//! The tracker's log: envelopes that get their number, live or fetched.

use std::collections::BTreeMap;

use chat::client::Notice;
use chat::{
    AppendError, Arrival, Body, ChannelName, Draft, EnvelopeId, Inserted, MessageView, Path, Sealed, StoreError,
};
use tokio::sync::oneshot;

use super::startup::{ROSTERS, UNRESOLVED};
use super::{Core, unix_ms};
use crate::channel::{Channel, Standing};
use crate::event::Outcome;
use crate::membership;
use crate::wire::EnvelopeText;

/// An envelope with its number.
type Numbered = (Sealed, u64);

impl Core {
    /// Takes envelopes that the tracker has numbered, any channels mixed; `None` when nothing could be stored.
    pub(super) async fn take_log(&mut self, views: Vec<MessageView>) {
        let mut by_channel: BTreeMap<ChannelName, (Vec<Numbered>, Vec<u64>)> = BTreeMap::new();
        for view in views {
            match (view.seq, view.open()) {
                (Some(seq), Ok(sealed)) => {
                    self.note_hosted(&sealed, view.hosted);
                    by_channel.entry(sealed.envelope().channel.clone()).or_default().0.push((sealed, seq));
                }
                (seq, Err(error)) => {
                    tracing::warn!(%error, "the tracker's log holds what is no envelope");
                    by_channel.entry(view.channel).or_default().1.extend(seq);
                }
                (None, Ok(_)) => tracing::warn!("the tracker's log holds an envelope without a number"),
            }
        }
        for (name, (entries, unreadable)) in by_channel {
            if self.channels.get(&name).is_some_and(Channel::is_joined) {
                if let Err(error) = self.take_numbered(&name, entries, unreadable).await {
                    self.trouble(
                        format!("{name}: what the tracker sent could not be stored: {error}"),
                        "check the disk",
                    );
                }
            } else {
                self.take_news_of_others(&name, &entries);
            }
        }
    }

    /// Remembers that the tracker holds a device's key: its roster forgets devices of those who left.
    fn note_hosted(&mut self, sealed: &Sealed, hosted: bool) {
        if let Some(channel) = self.channels.get_mut(&sealed.envelope().channel).filter(|_| hosted) {
            channel.handle_hosted(sealed.envelope().device);
        }
    }

    /// Stores what is new, numbers all of it, passes over what is not to be had, tells both.
    async fn take_numbered(
        &mut self,
        name: &ChannelName,
        entries: Vec<Numbered>,
        unreadable: Vec<u64>,
    ) -> Result<(), StoreError> {
        let mut seqs: Vec<u64> = entries.iter().map(|(_, seq)| *seq).chain(unreadable.iter().copied()).collect();
        seqs.sort_unstable();
        let before = self.history.cursor(name).await?;
        let known_to = contiguous(before, &seqs);
        let (mut entries, unbelieved): (Vec<Numbered>, Vec<Numbered>) =
            entries.into_iter().partition(|(sealed, _)| self.believes(name, sealed));
        entries.sort_by_key(|(_, seq)| *seq);
        let received_at_ms = unix_ms();
        let arrival = |sealed: &Sealed| Arrival { sealed: sealed.clone(), path: Path::Tracker, received_at_ms };
        let results = self.history.insert(entries.iter().map(|(sealed, _)| arrival(sealed)).collect()).await?;
        let outcomes: Vec<(&Numbered, &Result<Inserted, AppendError>)> = entries.iter().zip(&results).collect();
        let held = outcomes.iter().filter(|(_, result)| result.is_ok());
        let numbers: Vec<_> = held.map(|((sealed, seq), _)| (sealed.id(), *seq)).collect();
        let lost = outcomes.iter().filter(|((_, seq), result)| is_lost(result, *seq <= known_to));
        let lost = lost.map(|((_, seq), _)| *seq).chain(unbelieved.iter().map(|(_, seq)| *seq)).chain(unreadable);
        let lost: Vec<u64> = lost.collect();
        self.history.sequence(name, numbers).await?;
        if !lost.is_empty() {
            self.history.pass_over(name, lost).await?;
        }
        for ((sealed, seq), result) in outcomes {
            match result {
                Ok(Inserted::New) => self.handle_from_log(sealed, *seq, received_at_ms),
                Ok(Inserted::Known) => self.note_number(name, sealed, *seq),
                Err(AppendError::Gap { .. }) => {} // what is before it comes with the next fetch, or never
                Err(AppendError::Fork) => tracing::warn!(%name, seq, "the log contradicts a chain held here"),
            }
        }
        self.note_cursor(name, before, seqs.first().copied()).await
    }

    fn handle_from_log(&mut self, sealed: &Sealed, seq: u64, received_at_ms: u64) {
        let (me, now_ms) = (self.device, self.now_ms());
        if let Some(channel) = self.channel_mut(&sealed.envelope().channel) {
            channel.handle_held(sealed, &me);
        }
        self.node.handle_local(sealed, now_ms);
        self.tell_new(sealed, Some(seq), Path::Tracker, received_at_ms);
    }

    /// A held envelope has got its number.
    fn note_number(&mut self, name: &ChannelName, sealed: &Sealed, seq: u64) {
        let id = sealed.id();
        let Some(channel) = self.channels.get_mut(name) else { return };
        if let Some(own) = channel.own_mut(&id) {
            if own.seq.is_none() {
                own.seq = Some(seq);
                self.tell_state(name, id);
            }
            return;
        }
        let state = chat::DeliveryState::of(Some(seq), &[]);
        self.tell(Notice::State { channel: name.clone(), id, key: chat::OrderKey::Logged(seq), state });
    }

    /// Tells of a gap as soon as it is seen, and has it filled.
    async fn note_cursor(&mut self, name: &ChannelName, before: u64, first: Option<u64>) -> Result<(), StoreError> {
        let cursor = self.history.cursor(name).await?;
        let Some(channel) = self.channels.get_mut(name) else { return Ok(()) };
        channel.cursor = cursor;
        let missing = first.map_or(0, |first| first.saturating_sub(before + 1));
        if missing > 0 && cursor == before {
            channel.gap_told = true;
            self.tell(Notice::Gap { channel: name.clone(), missing });
            if let Some(context) = &self.context {
                context.want_sync(name);
            }
        }
        Ok(())
    }

    /// The log of a channel is held up to its end.
    pub(super) fn handle_synced(&mut self, name: &ChannelName) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        if std::mem::take(&mut channel.gap_told) {
            self.tell(Notice::Gap { channel: name.clone(), missing: 0 });
        }
    }

    /// Takes a page that was asked for; answers where the log is held up to.
    pub(super) async fn handle_fetched(
        &mut self,
        name: ChannelName,
        mut messages: Vec<MessageView>,
        reply: oneshot::Sender<u64>,
    ) {
        messages.retain(|view| view.channel == name);
        self.take_log(messages).await;
        let cursor = self.channels.get(&name).map_or(0, |channel| channel.cursor);
        let _ = reply.send(cursor);
    }

    /// Notes the numbers that the tracker gave to what was handed over.
    pub(super) async fn handle_sequenced(
        &mut self,
        name: &ChannelName,
        numbers: Vec<(EnvelopeId, u64)>,
        reply: oneshot::Sender<()>,
    ) {
        match self.history.sequence(name, numbers.clone()).await {
            Ok(()) => {
                for (id, seq) in numbers {
                    self.note_own_number(name, id, seq);
                }
                if let (Ok(cursor), Some(channel)) = (self.history.cursor(name).await, self.channels.get_mut(name)) {
                    channel.cursor = cursor;
                }
            }
            Err(error) => self.trouble(format!("{name}: numbers could not be stored: {error}"), "check the disk"),
        }
        let _ = reply.send(());
    }

    fn note_own_number(&mut self, name: &ChannelName, id: EnvelopeId, seq: u64) {
        let own = self.channels.get_mut(name).and_then(|channel| channel.own_mut(&id));
        if let Some(own) = own.filter(|own| own.seq.is_none()) {
            own.seq = Some(seq);
            self.tell_state(name, id);
        }
    }

    /// Whether an envelope of the log may be who it says: a device that the roster knows speaks for its user alone.
    fn believes(&self, name: &ChannelName, sealed: &Sealed) -> bool {
        let envelope = sealed.envelope();
        let contradicts =
            self.channels.get(name).is_some_and(|channel| channel.contradicts(&envelope.device, &envelope.author));
        if contradicts {
            tracing::warn!(%name, "the log has an envelope that speaks for another user");
        }
        !contradicts
    }

    /// Something happened in a channel that the user is not in: a direct message, or an invitation.
    fn take_news_of_others(&mut self, name: &ChannelName, entries: &[Numbered]) {
        if name.direct_partner(&self.user).is_some() {
            return self.fetch_roster(name.clone());
        }
        let invited = entries
            .iter()
            .any(|(sealed, _)| matches!(&sealed.envelope().body, Body::Invite { user } if *user == self.user));
        if invited {
            self.trouble(format!("you are invited to {name}"), format!("/join {name} to come in"));
        }
    }

    /// Has a channel brought level with the tracker's log after a while, or sooner if that was wanted before.
    pub(super) fn want_sync_after(&mut self, name: &ChannelName, delay_ms: u64) {
        let at_ms = self.now_ms() + delay_ms;
        if let Some(channel) = self.channel_mut(name) {
            let at_ms = channel.sync_at_ms.map_or(at_ms, |earlier| earlier.min(at_ms));
            channel.sync_at_ms = Some(at_ms);
            self.next_sync_ms = self.next_sync_ms.min(at_ms);
        }
    }

    /// Fetches a roster beside everything else.
    pub(super) fn fetch_roster(&mut self, name: ChannelName) {
        if let Some(context) = self.context.clone().filter(|context| context.online.get()) {
            self.tasks.spawn_local(membership::fetch_roster(context, name));
        }
    }

    /// Tells a user interface of a new envelope.
    pub(super) fn tell_new(&mut self, sealed: &Sealed, seq: Option<u64>, path: Path, received_at_ms: u64) {
        let envelope = sealed.envelope();
        let mine = envelope.author == self.user;
        if !mine
            && envelope.body.text().is_some()
            && let Some(channel) = self.channels.get_mut(&envelope.channel)
        {
            channel.unread += 1;
        }
        let entry = chat::Entry { sealed: sealed.clone(), seq, path, received_at_ms, holders: Vec::new() };
        let message = self.message(&entry);
        self.tell(Notice::Message(message));
    }

    /// Seals a change of membership and keeps it aside until its way is known.
    pub(super) async fn seal_change(&mut self, name: ChannelName, body: Body, reply: oneshot::Sender<Sealed>) {
        let (key, device) = (self.key.clone(), self.device);
        let draft = Draft { channel: name.clone(), author: self.user.clone(), sent_at_ms: unix_ms(), body };
        let Some(channel) = self.channel_mut(&name).filter(|channel| channel.unresolved.is_none()) else { return };
        let envelope = draft.follow(device, channel.head.as_ref(), channel.lamport);
        let Ok(sealed) = Sealed::seal(&key, &envelope) else { return };
        let text = EnvelopeText { envelope: sealed.text().to_owned(), signature: sealed.signature() };
        let value = serde_json::to_vec(&text).expect("text always serialises");
        if let Err(error) = self.history.put(&format!("{UNRESOLVED}{name}"), value).await {
            return self.trouble(format!("{name}: the change could not be kept: {error}"), "check the disk");
        }
        if let Some(channel) = self.channel_mut(&name) {
            channel.unresolved = Some(sealed.clone());
        }
        let _ = reply.send(sealed);
    }

    /// The way of a sealed change is known.
    pub(super) async fn resolve_change(
        &mut self,
        name: &ChannelName,
        sealed: &Sealed,
        outcome: Outcome,
        reply: oneshot::Sender<()>,
    ) {
        let mut settled = outcome != Outcome::Unknown;
        if let Outcome::Accepted(seq) = outcome
            && let Err(error) = self.take_own_change(name, sealed, seq).await
        {
            // it stays unresolved, so that the next envelope cannot take its number: it is handed over again, which
            // does no harm, and stored then
            settled = false;
            self.trouble(format!("{name}: a change could not be stored: {error}"), "check the disk");
        }
        if settled {
            if let Some(channel) = self.channels.get_mut(name) {
                channel.unresolved = None;
            }
            // if this fails the change is handed over again at the next start, which does no harm
            let _ = self.history.put(&format!("{UNRESOLVED}{name}"), Vec::new()).await;
        }
        let _ = reply.send(());
    }

    async fn take_own_change(&mut self, name: &ChannelName, sealed: &Sealed, seq: u64) -> Result<(), StoreError> {
        let received_at_ms = unix_ms();
        let arrival = Arrival { sealed: sealed.clone(), path: Path::Own, received_at_ms };
        let results = self.history.insert(vec![arrival]).await?;
        self.history.sequence(name, vec![(sealed.id(), seq)]).await?;
        let (me, now_ms) = (self.device, self.now_ms());
        if let Some(channel) = self.channel_mut(name) {
            channel.handle_held(sealed, &me);
        }
        self.node.handle_local(sealed, now_ms);
        if results.contains(&Ok(Inserted::New)) {
            self.tell_new(sealed, Some(seq), Path::Own, received_at_ms);
        }
        if sealed.envelope().body == Body::Leave {
            self.leave(name).await;
        }
        Ok(())
    }

    pub(super) async fn leave(&mut self, name: &ChannelName) {
        if let Some(channel) = self.channels.get_mut(name) {
            (channel.standing, channel.roster) = (Standing::Outside, None);
        }
        let _ = self.history.put(&format!("{ROSTERS}{name}"), Vec::new()).await;
        self.node.handle_channel_lost(name, self.now_ms());
        self.forget_strangers();
        self.tell_channels();
    }
}

/// How far numbers, ascending, go on from a cursor without a hole.
fn contiguous(cursor: u64, seqs: &[u64]) -> u64 {
    seqs.iter().fold(cursor, |end, seq| if *seq == end.saturating_add(1) { *seq } else { end })
}

/// Whether an envelope of the log can never be held: it contradicts what is, or what goes before it in its chain was
/// not to be had although all of the log before it was seen.
fn is_lost(result: &Result<Inserted, AppendError>, all_before_seen: bool) -> bool {
    match result {
        Ok(_) => false,
        Err(AppendError::Fork) => true,
        Err(AppendError::Gap { .. }) => all_before_seen,
    }
}
