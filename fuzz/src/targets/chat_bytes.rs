//! What peers and trackers send each other: frames, and the envelopes in them.

use super::{pieces, project};
use chat::Envelope;
use p2p::frame::{Frame, FrameBuffer};

/// A stream of frames; the first byte says how it is cut.
pub(crate) fn frames(data: &[u8]) {
    let Some((&seed, bytes)) = data.split_first() else { return };
    let (whole, error) = read([bytes]);
    assert_eq!((whole.clone(), error), read(pieces(seed, bytes)));
    for frame in &whole {
        if *frame == Frame::Unknown {
            continue;
        }
        assert_eq!(read([&frame.to_bytes()[..]]), (vec![frame.clone()], None), "a frame reads back");
    }
}

/// All frames, and what was wrong with the bytes behind them.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<String>) {
    let mut buffer = FrameBuffer::default();
    let mut frames = Vec::new();
    for piece in pieces {
        buffer.push(piece);
        loop {
            match buffer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
    }
    (frames, None)
}

/// One envelope: exactly the canonical bytes are accepted.
pub(crate) fn envelopes(data: &[u8]) {
    if let Ok(envelope) = Envelope::parse(data) {
        assert_eq!(envelope.to_bytes(), data, "there is one way to write an envelope");
    }
}

/// The values of all lines of the protocol's document that begin with one of these names.
fn vectors(is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let text = std::fs::read_to_string(project("docs/protocol.md")).expect("the protocol is written down");
    let pairs = text.lines().filter_map(|line| line.split_once(": "));
    pairs.filter(|(name, _)| is_wanted(name)).map(|(_, value)| value.to_owned()).collect()
}

pub(crate) fn envelope_seeds() -> Vec<Vec<u8>> {
    vectors(|name| name == "bytes").into_iter().map(String::into_bytes).collect()
}

/// The frames of the document, each behind a byte that says how it is cut.
pub(crate) fn frame_seeds() -> Vec<Vec<u8>> {
    let bytes = |hex: &str| -> Option<Vec<u8>> {
        let pairs = hex.as_bytes().as_chunks::<2>().0;
        pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
    };
    let frames: Vec<_> =
        vectors(|_| true).iter().filter(|hex| hex.starts_with("000")).filter_map(|hex| bytes(hex)).collect();
    let all = frames.concat();
    frames.into_iter().chain([all]).map(|frame| [&[7][..], &frame].concat()).collect()
}
