//! A message as the HTTP API shows it.

use crate::envelope::EnvelopeError;
use crate::ids::{DeviceId, EnvelopeId, Signature};
use crate::names::{ChannelName, UserName};
use crate::sealed::Sealed;
use serde::{Deserialize, Serialize};

/// An envelope spelled out for readers that want no cryptography, together with the bytes and signature for those that
/// do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// Number in the channel's log.
    pub seq: Option<u64>,
    /// Id of the envelope.
    pub id: EnvelopeId,
    /// Where it was said.
    pub channel: ChannelName,
    /// Who said it.
    pub author: UserName,
    /// From which device.
    pub device: DeviceId,
    /// Its number in the device's chain.
    pub n: u64,
    /// Its Lamport time.
    pub lamport: u64,
    /// The device's clock, milliseconds since 1970.
    pub sent_at_ms: u64,
    /// The kind of the body.
    pub kind: String,
    /// The text, if this is a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The body, whatever its kind.
    pub body: serde_json::Value,
    /// Whether the tracker holds the device's key, so that the signature proves the tracker alone.
    pub hosted: bool,
    /// The canonical bytes.
    pub envelope: String,
    /// The device's signature.
    pub signature: Signature,
}

impl MessageView {
    /// Spells out an envelope.
    pub fn new(sealed: &Sealed, seq: Option<u64>, hosted: bool) -> Self {
        let envelope = sealed.envelope();
        Self {
            seq,
            id: sealed.id(),
            channel: envelope.channel.clone(),
            author: envelope.author.clone(),
            device: envelope.device,
            n: envelope.n,
            lamport: envelope.lamport,
            sent_at_ms: envelope.sent_at_ms,
            kind: envelope.body.kind().to_owned(),
            text: envelope.body.text().map(str::to_owned),
            body: serde_json::from_str(&envelope.body.to_json()).expect("a body is JSON"),
            hosted,
            envelope: sealed.text().to_owned(),
            signature: sealed.signature(),
        }
    }

    /// Opens the bytes, which alone are to be believed; the spelled-out fields are ignored.
    pub fn open(&self) -> Result<Sealed, EnvelopeError> {
        Sealed::open(self.envelope.as_bytes(), self.signature)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::envelope::{Body, Envelope};
    use crate::keys::DeviceKey;

    fn sealed(body: Body) -> Sealed {
        let key = DeviceKey::from_seed([1; 32]);
        let envelope = Envelope {
            channel: "general".parse().unwrap(),
            author: "alice".parse().unwrap(),
            device: key.id(),
            n: 1,
            prev: None,
            lamport: 4,
            sent_at_ms: 17,
            body,
        };
        Sealed::seal(&key, &envelope).unwrap()
    }

    #[test]
    fn shows_a_message_and_opens_again() {
        let sealed = sealed(Body::Text { text: "hi".to_owned() });
        let view = MessageView::new(&sealed, Some(12), true);
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["seq"], 12);
        assert_eq!(json["text"], "hi");
        assert_eq!(json["body"]["text"], "hi");
        assert_eq!(json["hosted"], true);
        assert_eq!(json["envelope"], sealed.text());
        let read: MessageView = serde_json::from_value(json).unwrap();
        assert_eq!(read, view);
        assert_eq!(read.open().unwrap(), sealed);
    }

    #[test]
    fn other_kinds_have_a_body_and_no_text() {
        let view = MessageView::new(&sealed(Body::Invite { user: "bob".parse().unwrap() }), None, false);
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!((&json["seq"], json.get("text")), (&serde_json::Value::Null, None));
        assert_eq!(json["body"]["user"], "bob");
        let view =
            MessageView::new(&sealed(Body::Other { kind: "poll".to_owned(), raw: "{\"a\":[1]}".into() }), None, false);
        assert_eq!(serde_json::to_value(&view).unwrap()["body"]["a"][0], 1);
    }
}
