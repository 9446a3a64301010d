//! The envelope: the one immutable unit that everybody exchanges, and its canonical bytes.
//!
//! Serialised once by its device; those bytes are signed, hashed and carried verbatim ever after. The parser accepts
//! exactly the bytes that the writer makes, so one meaning has one id.

use crate::canonical;
use crate::chain::Head;
use crate::ids::{DeviceId, EnvelopeId};
use crate::keys::BadSignature;
use crate::names::{ChannelName, UserName};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

/// Longest envelope, in bytes. Two fit a frame of the peer protocol, and a kilobyte of members costs nothing.
pub const ENVELOPE_BYTES_MAX: usize = 32 * 1024;
/// Longest text of a message, in bytes of UTF-8. Escaping at most doubles what people write, so it fits an envelope.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Longest kind, in bytes.
pub const KIND_BYTES_MAX: usize = 64;
/// Deepest nesting of a body of an unknown kind: what a reader can walk without caring for its stack.
pub const BODY_DEPTH_MAX: usize = 16;
/// Largest number in an envelope: the largest integer that every JSON reader holds exactly (2^53 - 1).
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// Highest Lamport time of others that is heeded: half of all numbers. Without it one device could jump to the last number
/// and leave nobody a later one.
pub const LAMPORT_HEEDED_MAX: u64 = 1 << 52;

/// The only version of the format.
const VERSION: u64 = 1;

/// Why bytes are not an envelope, or a draft cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// More than [`ENVELOPE_BYTES_MAX`] bytes.
    #[error("an envelope has at most {ENVELOPE_BYTES_MAX} bytes")]
    TooLarge,
    /// A text of more than [`TEXT_BYTES_MAX`] bytes.
    #[error("a message has at most {TEXT_BYTES_MAX} bytes")]
    TextTooLong,
    /// A message without any text.
    #[error("a message has some text")]
    TextEmpty,
    /// Not the JSON that an envelope is; says what was expected.
    #[error("not an envelope: {0}")]
    Malformed(String),
    /// An envelope of a later version of the format.
    #[error("this envelope has version {0}, which is not known here")]
    Version(u64),
    /// An envelope, but not in its one canonical form.
    #[error("the envelope is not in canonical form")]
    NotCanonical,
    /// Number and predecessor contradict each other, or a number is out of range.
    #[error("the envelope's {0} is out of range")]
    OutOfRange(&'static str),
    /// Sealed with the key of another device than it names.
    #[error("the envelope names another device")]
    WrongDevice,
    /// Signed by somebody else, or changed since.
    #[error(transparent)]
    Forged(#[from] BadSignature),
}

/// What a device says in a channel, with its place in the device's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Where it is said.
    pub channel: ChannelName,
    /// The user whose device this is.
    pub author: UserName,
    /// The device that signs.
    pub device: DeviceId,
    /// Counts this device's envelopes in this channel, from 1 without holes.
    pub n: u64,
    /// The device's envelope before this one; `None` exactly when `n` is 1.
    pub prev: Option<EnvelopeId>,
    /// Lamport time: above everything the device had seen in the channel.
    pub lamport: u64,
    /// The device's clock, milliseconds since 1970. For showing; decides nothing.
    pub sent_at_ms: u64,
    /// What is said.
    pub body: Body,
}

/// What an envelope says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A message (`text`). Any UTF-8; see [`crate::text::printable`] before showing it.
    Text {
        /// 1 to [`TEXT_BYTES_MAX`] bytes.
        text: String,
    },
    /// The channel comes into being (`channel.create`).
    Create {
        /// Who may come in.
        visibility: Visibility,
    },
    /// The author comes in (`member.join`).
    Join,
    /// The author goes (`member.leave`).
    Leave,
    /// The author lets somebody in (`member.invite`).
    Invite {
        /// Who may come in now.
        user: UserName,
    },
    /// The author puts somebody out (`member.remove`).
    Remove {
        /// Who is out now.
        user: UserName,
    },
    /// Anything a later version says: carried verbatim, shown by nobody.
    Other {
        /// Its kind: 1 to [`KIND_BYTES_MAX`] bytes of `[a-z0-9._-]`.
        kind: String,
        /// Its body, a canonical JSON object.
        raw: Arc<str>,
    },
}

/// Who may come into a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Anyone with an account.
    Public,
    /// Whoever was invited.
    Private,
    /// Its two users.
    Direct,
}

