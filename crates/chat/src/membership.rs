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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ids::DeviceId;

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    fn envelope(channel: &str, author: &str, body: Body) -> Envelope {
        Envelope {
            channel: channel.parse().unwrap(),
            author: user(author),
            device: DeviceId([0; 32]),
            n: 1,
            prev: None,
            lamport: 1,
            sent_at_ms: 0,
            body,
        }
    }

    /// Reads a step such as `alice invite bob`.
    fn step(channel: &str, step: &str) -> Envelope {
        let words: Vec<_> = step.split(' ').collect();
        let object = || user(words[2]);
        let body = match words[1] {
            "public" => Body::Create { visibility: Visibility::Public },
            "private" => Body::Create { visibility: Visibility::Private },
            "direct" => Body::Create { visibility: Visibility::Direct },
            "join" => Body::Join,
            "leave" => Body::Leave,
            "invite" => Body::Invite { user: object() },
            "remove" => Body::Remove { user: object() },
            "say" => Body::Text { text: "x".to_owned() },
            "react" => Body::Other { kind: "reaction".to_owned(), raw: "{}".into() },
            other => panic!("no such step: {other}"),
        };
        envelope(channel, words[0], body)
    }

    /// Folds `steps`, all of which are allowed, then expects `last` to be answered with `expected` and, if refused, to
    /// change nothing.
    fn check(channel: &str, steps: &str, last: &str, expected: Result<(), Denied>) {
        let mut membership = Membership::new(channel.parse().unwrap());
        for allowed in steps.split(", ").filter(|step| !step.is_empty()) {
            assert_eq!(membership.apply(&step(channel, allowed)), Ok(()), "{steps}: {allowed}");
        }
        let before = membership.clone();
        assert_eq!(membership.apply(&step(channel, last)), expected, "{steps}: {last}");
        assert!(expected.is_ok() || membership == before, "{steps}: {last} was refused and changed something");
    }

    #[test]
    fn rules_of_public_channels() {
        let cases = [
            ("", "alice say", Err(Denied::NoSuchChannel)),
            ("", "alice join", Err(Denied::NoSuchChannel)),
            ("", "alice leave", Err(Denied::NoSuchChannel)),
            ("", "alice invite bob", Err(Denied::NoSuchChannel)),
            ("", "alice remove bob", Err(Denied::NoSuchChannel)),
            ("", "alice public", Ok(())),
            ("", "alice direct", Err(Denied::WrongVisibility)),
            ("alice public", "alice public", Err(Denied::Exists)),
            ("alice public", "bob private", Err(Denied::Exists)),
            ("alice public", "alice say", Ok(())),
            ("alice public", "alice react", Ok(())),
            ("alice public", "bob say", Err(Denied::NotMember)),
            ("alice public", "bob react", Err(Denied::NotMember)),
            ("alice public", "bob join", Ok(())),
            ("alice public, bob join", "bob join", Ok(())),
            ("alice public, bob join", "bob say", Ok(())),
            ("alice public, bob join, bob leave", "bob say", Err(Denied::NotMember)),
            ("alice public, bob join, bob leave", "bob leave", Err(Denied::NotMember)),
            ("alice public, bob join, bob leave", "bob join", Ok(())),
            ("alice public", "bob invite carol", Err(Denied::NotMember)),
            ("alice public, bob join", "bob invite carol", Ok(())),
            ("alice public, bob join", "bob invite alice", Ok(())),
            ("alice public, bob join", "bob remove alice", Err(Denied::NotOwner)),
            ("alice public, bob join", "alice remove alice", Err(Denied::NotOwner)),
            ("alice public, bob join", "alice remove bob", Ok(())),
            ("alice public, bob join, alice remove bob", "bob say", Err(Denied::NotMember)),
            ("alice public, bob join, alice remove bob", "bob join", Err(Denied::Removed)),
            ("alice public, carol join, bob join, alice remove bob", "carol invite bob", Err(Denied::Removed)),
            ("alice public, bob join, alice remove bob, alice invite bob", "bob join", Ok(())),
            ("alice public, alice remove bob", "bob join", Err(Denied::Removed)),
        ];
        for (steps, last, expected) in cases {
            check("general", steps, last, expected);
        }
    }

    #[test]
    fn rules_of_private_channels() {
        let cases = [
            ("alice private", "bob join", Err(Denied::NotInvited)),
            ("alice private", "bob say", Err(Denied::NotMember)),
            ("alice private, alice invite bob", "bob say", Err(Denied::NotMember)),
            ("alice private, alice invite bob", "bob join", Ok(())),
            ("alice private, alice invite bob, bob join", "bob say", Ok(())),
            ("alice private, alice invite bob, bob join", "bob invite carol", Ok(())),
            ("alice private, alice invite bob, bob join, bob leave", "bob join", Err(Denied::NotInvited)),
            ("alice private, alice invite bob, alice remove bob", "bob join", Err(Denied::Removed)),
            // a member invited again has no invitation left over after leaving
            (
                "alice private, alice invite bob, bob join, alice invite bob, bob leave",
                "bob join",
                Err(Denied::NotInvited),
            ),
            // the owner goes: whoever is in longest follows, even when the creator comes back
            ("alice private, alice invite bob, bob join, alice leave", "bob remove carol", Ok(())),
            (
                "alice private, alice invite bob, bob join, bob invite carol, carol join, alice leave",
                "carol remove bob",
                Err(Denied::NotOwner),
            ),
            (
                "alice private, alice invite bob, bob join, alice leave, bob invite alice, alice join",
                "bob remove alice",
                Err(Denied::NotOwner),
            ),
        ];
        for (steps, last, expected) in cases {
            check("club", steps, last, expected);
        }
    }

    #[test]
    fn rules_of_direct_channels() {
        let cases = [
            ("", "alice say", Ok(())),
            ("", "bob say", Ok(())),
            ("", "bob react", Ok(())),
            ("", "carol say", Err(Denied::NotMember)),
            ("", "carol join", Err(Denied::Direct)),
            ("", "alice join", Ok(())),
            ("", "alice leave", Err(Denied::Direct)),
            ("", "alice invite carol", Err(Denied::Direct)),
            ("", "alice remove bob", Err(Denied::Direct)),
            ("", "carol direct", Err(Denied::NotMember)),
            ("", "alice public", Err(Denied::WrongVisibility)),
            ("", "alice direct", Ok(())),
            ("alice say", "bob direct", Ok(())),
            ("alice direct", "bob direct", Err(Denied::Exists)),
        ];
        for (steps, last, expected) in cases {
            check("@alice+bob", steps, last, expected);
        }
    }

    #[test]
    fn questions_are_answered_from_the_same_rules() {
        let mut club = Membership::new("club".parse().unwrap());
        assert!(!club.exists() && !club.may_read(&user("alice")));
        for text in ["alice private", "alice invite bob", "bob join", "bob invite carol"] {
            club.apply(&step("club", text)).unwrap();
        }
        assert_eq!(club.members(), [user("alice"), user("bob")]);
        assert_eq!(club.invited().collect::<Vec<_>>(), [&user("carol")]);
        assert_eq!((club.creator(), club.owner()), (Some(&user("alice")), Some(&user("alice"))));
        assert_eq!(club.visibility(), Some(Visibility::Private));
        let answers = |name: &str| {
            let user = user(name);
            [
                club.may_read(&user),
                club.may_post(&user),
                club.may_join(&user),
                club.may_invite(&user),
                club.may_remove(&user),
            ]
        };
        assert_eq!(answers("alice"), [true, true, true, true, true]);
        assert_eq!(answers("bob"), [true, true, true, true, false]);
        assert_eq!(answers("carol"), [false, false, true, false, false]);
        assert_eq!(answers("dave"), [false, false, false, false, false]);
    }

    #[test]
    fn public_channels_are_read_by_all_but_the_removed() {
        let mut general = Membership::new("general".parse().unwrap());
        for text in ["alice public", "bob join", "alice remove bob"] {
            general.apply(&step("general", text)).unwrap();
        }
        assert!(general.may_read(&user("carol")) && general.may_read(&user("alice")));
        assert!(!general.may_read(&user("bob")));
        let direct = Membership::new("@alice+bob".parse().unwrap());
        assert!(direct.may_read(&user("bob")) && !direct.may_read(&user("carol")));
        assert_eq!(direct.owner(), None);
    }
}
