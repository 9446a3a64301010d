//! `docs/protocol.md` is what other implementations are written from: its vectors are what this crate does.

use chat::auth::challenge_text;
use chat::{DeviceKey, Envelope, EnvelopeId, Sealed, SignedRoster, TrackerKey, check_chain};

/// The blocks of one name, each as its `key: value` lines.
fn vectors(name: &str) -> Vec<Vec<(String, String)>> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md")).unwrap();
    let opening = format!("```vector {name}\n");
    let blocks: Vec<_> = text
        .split(&opening)
        .skip(1)
        .map(|rest| {
            let block = rest.split("\n```").next().unwrap();
            let pair =
                |line: &str| line.split_once(": ").map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap();
            block.lines().map(pair).collect()
        })
        .collect();
    assert!(!blocks.is_empty(), "no vectors named {name}");
    blocks
}

fn value<'a>(block: &'a [(String, String)], key: &str) -> &'a str {
    &block.iter().find(|(name, _)| name == key).unwrap_or_else(|| panic!("no {key}")).1
}

fn seed(block: &[(String, String)], key: &str) -> [u8; 32] {
    let hex = value(block, key);
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

fn keys() -> (DeviceKey, TrackerKey) {
    let keys = &vectors("keys")[0];
    (DeviceKey::from_seed(seed(keys, "device seed")), TrackerKey::from_seed(seed(keys, "tracker seed")))
}

#[test]
fn keys_have_the_written_public_halves() {
    let (device, tracker) = keys();
    let written = &vectors("keys")[0];
    assert_eq!(device.id().to_string(), value(written, "device"));
    assert_eq!(tracker.id().to_string(), value(written, "tracker"));
}

#[test]
fn envelopes_have_the_written_bytes_ids_and_signatures() {
    let (device, _) = keys();
    let mut head = None;
    let mut kinds = Vec::new();
    for block in vectors("envelope") {
        let bytes = value(&block, "bytes").as_bytes();
        let envelope = Envelope::parse(bytes).unwrap();
        assert_eq!(envelope.to_bytes(), bytes);
        let sealed = Sealed::seal(&device, &envelope).unwrap();
        assert_eq!(sealed.bytes(), bytes);
        assert_eq!(sealed.id().to_string(), value(&block, "id"));
        assert_eq!(sealed.signature().to_string(), value(&block, "signature"));
        assert_eq!(Sealed::open(bytes, value(&block, "signature").parse().unwrap()).unwrap(), sealed);
        // those of `general` are one chain
        if !envelope.channel.is_direct() {
            assert_eq!(check_chain(head.as_ref(), &envelope), Ok(()));
            head = Some(chat::Head::of(&envelope, EnvelopeId::of(bytes)));
        }
        kinds.push(envelope.body.kind().to_owned());
    }
    assert_eq!(kinds, ["channel.create", "text", "text", "member.invite", "reaction", "text"]);
}

#[test]
fn envelopes_written_as_refused_are_refused() {
    let block = &vectors("refused")[0];
    assert!(block.len() > 10);
    for (_, bytes) in block {
        assert!(Envelope::parse(bytes.as_bytes()).is_err(), "{bytes}");
    }
}

#[test]
fn the_roster_has_the_written_bytes_and_signature() {
    let (device, tracker) = keys();
    let block = &vectors("roster")[0];
    let signature = value(block, "signature").parse().unwrap();
    let opened = SignedRoster::open(value(block, "bytes").as_bytes(), signature, &tracker.id()).unwrap();
    assert_eq!(opened.roster().version, 7);
    assert_eq!(opened.roster().allows(&device.id()).unwrap().as_str(), "alice");
    let signed = SignedRoster::sign(&tracker, opened.roster()).unwrap();
    assert_eq!((signed.text(), signed.signature()), (value(block, "bytes"), signature));
}

#[test]
fn the_challenge_has_the_written_text_and_signature() {
    let (device, tracker) = keys();
    let block = &vectors("challenge")[0];
    let text =
        challenge_text(&tracker.id(), value(block, "nonce"), &value(block, "user").parse().unwrap(), &device.id());
    let written: String = serde_json::from_str(value(block, "text")).unwrap();
    assert_eq!(String::from_utf8(text.clone()).unwrap(), written);
    assert_eq!(device.sign(&text).to_string(), value(block, "signature"));
}

#[test]
fn the_written_limits_are_the_limits() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md")).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let sentences = [
        format!("1 to {} bytes of UTF-8", chat::TEXT_BYTES_MAX),
        format!("An envelope has at most {} bytes", chat::ENVELOPE_BYTES_MAX),
        format!("1 to {} characters of `A-Z a-z", chat::USER_NAME_BYTES_MAX),
        format!("plain (1 to {} characters", chat::CHANNEL_NAME_BYTES_MAX),
        format!("any other, 1 to {} of", chat::KIND_BYTES_MAX),
        format!("at most {} deep", chat::BODY_DEPTH_MAX),
        format!("at most {} MiB and {} devices", chat::ROSTER_BYTES_MAX >> 20, chat::ROSTER_DEVICES_MAX),
    ];
    for sentence in sentences {
        assert!(text.contains(&sentence), "docs/protocol.md does not say: {sentence}");
    }
}