/// What a user wants said, before it has its place in the device's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where.
    pub channel: ChannelName,
    /// Who.
    pub author: UserName,
    /// The device's clock, milliseconds since 1970.
    pub sent_at_ms: u64,
    /// What.
    pub body: Body,
}

impl Draft {
    /// Makes the envelope that comes next in `device`'s chain after `head`, later than `lamport_seen`, the highest Lamport
    /// time known in the channel, as far as that is to be heeded ([`LAMPORT_HEEDED_MAX`]).
    pub fn follow(self, device: DeviceId, head: Option<&Head>, lamport_seen: u64) -> Envelope {
        let seen = lamport_seen.min(LAMPORT_HEEDED_MAX).max(head.map_or(0, |head| head.lamport));
        Envelope {
            channel: self.channel,
            author: self.author,
            device,
            n: head.map_or(1, |head| head.n + 1),
            prev: head.map(|head| head.id),
            lamport: seen.saturating_add(1),
            sent_at_ms: self.sent_at_ms,
            body: self.body,
        }
    }
}

impl Body {
    /// The kind as it is written in the envelope.
    pub fn kind(&self) -> &str {
        match self {
            Self::Text { .. } => "text",
            Self::Create { .. } => "channel.create",
            Self::Join => "member.join",
            Self::Leave => "member.leave",
            Self::Invite { .. } => "member.invite",
            Self::Remove { .. } => "member.remove",
            Self::Other { kind, .. } => kind,
        }
    }

    /// The text of a message.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text { text } => Some(text),
            _ => None,
        }
    }

    /// The body as the canonical JSON object that stands in the envelope.
    pub fn to_json(&self) -> String {
        let json = match self {
            Self::Text { text } => serde_json::to_string(&TextBody { text: Cow::Borrowed(text) }),
            Self::Create { visibility } => serde_json::to_string(&CreateBody { visibility: *visibility }),
            Self::Join | Self::Leave => Ok("{}".to_owned()),
            Self::Invite { user } | Self::Remove { user } => serde_json::to_string(&UserBody { user: user.clone() }),
            Self::Other { raw, .. } => Ok(raw.as_ref().to_owned()),
        };
        json.expect("strings and names always serialise")
    }

    /// Reads the body of a kind. Whether it is canonical is seen when the whole envelope is written again.
    fn parse(kind: &str, json: &str) -> Result<Self, EnvelopeError> {
        let body = match kind {
            "text" => {
                let TextBody { text } = parse_json(json)?;
                match text.len() {
                    0 => return Err(EnvelopeError::TextEmpty),
                    1..=TEXT_BYTES_MAX => Self::Text { text: text.into_owned() },
                    _ => return Err(EnvelopeError::TextTooLong),
                }
            }
            "channel.create" => Self::Create { visibility: parse_json::<CreateBody>(json)?.visibility },
            "member.join" => parse_json::<NoBody>(json).map(|_| Self::Join)?,
            "member.leave" => parse_json::<NoBody>(json).map(|_| Self::Leave)?,
            "member.invite" => Self::Invite { user: parse_json::<UserBody>(json)?.user },
            "member.remove" => Self::Remove { user: parse_json::<UserBody>(json)?.user },
            other => Self::parse_other(other, json)?,
        };
        Ok(body)
    }

    fn parse_other(kind: &str, json: &str) -> Result<Self, EnvelopeError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
        if kind.is_empty() || kind.len() > KIND_BYTES_MAX || !kind.bytes().all(fits) {
            return Err(EnvelopeError::Malformed("a kind has 1 to 64 characters of a-z 0-9 . _ -".to_owned()));
        }
        if !canonical::is_canonical_object(json, BODY_DEPTH_MAX) {
            return Err(EnvelopeError::NotCanonical);
        }
        Ok(Self::Other { kind: kind.to_owned(), raw: json.into() })
    }
}

