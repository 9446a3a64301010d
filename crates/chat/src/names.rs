//! Names of users and channels. Only the parsers here build them, so a name held is a name that is fit to show, to put
//! into a URL or to use as a key.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest user name, in bytes: fits a line of a terminal next to its message.
pub const USER_NAME_BYTES_MAX: usize = 32;
/// Longest name of a channel that is not direct, in bytes.
pub const CHANNEL_NAME_BYTES_MAX: usize = 64;

/// Text that is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is not a user name.
    #[error("a user name has 1 to 32 letters, digits, dots, hyphens or underscores and starts with a letter or digit")]
    User,
    /// The text is not a channel name.
    #[error(
        "a channel name has 1 to 64 letters, digits, dots, hyphens or underscores and starts with a letter or digit"
    )]
    Channel,
    /// The text starts like a direct channel but does not name two different users in order.
    #[error("a direct channel is written @alice+bob: two different users, in alphabetical order")]
    Direct,
}

/// The name of a user on a tracker, in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(Arc<str>);

impl UserName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = NameError;

    /// Parses a name, folding upper case to lower case.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_plain_name(text, USER_NAME_BYTES_MAX) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(NameError::User)
        }
    }
}

/// The name of a channel, in lower case: a plain one such as `general`, or a direct one such as `@alice+bob`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// The direct channel of two users, whatever their order.
    ///
    /// # Errors
    /// Nobody has a direct channel with themselves: [`NameError::Direct`].
    pub fn direct(one: &UserName, other: &UserName) -> Result<Self, NameError> {
        match one.cmp(other) {
            std::cmp::Ordering::Less => Ok(Self(format!("@{one}+{other}").into())),
            std::cmp::Ordering::Greater => Ok(Self(format!("@{other}+{one}").into())),
            std::cmp::Ordering::Equal => Err(NameError::Direct),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the channel of exactly two users.
    pub fn is_direct(&self) -> bool {
        self.0.starts_with('@')
    }

    /// The two users of a direct channel, in alphabetical order.
    pub fn direct_members(&self) -> Option<(UserName, UserName)> {
        let (one, other) = self.0.strip_prefix('@')?.split_once('+')?;
        Some((UserName(one.into()), UserName(other.into())))
    }

    /// The other user of a direct channel that `user` is in.
    pub fn direct_partner(&self, user: &UserName) -> Option<UserName> {
        match self.direct_members()? {
            (one, other) if one == *user => Some(other),
            (one, other) if other == *user => Some(one),
            _ => None,
        }
    }
}

impl FromStr for ChannelName {
    type Err = NameError;

    /// Parses a name, folding upper case to lower case.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some(users) = text.strip_prefix('@') {
            let (one, other) = users.split_once('+').ok_or(NameError::Direct)?;
            let one: UserName = one.parse().map_err(|_| NameError::Direct)?;
            let other: UserName = other.parse().map_err(|_| NameError::Direct)?;
            return if one < other { Self::direct(&one, &other) } else { Err(NameError::Direct) };
        }
        if is_plain_name(text, CHANNEL_NAME_BYTES_MAX) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(NameError::Channel)
        }
    }
}

fn is_plain_name(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Text forms shared by both names: shown, compared with text and serialised as a plain string.
macro_rules! name_as_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name_as_text!(UserName);
name_as_text!(ChannelName);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn user_names() {
        let ok = [("Alice", "alice"), ("a", "a"), ("0.b_c-d", "0.b_c-d"), (&"x".repeat(32), &"x".repeat(32))];
        for (text, name) in ok {
            assert_eq!(text.parse::<UserName>().unwrap().as_str(), name);
        }
        let long = "x".repeat(33);
        let huge = "a".repeat(10_000);
        let bad = [
            "",
            " ",
            "-a",
            ".a",
            "_a",
            "a b",
            "a\n",
            "\0",
            "a\u{7f}",
            "a\u{202e}b",
            "é",
            "ａ",
            "@a",
            "a+b",
            "a/b",
            "a%20",
            &long,
            &huge,
        ];
        for text in bad {
            assert_eq!(text.parse::<UserName>(), Err(NameError::User), "{text:?}");
        }
    }

    #[test]
    fn channel_names() {
        for (text, name) in [("General", "general"), ("a", "a"), ("@Alice+Bob", "@alice+bob"), ("@a+a.b", "@a+a.b")] {
            assert_eq!(text.parse::<ChannelName>().unwrap().as_str(), name);
        }
        let long = "x".repeat(65);
        let huge = format!("@{}+b", "a".repeat(10_000));
        for text in ["", "#general", "a+b", "a/b", "-a", "a\r\n", &long] {
            assert_eq!(text.parse::<ChannelName>(), Err(NameError::Channel), "{text:?}");
        }
        for text in ["@", "@a", "@a+", "@+b", "@b+a", "@a+a", "@a+A", "@a+b+c", "@@a+b", "@a +b", &huge] {
            assert_eq!(text.parse::<ChannelName>(), Err(NameError::Direct), "{text:?}");
        }
    }

    #[test]
    fn direct_channels_know_their_two_users() {
        let (alice, bob, carol): (UserName, UserName, UserName) =
            ("alice".parse().unwrap(), "bob".parse().unwrap(), "carol".parse().unwrap());
        let channel = ChannelName::direct(&bob, &alice).unwrap();
        assert_eq!(channel.as_str(), "@alice+bob");
        assert_eq!(channel, ChannelName::direct(&alice, &bob).unwrap());
        assert!(channel.is_direct());
        assert_eq!(channel.direct_members(), Some((alice.clone(), bob.clone())));
        assert_eq!(channel.direct_partner(&bob), Some(alice.clone()));
        assert_eq!(channel.direct_partner(&carol), None);
        assert_eq!(ChannelName::direct(&bob, &bob), Err(NameError::Direct));
        let general: ChannelName = "general".parse().unwrap();
        assert!(!general.is_direct() && general.direct_members().is_none());
    }

    #[test]
    fn json_form_is_a_checked_string() {
        let name: UserName = serde_json::from_str("\"Bob\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"bob\"");
        for json in ["1", "null", "[\"bob\"]", "\"\"", "\"b\\u0000b\""] {
            assert!(serde_json::from_str::<UserName>(json).is_err(), "{json}");
        }
    }
}
