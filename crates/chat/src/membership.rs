//! Who may do what in a channel: a pure fold over its envelopes in log order.
//!
//! The tracker asks before it appends; a reader that folds the same log comes to the same answers.

use crate::envelope::{Body, Envelope, Visibility};
use crate::names::{ChannelName, UserName};
use std::collections::BTreeSet;

/// Why somebody may not do something. Each text is fit for the person who tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody has made the channel yet.
    #[error("this channel does not exist")]
    NoSuchChannel,
    /// Somebody has made the channel already.
    #[error("this channel exists already")]
    Exists,
    /// A direct channel is named after its users, and no other is direct.
    #[error("this name does not fit the visibility")]
    WrongVisibility,
    /// Only members may.
    #[error("only members of this channel may do that")]
    NotMember,
    /// A private channel takes those alone who were invited.
    #[error("this channel is private: somebody in it has to invite you")]
    NotInvited,
    /// They were put out, and not invited since.
    #[error("this user was removed from the channel: its owner has to invite them again")]
    Removed,
    /// Only the owner may.
    #[error("only the owner of this channel may do that")]
    NotOwner,
    /// A direct channel keeps its two users for ever.
    #[error("a direct channel has its two users and no others")]
    Direct,
}

/// The state of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    channel: ChannelName,
    /// `None` until the channel is made.
    visibility: Option<Visibility>,
    creator: Option<UserName>,
    /// In the order they came in.
    members: Vec<UserName>,
    invited: BTreeSet<UserName>,
    removed: BTreeSet<UserName>,
}

impl Membership {
    /// A channel before its first envelope. A direct one exists already, with its two users.
    pub fn new(channel: ChannelName) -> Self {
        let members = channel.direct_members().map_or_else(Vec::new, |(one, other)| vec![one, other]);
        let visibility = channel.is_direct().then_some(Visibility::Direct);
        Self { channel, visibility, creator: None, members, invited: BTreeSet::new(), removed: BTreeSet::new() }
    }

    /// Folds the next envelope of the log in. A refused one changes nothing.
    ///
    /// # Errors
    /// The author may not say this here; the tracker does not append it.
    pub fn apply(&mut self, envelope: &Envelope) -> Result<(), Denied> {
        self.check(&envelope.author, &envelope.body)?;
        let author = &envelope.author;
        match &envelope.body {
            Body::Create { visibility } => {
                self.visibility = Some(*visibility);
                self.creator = Some(author.clone());
                self.admit(author);
            }
            Body::Join => self.admit(author),
            Body::Leave => self.members.retain(|member| member != author),
            Body::Invite { user } => {
                self.removed.remove(user);
                if !self.is_member(user) {
                    self.invited.insert(user.clone());
                }
            }
            Body::Remove { user } => {
                self.members.retain(|member| member != user);
                self.invited.remove(user);
                self.removed.insert(user.clone());
            }
            Body::Text { .. } | Body::Other { .. } => {}
        }
        Ok(())
    }

    /// Whether `author` may say `body` here now.
    pub fn check(&self, author: &UserName, body: &Body) -> Result<(), Denied> {
        match body {
            Body::Create { visibility } => self.check_create(author, *visibility),
            Body::Join => self.check_join(author),
            Body::Leave => self.check_leave(author),
            Body::Invite { user } => self.check_invite(author, user),
            Body::Remove { user } => self.check_remove(author, user),
            Body::Text { .. } | Body::Other { .. } => self.check_member(author),
        }
    }

    /// Whether `user` may read the channel: its members, and everybody if it is public.
    pub fn may_read(&self, user: &UserName) -> bool {
        match self.visibility {
            None => false,
            Some(Visibility::Public) => !self.removed.contains(user),
            Some(Visibility::Private | Visibility::Direct) => self.is_member(user),
        }
    }

    /// Whether `user` may write into the channel: its members.
    pub fn may_post(&self, user: &UserName) -> bool {
        self.check_member(user).is_ok()
    }