impl Envelope {
    /// Writes the canonical bytes. What breaks a limit is found by [`Envelope::parse`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = RawValue::from_string(self.body.to_json()).unwrap_or_else(|_| RawValue::NULL.to_owned());
        let wire = Wire {
            v: VERSION,
            channel: Cow::Borrowed(self.channel.as_str()),
            author: Cow::Borrowed(self.author.as_str()),
            device: self.device,
            n: self.n,
            prev: self.prev,
            lamport: self.lamport,
            sent_at_ms: self.sent_at_ms,
            kind: Cow::Borrowed(self.body.kind()),
            body: Cow::Owned(body),
        };
        serde_json::to_vec(&wire).expect("strings, numbers and checked JSON always serialise")
    }

    /// Reads canonical bytes. Accepts exactly what [`Envelope::to_bytes`] makes of an envelope within the limits.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge);
        }
        let wire: Wire<'_> = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
        if wire.v != VERSION {
            return Err(EnvelopeError::Version(wire.v));
        }
        let envelope = Self {
            channel: wire.channel.parse().map_err(|error| malformed(&error))?,
            author: wire.author.parse().map_err(|error| malformed(&error))?,
            device: wire.device,
            n: wire.n,
            prev: wire.prev,
            lamport: wire.lamport,
            sent_at_ms: wire.sent_at_ms,
            body: Body::parse(&wire.kind, wire.body.get())?,
        };
        envelope.check_numbers()?;
        if envelope.to_bytes() == bytes { Ok(envelope) } else { Err(EnvelopeError::NotCanonical) }
    }

    fn check_numbers(&self) -> Result<(), EnvelopeError> {
        let in_range = |number: u64| (1..=NUMBER_MAX).contains(&number);
        if !in_range(self.n) {
            return Err(EnvelopeError::OutOfRange("n"));
        }
        if self.prev.is_none() != (self.n == 1) {
            return Err(EnvelopeError::OutOfRange("prev"));
        }
        // every envelope before this one in the chain took at least one tick
        if !in_range(self.lamport) || self.lamport < self.n {
            return Err(EnvelopeError::OutOfRange("lamport"));
        }
        if self.sent_at_ms > NUMBER_MAX {
            return Err(EnvelopeError::OutOfRange("sent_at_ms"));
        }
        Ok(())
    }
}

/// The envelope as JSON, keys in the order of the wire.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    v: u64,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    author: Cow<'a, str>,
    device: DeviceId,
    n: u64,
    #[serde(deserialize_with = "present")]
    prev: Option<EnvelopeId>,
    lamport: u64,
    sent_at_ms: u64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    body: Cow<'a, RawValue>,
}

