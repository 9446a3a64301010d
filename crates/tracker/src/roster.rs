//! Rosters: who is in a channel and by which devices, signed with the tracker's key. The version rises exactly when
//! members or their devices have changed since the last one signed.

use crate::channels::{Channel, Fold};
use crate::hub::News;
use crate::tracker::Tracker;
use crate::trouble::Trouble;
use crate::writing::finished;
use chat::{Expect, Membership, Roster, RosterDevice, RosterMember, Signature, SignedRoster, UserName};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use weaprous::Problem;

/// How often a roster is signed anew because another process signed one meanwhile.
const TRIES_MAX: usize = 4;

/// A roster as it lies in the register and in answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RosterText {
    pub(crate) roster: String,
    pub(crate) signature: Signature,
}

impl From<&SignedRoster> for RosterText {
    fn from(signed: &SignedRoster) -> Self {
        Self { roster: signed.text().to_owned(), signature: signed.signature() }
    }
}

impl Tracker {
    /// The roster of a channel, true at this moment.
    pub(crate) async fn roster(&self, channel: &Channel) -> Result<SignedRoster, Trouble> {
        let mut fold = channel.writing.lock().await;
        channel.catch_up(&mut fold, self.store()).await?;
        self.sign_roster(channel, &mut fold, Vec::new()).await
    }

    /// Signs a new roster if the old one is no longer true, and tells everybody whom it concerns; `gone` are those who
    /// are no longer in it.
    async fn sign_roster(
        &self,
        channel: &Channel,
        fold: &mut Fold,
        gone: Vec<UserName>,
    ) -> Result<SignedRoster, Trouble> {
        let members = self.roster_members(&fold.membership).await?;
        for _ in 0..TRIES_MAX {
            if fold.roster.is_none() {
                fold.roster = self.stored_roster(channel).await?;
            }
            let (version, expect) = match &fold.roster {
                Some((known, _)) if known.roster().members == members => return Ok(known.clone()),
                Some((known, version)) => (known.roster().version + 1, Expect::Version(*version)),
                None => (1, Expect::Absent),
            };
            let roster = Roster::new(self.id(), channel.name.clone(), version, members.clone());
            let signed = SignedRoster::sign(&self.key, &roster)
                .map_err(|error| Problem::unprocessable(format!("the channel has no roster: {error}")))?;
            let text = serde_json::to_vec(&RosterText::from(&signed)).map_err(Problem::internal)?;
            if let Ok(version) = self.store().put(&roster_key(channel), text, expect).await? {
                fold.roster = Some((signed.clone(), version));
                let version = signed.roster().version;
                self.hub.tell(News::Channel { channel: channel.name.clone(), version, gone: gone.into() });
                return Ok(signed);
            }
            fold.roster = None;
        }
        Err(chat::StoreError::Busy.into())
    }

    /// Signs a new roster after a change. A failure is not the writer's: the next one who asks for the roster gets it
    /// signed.
    pub(crate) async fn publish_roster(&self, channel: &Channel, fold: &mut Fold, gone: Vec<UserName>) {
        if let Err(Trouble(problem)) = self.sign_roster(channel, fold, gone).await {
            tracing::warn!(channel = %channel.name, %problem, "no new roster for now");
        }
    }

    /// Says in every channel of a user that their devices have changed.
    pub(crate) async fn devices_changed(self: &Arc<Self>, user: &UserName) -> Result<(), Trouble> {
        self.devices.forget(user);
        let (tracker, user) = (Arc::clone(self), user.clone());
        finished(async move {
            for (channel, _) in tracker.channels.load_all(tracker.store()).await? {
                if channel.membership().is_member(&user) {
                    let mut fold = channel.writing.lock().await;
                    tracker.publish_roster(&channel, &mut fold, Vec::new()).await;
                }
            }
            Ok(())
        })
        .await
    }

    /// The members with their devices, as [`Roster::new`] orders them.
    async fn roster_members(&self, membership: &Membership) -> Result<Vec<RosterMember>, Trouble> {
        let mut members = Vec::with_capacity(membership.members().len());
        for user in membership.members() {
            let devices = self.devices.of(self.accounts(), user).await?;
            let mut devices: Vec<_> =
                devices.iter().map(|device| RosterDevice { device: device.id, hosted: device.hosted }).collect();
            devices.sort();
            members.push(RosterMember { user: user.clone(), devices });
        }
        members.sort_by(|one, other| one.user.cmp(&other.user));
        Ok(members)
    }

    async fn stored_roster(&self, channel: &Channel) -> Result<Option<(SignedRoster, u64)>, Trouble> {
        let Some(found) = self.store().get(&roster_key(channel)).await? else { return Ok(None) };
        let damaged = |error: &dyn std::fmt::Display| {
            Trouble::from(chat::StoreError::Damaged(format!("roster of {}: {error}", channel.name)))
        };
        let text: RosterText = serde_json::from_slice(&found.value).map_err(|error| damaged(&error))?;
        let signed = SignedRoster::open(text.roster.as_bytes(), text.signature, &self.id());
        Ok(Some((signed.map_err(|error| damaged(&error))?, found.version)))
    }
}

fn roster_key(channel: &Channel) -> String {
    format!("roster/{}", channel.name)
}
