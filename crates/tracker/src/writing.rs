//! Every way into the log. Per channel, writes take turns: what is checked is still true when it is appended.
//!
//! A write that has begun is finished, whether or not the client still waits for the answer: otherwise the log and
//! what is known of it could part.

use crate::channels::{Channel, Fold};
use crate::checkpoint;
use crate::tracker::{Tracker, now_ms};
use crate::trouble::{Refusal, Trouble};
use chat::{
    AppendError, Appended, Body, ChannelName, Denied, DeviceId, DeviceKey, Draft, Envelope, Expect, Head, Logged,
    Membership, Sealed, Signature, UserName, check_chain,
};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use weaprous::Problem;

/// How often a hosted write is sealed anew because another process wrote in between.
const TRIES_MAX: usize = 4;

/// An envelope that is in the log, on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) sealed: Sealed,
    pub(crate) seq: u64,
}

/// What a hosted device is to say.
#[derive(Debug, Clone)]
pub(crate) struct Hosted {
    pub(crate) user: UserName,
    pub(crate) body: Body,
    /// Whoever sends the same key again gets what was stored the first time.
    pub(crate) once: Option<String>,
}

/// A hosted envelope on its way, kept under its key: sealed before it is appended, so that a second try after a crash
/// appends the same one.
#[derive(Serialize, Deserialize)]
struct OnItsWay {
    envelope: String,
    signature: Signature,
    at_ms: u64,
}

impl Tracker {
    /// Brings the envelopes of a channel into its log. One result each, in order.
    pub(crate) async fn upload(
        self: &Arc<Self>,
        name: &ChannelName,
        entries: Vec<Sealed>,
    ) -> Result<Vec<Result<Stored, Refusal>>, Trouble> {
        let channel = self.channels.load_to_write(self.store(), name).await?;
        let tracker = Arc::clone(self);
        finished(async move {
            let result = tracker.upload_in_turn(&channel, entries).await;
            tracker.channels.forget_unmade(&channel);
            result
        })
        .await
    }

    async fn upload_in_turn(
        &self,
        channel: &Channel,
        entries: Vec<Sealed>,
    ) -> Result<Vec<Result<Stored, Refusal>>, Trouble> {
        let mut fold = channel.writing.lock().await;
        self.check_partners(channel, &fold).await?;
        self.append(channel, &mut fold, entries).await
    }

    /// Lets a user's hosted device say something.
    pub(crate) async fn say(self: &Arc<Self>, name: &ChannelName, hosted: Hosted) -> Result<Stored, Trouble> {
        // Made before the channel is locked: a new device changes rosters, also this channel's.
        let key = self.hosted_key(&hosted.user).await?;
        let channel = self.channels.load_to_write(self.store(), name).await?;
        let tracker = Arc::clone(self);
        finished(async move {
            let result = tracker.say_in_turn(&channel, &key, &hosted).await;
            tracker.channels.forget_unmade(&channel);
            result
        })
        .await
    }

