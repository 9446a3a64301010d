//! `docs/protocol.md` is what other implementations are written from: its frames and limits are those of this crate.

use chat::DeviceId;
use p2p::frame::{Frame, FrameBuffer};
use p2p::{Limits, limits};

fn document() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md")).unwrap()
}

/// The lines of a block of vectors.
fn vectors(text: &str, name: &str) -> Vec<(String, String)> {
    let (_, rest) =
        text.split_once(&format!("```vector {name}\n")).unwrap_or_else(|| panic!("no vectors named {name}"));
    let block = rest.split("\n```").next().unwrap();
    block.lines().map(|line| line.split_once(": ").unwrap()).map(|(key, value)| (key.into(), value.into())).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn expected(name: &str, text: &str) -> Frame {
    let value = |block: &str, key: &str| {
        vectors(text, block).into_iter().find(|(name, _)| name == key).map(|(_, value)| value).unwrap()
    };
    let device: DeviceId = value("keys", "device").parse().unwrap();
    let channel = "general".parse().unwrap();
    match name {
        "hello" => Frame::Hello { v: 1, device },
        "open" => Frame::Open { channel, version: 7 },
        "shut" => Frame::Shut { channel },
        "want-roster" => Frame::WantRoster { channel },
        "roster" => Frame::Roster {
            signature: value("roster", "signature").parse().unwrap(),
            bytes: value("roster", "bytes").into_bytes(),
        },
        "marks" => Frame::Marks { channel, marks: vec![(device, 5)] },
        "want" => Frame::Want { channel, device, from_n: 6, limit: 128 },
        "deliver" => Frame::Deliver {
            signature: value("envelope", "signature").parse().unwrap(),
            bytes: value("envelope", "bytes").into_bytes(),
        },
        "given" => Frame::Given { channel, device, n: 9, held: 12 },
        "acknowledge" => Frame::Acknowledge { channel, device, n: 9, taken: 3, known: false },
        "typing" => Frame::Typing { channel },
        "ping" => Frame::Ping,
        "pong" => Frame::Pong,
        "bye" => Frame::Bye { reason: "going away".to_owned() },
        other => panic!("no such frame: {other}"),
    }
}

#[test]
fn frames_have_the_written_bytes() {
    let text = document();
    let frames = vectors(&text, "frames");
    assert_eq!(frames.len(), 14, "every type once");
    for (name, hex) in frames {
        let frame = expected(&name, &text);
        assert_eq!(frame.to_bytes(), bytes(&hex), "{name}");
        let mut buffer = FrameBuffer::default();
        buffer.push(&bytes(&hex));
        assert_eq!(buffer.next_frame(), Ok(Some(frame)), "{name}");
    }
}

#[test]
fn the_written_limits_are_the_limits() {
    let text = document().split_whitespace().collect::<Vec<_>>().join(" ");
    let times = Limits::default();
    let sentences = [
        format!("(1 to {}: type and payload)", limits::FRAME_BYTES_MAX),
        format!("not yet taken are at most {}", limits::WINDOW_BYTES),
        format!("At most {} channels", limits::CHANNELS_PER_LINK_MAX),
        format!("list of `[device, n]`, at most {}", limits::MARKS_PER_FRAME_MAX),
        format!("at most {} unanswered on a link", limits::WANTS_MAX),
        format!("`limit` (1 to {})", limits::WANT_ENVELOPES_MAX),
        format!("{} bytes are read", limits::REASON_BYTES_MAX),
        format!("no hello in {} s", times.hello_timeout_ms / 1_000),
        format!("hears nothing for {} s", times.ping_after_ms / 1_000),
        format!("after {} s of silence", times.silent_max_ms / 1_000),
        format!("or {} s without an acknowledgement", times.acknowledge_timeout_ms / 1_000),
        format!("brings nothing for {} s", times.want_timeout_ms / 1_000),
    ];
    for sentence in sentences {
        assert!(text.contains(&sentence), "docs/protocol.md does not say: {sentence}");
    }
}