    /// Whether `user` may come in, or is in already.
    pub fn may_join(&self, user: &UserName) -> bool {
        self.check_join(user).is_ok()
    }

    /// Whether `user` may invite somebody: any member, unless the channel is direct.
    pub fn may_invite(&self, user: &UserName) -> bool {
        self.is_member(user) && !self.channel.is_direct()
    }

    /// Whether `user` may put somebody out: the owner.
    pub fn may_remove(&self, user: &UserName) -> bool {
        self.owner() == Some(user)
    }

    /// Whether `user` is in the channel.
    pub fn is_member(&self, user: &UserName) -> bool {
        self.members.contains(user)
    }

    /// The members, in the order they came in.
    pub fn members(&self) -> &[UserName] {
        &self.members
    }

    /// Those who may come in and have not yet.
    pub fn invited(&self) -> impl Iterator<Item = &UserName> {
        self.invited.iter()
    }

    /// Who may come in; `None` until the channel is made.
    pub fn visibility(&self) -> Option<Visibility> {
        self.visibility
    }

    /// Who made the channel.
    pub fn creator(&self) -> Option<&UserName> {
        self.creator.as_ref()
    }

    /// Who may put others out: the creator while a member, after that whoever has been in longest. Nobody in a direct
    /// channel.
    pub fn owner(&self) -> Option<&UserName> {
        if self.channel.is_direct() {
            return None;
        }
        self.creator.as_ref().filter(|creator| self.is_member(creator)).or_else(|| self.members.first())
    }

    /// Whether the channel exists: somebody made it, or it is direct.
    pub fn exists(&self) -> bool {
        self.visibility.is_some()
    }

    fn admit(&mut self, user: &UserName) {
        self.invited.remove(user);
        if !self.is_member(user) {
            self.members.push(user.clone());
        }
    }

    fn check_create(&self, author: &UserName, visibility: Visibility) -> Result<(), Denied> {
        if self.channel.is_direct() != (visibility == Visibility::Direct) {
            return Err(Denied::WrongVisibility);
        }
        match self.visibility {
            // a direct channel is there before anybody says so, and saying so once does no harm
            Some(Visibility::Direct) if self.creator.is_none() => self.check_member(author),
            Some(_) => Err(Denied::Exists),
            None => Ok(()),
        }
    }

    fn check_join(&self, author: &UserName) -> Result<(), Denied> {
        // Two devices of one user may both say it; the second time changes nothing.
        if self.is_member(author) {
            return Ok(());
        }
        match self.visibility {
            None => Err(Denied::NoSuchChannel),
            Some(Visibility::Direct) => Err(Denied::Direct),
            Some(_) if self.removed.contains(author) => Err(Denied::Removed),
            Some(Visibility::Private) if !self.invited.contains(author) => Err(Denied::NotInvited),
            Some(Visibility::Public | Visibility::Private) => Ok(()),
        }
    }

    fn check_leave(&self, author: &UserName) -> Result<(), Denied> {
        self.check_member(author)?;
        if self.channel.is_direct() { Err(Denied::Direct) } else { Ok(()) }
    }

    fn check_invite(&self, author: &UserName, user: &UserName) -> Result<(), Denied> {
        self.check_member(author)?;
        if self.channel.is_direct() {
            return Err(Denied::Direct);
        }
        if self.removed.contains(user) && self.owner() != Some(author) {
            return Err(Denied::Removed);
        }
        Ok(())
    }

    fn check_remove(&self, author: &UserName, user: &UserName) -> Result<(), Denied> {
        self.check_member(author)?;
        if self.channel.is_direct() {
            return Err(Denied::Direct);
        }
        // the owner goes by leaving, so that there is always somebody who can let the removed in again
        if self.owner() != Some(author) || user == author { Err(Denied::NotOwner) } else { Ok(()) }
    }

    fn check_member(&self, user: &UserName) -> Result<(), Denied> {
        match self.visibility {
            None => Err(Denied::NoSuchChannel),
            Some(_) if self.is_member(user) => Ok(()),
            Some(_) => Err(Denied::NotMember),
        }
    }
}