    async fn say_in_turn(&self, channel: &Channel, key: &DeviceKey, hosted: &Hosted) -> Result<Stored, Trouble> {
        let fold = &mut *channel.writing.lock().await;
        self.check_partners(channel, fold).await?;
        for _ in 0..TRIES_MAX {
            channel.catch_up(fold, self.store()).await?;
            let kept = self.kept_under(hosted).await?;
            let sealed = match &kept {
                Some((sealed, _)) if sealed.envelope().channel != channel.name => {
                    return Err(Problem::conflict("this key was used for a message to another channel").into());
                }
                Some((sealed, _)) => sealed.clone(),
                None => seal(channel, fold, key, hosted)?,
            };
            if kept.is_none() {
                fold.membership.check(&hosted.user, &hosted.body)?;
                if !self.keep_under(hosted, &sealed, Expect::Absent).await? {
                    continue; // the same key at the same time, in another channel or process
                }
            }
            match self.append(channel, fold, vec![sealed]).await?.remove(0) {
                Ok(stored) => return Ok(stored),
                Err(Refusal::Chain(_)) => {
                    // What was kept never came into the log, or another process wrote: its place is taken.
                    fold.behind = true;
                    if let Some((_, version)) = kept {
                        self.forget_key(hosted, version).await?;
                    }
                }
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Err(chat::StoreError::Busy.into())
    }

    async fn kept_under(&self, hosted: &Hosted) -> Result<Option<(Sealed, u64)>, Trouble> {
        let Some(key) = once_key(hosted) else { return Ok(None) };
        let Some(found) = self.store().get(&key).await? else { return Ok(None) };
        let damaged = |error: &dyn std::fmt::Display| {
            Trouble::from(chat::StoreError::Damaged(format!("a kept message: {error}")))
        };
        let kept: OnItsWay = serde_json::from_slice(&found.value).map_err(|error| damaged(&error))?;
        let sealed = Sealed::from_storage(kept.envelope.into_bytes(), kept.signature);
        Ok(Some((sealed.map_err(|error| damaged(&error))?, found.version)))
    }

    /// Keeps a sealed envelope under its key; whether the key was as expected. Nothing to do without a key.
    async fn keep_under(&self, hosted: &Hosted, sealed: &Sealed, expect: Expect) -> Result<bool, Trouble> {
        let Some(key) = once_key(hosted) else { return Ok(true) };
        let kept = OnItsWay { envelope: sealed.text().to_owned(), signature: sealed.signature(), at_ms: now_ms() };
        let value = serde_json::to_vec(&kept).map_err(Problem::internal)?;
        Ok(self.store().put(&key, value, expect).await?.is_ok())
    }

    async fn forget_key(&self, hosted: &Hosted, version: u64) -> Result<(), Trouble> {
        if let Some(key) = once_key(hosted) {
            // Whoever changed it meanwhile has kept another one; the next try sees that.
            let _ = self.store().delete(&key, Expect::Version(version)).await?;
        }
        Ok(())
    }

    /// Appends what may come in, tells the others why not, and keeps the fold level with the log.
    async fn append(
        &self,
        channel: &Channel,
        fold: &mut Fold,
        entries: Vec<Sealed>,
    ) -> Result<Vec<Result<Stored, Refusal>>, Trouble> {
        channel.catch_up(fold, self.store()).await?;
        let devices = self.devices_of_authors(&entries).await?;
        let mut trial = Trial::new(fold);
        let judged: Vec<_> = entries.into_iter().map(|sealed| trial.judge(&channel.name, &devices, sealed)).collect();
        let changes = trial.membership.is_some();
        let admitted: Vec<Sealed> = judged.iter().flatten().map(|admitted| admitted.sealed.clone()).collect();
        let before = changes.then(|| fold.membership.clone());
        let appended = if admitted.is_empty() {
            Vec::new()
        } else {
            fold.behind = true; // until the outcome is known
            self.store().append(admitted).await?
        };
        let (results, level) = self.absorb(fold, judged, appended);
        fold.behind = false;
        if !level {
            tracing::warn!(channel = %channel.name, "another process writes to this log");
            fold.restart(&channel.name);
            channel.catch_up(fold, self.store()).await?;
        }
        if let Some(before) = before {
            self.settle(channel, fold, &before).await;
        }
        checkpoint::keep_when_due(&channel.name, fold, self.store()).await;
        Ok(results)
    }

    /// Folds in what was appended; also says whether the fold is level with the log after that.
    fn absorb(
        &self,
        fold: &mut Fold,
        judged: Vec<Result<Admitted, Refusal>>,
        appended: Vec<Result<Appended, AppendError>>,
    ) -> (Vec<Result<Stored, Refusal>>, bool) {
        let mut appended = appended.into_iter();
        let mut level = true;
        let mut take_in = |Admitted { sealed, is_next }: Admitted| {
            let outcome = appended.next().expect("the store gives one result each");
            level &= is_next == matches!(outcome, Ok(Appended { known: false, .. }));
            let Appended { seq, position, known } = outcome?;
            if !known {
                level &= seq == fold.last + 1;
                fold.add(&Logged { seq, position, sealed: sealed.clone() });
                self.metrics.messages_stored.add(1);
            }
            Ok(Stored { sealed, seq })
        };
        let results = judged.into_iter().map(|judged| judged.and_then(&mut take_in)).collect();
        (results, level)
    }

    /// Shows and tells a change of membership.
    async fn settle(&self, channel: &Channel, fold: &mut Fold, before: &Membership) {
        if fold.membership == *before {
            return;
        }
        channel.show(&fold.membership);
        let gone = before.members().iter().filter(|user| !fold.membership.is_member(user)).cloned().collect();
        self.publish_roster(channel, fold, gone).await;
    }

    /// The devices of everybody who wrote one of these.
    async fn devices_of_authors(&self, entries: &[Sealed]) -> Result<DevicesOfAuthors, Trouble> {
        let mut devices = HashMap::new();
        for sealed in entries {
            let author = &sealed.envelope().author;
            if !devices.contains_key(author) {
                let of_author = self.devices.of(self.accounts(), author).await?;
                devices.insert(author.clone(), of_author.iter().map(|device| device.id).collect());
            }
        }
        Ok(devices)
    }

    /// A direct channel begins when both its users exist.
    async fn check_partners(&self, channel: &Channel, fold: &Fold) -> Result<(), Trouble> {
        let Some((one, other)) = channel.name.direct_members() else { return Ok(()) };
        if fold.last > 0 {
            return Ok(());
        }
        for user in [one, other] {
            if self.accounts().find(&user).await?.is_none() {
                return Err(Problem::not_found(format!("nobody is called {user}")).into());
            }
        }
        Ok(())
    }
}

type DevicesOfAuthors = HashMap<UserName, HashSet<DeviceId>>;

/// An envelope that may be given to the store.
struct Admitted {
    sealed: Sealed,
    /// It continues its chain. Otherwise its number is taken, and the store tells whether by itself.
    is_next: bool,
}

/// What the fold will be once the entries judged so far are appended.
struct Trial<'a> {
    fold: &'a Fold,
    /// A copy, from the first entry on that changes it.
    membership: Option<Membership>,
    heads: HashMap<DeviceId, Head>,
}

impl<'a> Trial<'a> {
    fn new(fold: &'a Fold) -> Self {
        Self { fold, membership: None, heads: HashMap::new() }
    }