/// Reads an optional value whose key must be there (serde lets an `Option` go missing otherwise).
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<EnvelopeId>, D::Error> {
    Option::deserialize(deserializer)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextBody<'a> {
    text: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    visibility: Visibility,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserBody {
    user: UserName,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoBody {}

fn parse_json<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, EnvelopeError> {
    serde_json::from_str(json).map_err(|error| malformed(&error))
}

fn malformed(error: &dyn std::fmt::Display) -> EnvelopeError {
    EnvelopeError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const DEVICE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

    /// A good envelope with one part of its text replaced.
    fn with(old: &str, new: &str) -> Vec<u8> {
        let good = format!(
            r#"{{"v":1,"channel":"general","author":"alice","device":"{DEVICE}","n":1,"prev":null,"lamport":5,"sent_at_ms":1700000000000,"kind":"text","body":{{"text":"hello"}}}}"#
        );
        assert!(good.contains(old), "{old}");
        good.replacen(old, new, 1).into_bytes()
    }

    #[test]
    fn a_good_one_is_read() {
        let envelope = Envelope::parse(&with("", "")).unwrap();
        assert_eq!(envelope.body.text(), Some("hello"));
        assert_eq!((envelope.n, envelope.prev, envelope.lamport), (1, None, 5));
        assert_eq!(envelope.to_bytes(), with("", ""));
    }

    #[test]
    fn every_kind_round_trips() {
        let bodies = [
            (r#""kind":"text","body":{"text":"\"\\\n\u0000é漢"}"#, "text"),
            (r#""kind":"channel.create","body":{"visibility":"private"}"#, "channel.create"),
            (r#""kind":"member.join","body":{}"#, "member.join"),
            (r#""kind":"member.leave","body":{}"#, "member.leave"),
            (r#""kind":"member.invite","body":{"user":"bob"}"#, "member.invite"),
            (r#""kind":"member.remove","body":{"user":"bob"}"#, "member.remove"),
            (r#""kind":"text.edit","body":{"z":[1,-2,{"a":null}],"a":"b"}"#, "text.edit"),
        ];
        for (body, kind) in bodies {
            let bytes = with(r#""kind":"text","body":{"text":"hello"}"#, body);
            let envelope = Envelope::parse(&bytes).unwrap();
            assert_eq!(envelope.body.kind(), kind);
            assert_eq!(envelope.to_bytes(), bytes);
        }
    }

    /// Replaces each `old` in a good envelope by `new`, alone, and expects the error (whatever the text of a malformed one).
    fn check_refused(cases: &[(&str, &str, EnvelopeError)]) {
        for (old, new, expected) in cases {
            let error = Envelope::parse(&with(old, new)).expect_err(new);
            let same = std::mem::discriminant(&error) == std::mem::discriminant(expected);
            let exact = matches!(expected, EnvelopeError::Malformed(_)) || error == *expected;
            assert!(same && exact, "{old} -> {}: {error:?}", &new[..new.len().min(60)]);
        }
    }

    fn malformed_somehow() -> EnvelopeError {
        EnvelopeError::Malformed(String::new())
    }

    #[test]
    fn what_is_not_the_one_form_is_refused() {
        use EnvelopeError as E;
        check_refused(&[
            // whitespace, order, escapes, numbers that another writer would choose
            ("{\"v\"", " {\"v\"", E::NotCanonical),
            (",\"channel\"", ", \"channel\"", E::NotCanonical),
            (r#""v":1,"channel":"general""#, r#""channel":"general","v":1"#, E::NotCanonical),
            ("hello\"}}", "hello\" }}", E::NotCanonical),
            ("hello\"}}", "hello\"}}\n", E::NotCanonical),
            ("hello", r"h\u0065llo", E::NotCanonical),
            ("hello", r"h\/llo", E::NotCanonical),
            ("hello", r"h\u000Allo", E::NotCanonical),
            ("general", "General", E::NotCanonical),
            ("alice", "Alice", E::NotCanonical),
            ("alice", r"\u0061lice", E::NotCanonical),
            ("\"n\":1", "\"n\":1.0", malformed_somehow()),
            ("\"n\":1", "\"n\":1e0", malformed_somehow()),
            ("\"n\":1", "\"n\":01", malformed_somehow()),
            // keys
            ("\"v\":1,", "", malformed_somehow()),
            ("\"prev\":null,", "", malformed_somehow()),
            ("\"v\":1,", "\"v\":1,\"v\":1,", malformed_somehow()),
            ("\"v\":1,", "\"v\":1,\"x\":1,", malformed_somehow()),
            (r#"{"text":"hello"}"#, r#"{"text":"hello","text":"hello"}"#, malformed_somehow()),
            (r#"{"text":"hello"}"#, r#"{"text":"hello","bold":true}"#, malformed_somehow()),
            (r#"{"text":"hello"}"#, "{}", malformed_somehow()),
            // types
            ("\"v\":1", "\"v\":\"1\"", malformed_somehow()),
            ("\"general\"", "7", malformed_somehow()),
            ("\"general\"", "null", malformed_somehow()),
            ("\"hello\"", "[\"hello\"]", malformed_somehow()),
            (r#"{"text":"hello"}"#, "\"hello\"", malformed_somehow()),
            (r#"{"text":"hello"}"#, "null", malformed_somehow()),
            (DEVICE, "AQ", malformed_somehow()),
            ("null", "\"AQ\"", malformed_somehow()),
            ("\"n\":1", "\"n\":-1", malformed_somehow()),
            ("\"n\":1", "\"n\":true", malformed_somehow()),
        ]);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        use EnvelopeError as E;
        check_refused(&[
            ("\"v\":1", "\"v\":2", E::Version(2)),
            ("\"n\":1", "\"n\":0", E::OutOfRange("n")),
            ("\"n\":1", "\"n\":2", E::OutOfRange("prev")),
            ("null", &format!("\"{DEVICE}\""), E::OutOfRange("prev")),
            ("\"lamport\":5", "\"lamport\":0", E::OutOfRange("lamport")),
            ("\"lamport\":5", "\"lamport\":9007199254740992", E::OutOfRange("lamport")),
            ("\"lamport\":5", "\"lamport\":18446744073709551616", malformed_somehow()),
            ("1700000000000", "9007199254740992", E::OutOfRange("sent_at_ms")),
            ("\"general\"", "\"gen eral\"", malformed_somehow()),
            ("\"general\"", r#""gen\u0000eral""#, malformed_somehow()),
            ("\"general\"", "\"@alice+alice\"", malformed_somehow()),
            ("\"alice\"", "\"\"", malformed_somehow()),
            ("\"alice\"", &format!("\"{}\"", "a".repeat(10_000)), malformed_somehow()),
            ("\"hello\"", "\"\"", E::TextEmpty),
            ("hello", &"x".repeat(TEXT_BYTES_MAX + 1), E::TextTooLong),
            ("hello", &"x".repeat(ENVELOPE_BYTES_MAX), E::TooLarge),
            ("hello", r"\ud800", malformed_somehow()),
            // unknown kinds
            ("\"text\",", "\"Text\",", malformed_somehow()),
            ("\"text\",", "\"\",", malformed_somehow()),
            ("\"text\",", &format!("\"{}\",", "k".repeat(65)), malformed_somehow()),
            ("\"text\",\"body\":{", "\"new\",\"body\":{ ", E::NotCanonical),
            (r#""text","body":{"text":"hello"}"#, r#""new","body":[]"#, E::NotCanonical),
            (r#""text","body":{"text":"hello"}"#, r#""new","body":{"a":1,"a":1}"#, E::NotCanonical),
            (r#""text","body":{"text":"hello"}"#, r#""new","body":{"a":0.5}"#, E::NotCanonical),
            (r#""text","body":{"text":"hello"}"#, r#""member.join","body":{"a":1}"#, malformed_somehow()),
            (
                r#""text","body":{"text":"hello"}"#,
                r#""channel.create","body":{"visibility":"secret"}"#,
                malformed_somehow(),
            ),
        ]);
    }

    #[test]
    fn bytes_that_are_no_json_are_refused() {
        let mut deep = with(r#"{"text":"hello"}"#, &"[".repeat(10_000));
        for bytes in [&b""[..], b"{", b"null", b"[]", b"\xff\xfe", b"{\"v\":1}", &[0; 100], &deep] {
            assert!(matches!(Envelope::parse(bytes), Err(EnvelopeError::Malformed(_))));
        }
        deep = with("hello", "h\u{0}");
        let at = deep.iter().position(|byte| *byte == 0).unwrap();
        assert!(Envelope::parse(&deep).is_err(), "a raw control character");
        deep[at] = 0xc3;
        assert!(Envelope::parse(&deep).is_err(), "broken UTF-8");
    }

    #[test]
    fn truncated_or_changed_bytes_never_panic() {
        let good = with("", "");
        for end in 0..good.len() {
            assert!(Envelope::parse(&good[..end]).is_err());
        }
        for index in 0..good.len() {
            for flip in [1, 0x20, 0x80] {
                let mut bytes = good.clone();
                bytes[index] ^= flip;
                if let Ok(envelope) = Envelope::parse(&bytes) {
                    assert_eq!(envelope.to_bytes(), bytes, "what is read is canonical");
                }
            }
        }
    }

    #[test]
    fn a_draft_follows_its_chain() {
        let draft = || Draft {
            channel: "general".parse().unwrap(),
            author: "alice".parse().unwrap(),
            sent_at_ms: 3,
            body: Body::Join,
        };
        let device = DeviceId([1; 32]);
        let first = draft().follow(device, None, 0);
        assert_eq!((first.n, first.prev, first.lamport), (1, None, 1));
        let id = EnvelopeId::of(&first.to_bytes());
        let head = Head::of(&first, id);
        let second = draft().follow(device, Some(&head), 41);
        assert_eq!((second.n, second.prev, second.lamport), (2, Some(id), 42));
        assert_eq!(crate::check_chain(Some(&head), &second), Ok(()));
        assert_eq!(draft().follow(device, Some(&head), 0).lamport, 2, "above its own last one in any case");

        // somebody jumped to the end of time: there is room after it all the same
        let after_jump = draft().follow(device, Some(&head), NUMBER_MAX);
        assert!(Envelope::parse(&after_jump.to_bytes()).is_ok());
        let jumped = Head::of(&after_jump, id);
        assert_eq!(draft().follow(device, Some(&jumped), NUMBER_MAX).lamport, LAMPORT_HEEDED_MAX + 2);
    }

    proptest! {
        #[test]
        fn any_text_round_trips(text in "(?s).{1,300}", n in 1..=NUMBER_MAX / 2, extra in 0..NUMBER_MAX / 2,
                                sent_at_ms in 0..=NUMBER_MAX, prev in any::<[u8; 32]>()) {
            let envelope = Envelope {
                channel: "@alice+bob".parse().unwrap(),
                author: "alice".parse().unwrap(),
                device: DeviceId(prev),
                n,
                prev: (n > 1).then_some(EnvelopeId(prev)),
                lamport: n + extra,
                sent_at_ms,
                body: Body::Text { text },
            };
            let bytes = envelope.to_bytes();
            prop_assert_eq!(Envelope::parse(&bytes).unwrap(), envelope);
        }

        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Envelope::parse(&bytes).is_err());
        }
    }
}