    fn judge(
        &mut self,
        channel: &ChannelName,
        devices: &DevicesOfAuthors,
        sealed: Sealed,
    ) -> Result<Admitted, Refusal> {
        let envelope = sealed.envelope();
        if envelope.channel != *channel {
            return Err(Refusal::WrongChannel);
        }
        let head = self.heads.get(&envelope.device).or_else(|| self.fold.heads.get(&envelope.device));
        if head.is_some_and(|head| envelope.n <= head.n) {
            return Ok(Admitted { sealed, is_next: false });
        }
        let devices = devices.get(&envelope.author).filter(|devices| devices.contains(&envelope.device));
        let devices = devices.ok_or(Refusal::UnknownDevice)?;
        check_chain(head, envelope)?;
        match &envelope.body {
            Body::Text { .. } | Body::Other { .. } => self.check_said(envelope, devices)?,
            _ => self.membership.get_or_insert_with(|| self.fold.membership.clone()).apply(envelope)?,
        }
        self.heads.insert(envelope.device, Head::of(envelope, sealed.id()));
        Ok(Admitted { sealed, is_next: true })
    }

    /// Members may speak. So may whoever was one and may come in again: what they said before they knew to be out is a
    /// link of their chain, and refusing it for good would refuse everything after it, also their coming in.
    fn check_said(&self, envelope: &Envelope, devices: &HashSet<DeviceId>) -> Result<(), Denied> {
        let membership = self.membership();
        let allowed = membership.check(&envelope.author, &envelope.body);
        let has_spoken = || devices.iter().any(|device| self.fold.heads.contains_key(device));
        match allowed {
            Err(Denied::NotMember) if membership.may_join(&envelope.author) && has_spoken() => Ok(()),
            allowed => allowed,
        }
    }

    fn membership(&self) -> &Membership {
        self.membership.as_ref().unwrap_or(&self.fold.membership)
    }
}

fn seal(channel: &Channel, fold: &Fold, key: &DeviceKey, hosted: &Hosted) -> Result<Sealed, Trouble> {
    let draft = Draft {
        channel: channel.name.clone(),
        author: hosted.user.clone(),
        sent_at_ms: now_ms(),
        body: hosted.body.clone(),
    };
    let envelope = draft.follow(key.id(), fold.heads.get(&key.id()), fold.lamport);
    Sealed::seal(key, &envelope).map_err(|error| Problem::unprocessable(error.to_string()).into())
}

fn once_key(hosted: &Hosted) -> Option<String> {
    hosted.once.as_ref().map(|once| format!("{ONCE_PREFIX}{}/{once}", hosted.user))
}

/// Where hosted envelopes lie under their keys.
pub(crate) const ONCE_PREFIX: &str = "once/";

/// When the envelope kept in this value was sealed.
pub(crate) fn kept_at_ms(value: &[u8]) -> Option<u64> {
    serde_json::from_slice::<OnItsWay>(value).ok().map(|kept| kept.at_ms)
}

/// Runs to the end, also when nobody waits for it any more. Only the end of the server's event loop cuts it off, and
/// with it everything that could be misled.
pub(crate) async fn finished<T: Send + 'static>(
    work: impl Future<Output = Result<T, Trouble>> + Send + 'static,
) -> Result<T, Trouble> {
    tokio::spawn(work).await.map_err(Problem::internal)?
}
