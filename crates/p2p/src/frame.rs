//! Frames as bytes: a big-endian `u32` length, a type byte, a payload. The length counts type and payload.

use crate::limits::{FRAME_BYTES_MAX, REASON_BYTES_MAX};
use chat::{ChannelName, DeviceId, Signature};
use serde::{Deserialize, Serialize};

/// The only version of the protocol, as *hello* says it.
pub const PROTOCOL_VERSION: u64 = 1;

/// Bytes of the length before a frame.
const LENGTH_BYTES: usize = 4;
/// Bytes of the signature that starts a *roster* and a *deliver*.
const SIGNATURE_BYTES: usize = 64;
/// Types with this bit that are not known are passed over; all others that are not known break the protocol.
const OPTIONAL_BIT: u8 = 0x80;

/// What two devices say to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Who this is. The first frame of either side, and only that (type 1).
    Hello {
        /// Version of the protocol.
        v: u64,
        /// The device that sends.
        device: DeviceId,
    },
    /// The sender's roster allows the receiver in this channel (type 2).
    Open {
        /// Which channel.
        channel: ChannelName,
        /// Version of the sender's roster.
        version: u64,
    },
    /// It does not any more (type 3).
    Shut {
        /// Which channel.
        channel: ChannelName,
    },
    /// Asks for the roster that an *open* spoke of (type 4).
    WantRoster {
        /// Which channel.
        channel: ChannelName,
    },
    /// A roster with the tracker's signature (type 5).
    Roster {
        /// The tracker's signature.
        signature: Signature,
        /// The roster.
        bytes: Vec<u8>,
    },
    /// What the sender holds durably: all of these chains up to these numbers (type 6).
    Marks {
        /// Which channel.
        channel: ChannelName,
        /// Device and last number; devices left out are unchanged, at first 0.
        marks: Vec<(DeviceId, u64)>,
    },
    /// Asks for a piece of a chain (type 7).
    Want {
        /// Which channel.
        channel: ChannelName,
        /// Whose chain.
        device: DeviceId,
        /// The first number that is missing.
        from_n: u64,
        /// Most envelopes to send.
        limit: u64,
    },
    /// An envelope (type 8).
    Deliver {
        /// The author device's signature.
        signature: Signature,
        /// The envelope.
        bytes: Vec<u8>,
    },
    /// A *want* has been answered by the *deliver* frames before this (type 9).
    Given {
        /// Which channel.
        channel: ChannelName,
        /// Whose chain.
        device: DeviceId,
        /// The last number given, or the one before the first wanted if nothing was.
        n: u64,
        /// The last number that the sender holds.
        held: u64,
    },
    /// The sender holds the chain durably up to `n` (type 10).
    Acknowledge {
        /// Which channel.
        channel: ChannelName,
        /// Whose chain.
        device: DeviceId,
        /// The last number held.
        n: u64,
        /// How many *deliver* frames of this link the sender is done with since the link came up, whatever became of
        /// them.
        taken: u64,
        /// Whether what was delivered was known already: news of this chain need only be announced, not pushed.
        known: bool,
    },
    /// The user is writing (type 11).
    Typing {
        /// Where.
        channel: ChannelName,
    },
    /// Asks for a *pong* (type 12).
    Ping,
    /// Answers a *ping* (type 13).
    Pong,
    /// The sender closes the link (type 14).
    Bye {
        /// Why, for people and logs.
        reason: String,
    },
    /// A frame of a later version that may be passed over.
    Unknown,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is 0 or above [`FRAME_BYTES_MAX`].
    #[error("a frame has 1 to {FRAME_BYTES_MAX} bytes")]
    Length,
    /// The type is not known and may not be passed over.
    #[error("unknown type of frame")]
    Type,
    /// The payload is not what the type asks for.
    #[error("malformed payload")]
    Payload,
}

#[derive(Serialize, Deserialize)]
struct HelloPayload {
    v: u64,
    device: DeviceId,
}

#[derive(Serialize, Deserialize)]
struct OpenPayload {
    channel: ChannelName,
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct ChannelPayload {
    channel: ChannelName,
}

#[derive(Serialize, Deserialize)]
struct MarksPayload {
    channel: ChannelName,
    marks: Vec<(DeviceId, u64)>,
}

#[derive(Serialize, Deserialize)]
struct WantPayload {
    channel: ChannelName,
    device: DeviceId,
    from_n: u64,
    limit: u64,
}

#[derive(Serialize, Deserialize)]
struct GivenPayload {
    channel: ChannelName,
    device: DeviceId,
    n: u64,
    held: u64,
}

#[derive(Serialize, Deserialize)]
struct AcknowledgePayload {
    channel: ChannelName,
    device: DeviceId,
    n: u64,
    taken: u64,
    #[serde(default)]
    known: bool,
}

#[derive(Serialize, Deserialize)]
struct ByePayload {
    reason: String,
}

impl Frame {
    /// Appends the frame's bytes. The caller keeps the payload within [`FRAME_BYTES_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        out.push(self.type_byte());
        self.encode_payload(out);
        let length = (out.len() - start - LENGTH_BYTES) as u32;
        out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    /// The frame's bytes alone.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    fn type_byte(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Open { .. } => 2,
            Self::Shut { .. } => 3,
            Self::WantRoster { .. } => 4,
            Self::Roster { .. } => 5,
            Self::Marks { .. } => 6,
            Self::Want { .. } => 7,
            Self::Deliver { .. } => 8,
            Self::Given { .. } => 9,
            Self::Acknowledge { .. } => 10,
            Self::Typing { .. } => 11,
            Self::Ping => 12,
            Self::Pong => 13,
            Self::Bye { .. } => 14,
            Self::Unknown => OPTIONAL_BIT,
        }
    }

    fn encode_payload(&self, out: &mut Vec<u8>) {
        if let Self::Roster { signature, bytes } | Self::Deliver { signature, bytes } = self {
            out.extend_from_slice(&signature.0);
            out.extend_from_slice(bytes);
            return;
        }
        match self.clone() {
            Self::Hello { v, device } => json(out, &HelloPayload { v, device }),
            Self::Open { channel, version } => json(out, &OpenPayload { channel, version }),
            Self::Shut { channel } | Self::WantRoster { channel } | Self::Typing { channel } => {
                json(out, &ChannelPayload { channel });
            }
            Self::Marks { channel, marks } => json(out, &MarksPayload { channel, marks }),
            Self::Want { channel, device, from_n, limit } => {
                json(out, &WantPayload { channel, device, from_n, limit });
            }
            Self::Given { channel, device, n, held } => json(out, &GivenPayload { channel, device, n, held }),
            Self::Acknowledge { channel, device, n, taken, known } => {
                json(out, &AcknowledgePayload { channel, device, n, taken, known });
            }
            Self::Bye { reason } => json(out, &ByePayload { reason: cut(reason) }),
            Self::Roster { .. } | Self::Deliver { .. } | Self::Ping | Self::Pong | Self::Unknown => {}
        }
    }

    fn decode(type_byte: u8, payload: &[u8]) -> Result<Self, FrameError> {
        Ok(match type_byte {
            1 => parse(payload).map(|HelloPayload { v, device }| Self::Hello { v, device })?,
            2 => parse(payload).map(|OpenPayload { channel, version }| Self::Open { channel, version })?,
            3 => parse(payload).map(|ChannelPayload { channel }| Self::Shut { channel })?,
            4 => parse(payload).map(|ChannelPayload { channel }| Self::WantRoster { channel })?,
            5 => signed(payload).map(|(signature, bytes)| Self::Roster { signature, bytes })?,
            6 => parse(payload).map(|MarksPayload { channel, marks }| Self::Marks { channel, marks })?,
            7 => parse(payload).map(|WantPayload { channel, device, from_n, limit }| Self::Want {
                channel,
                device,
                from_n,
                limit,
            })?,
            8 => signed(payload).map(|(signature, bytes)| Self::Deliver { signature, bytes })?,
            9 => parse(payload).map(|GivenPayload { channel, device, n, held }| Self::Given {
                channel,
                device,
                n,
                held,
            })?,
            10 => parse(payload).map(|AcknowledgePayload { channel, device, n, taken, known }| Self::Acknowledge {
                channel,
                device,
                n,
                taken,
                known,
            })?,
            11 => parse(payload).map(|ChannelPayload { channel }| Self::Typing { channel })?,
            12 if payload.is_empty() => Self::Ping,
            13 if payload.is_empty() => Self::Pong,
            12 | 13 => return Err(FrameError::Payload),
            14 => parse(payload).map(|ByePayload { reason }| Self::Bye { reason: cut(reason) })?,
            _ if type_byte & OPTIONAL_BIT != 0 => Self::Unknown,
            _ => return Err(FrameError::Type),
        })
    }
}

fn json(out: &mut Vec<u8>, payload: &impl Serialize) {
    serde_json::to_writer(out, payload).expect("names, ids and numbers always serialise");
}

fn parse<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, FrameError> {
    serde_json::from_slice(payload).map_err(|_| FrameError::Payload)
}

fn signed(payload: &[u8]) -> Result<(Signature, Vec<u8>), FrameError> {
    let (signature, bytes) = payload.split_first_chunk::<SIGNATURE_BYTES>().ok_or(FrameError::Payload)?;
    Ok((Signature(*signature), bytes.to_vec()))
}

/// Shortens a reason at a character boundary.
fn cut(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}

/// Finds frames in a stream that arrives split anyhow. Holds at most one unfinished frame besides the bytes last pushed.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    /// Where the next frame starts in `bytes`.
    start: usize,
}

impl FrameBuffer {
    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next whole frame, if there is one. After an error the stream is of no more use.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.bytes[self.start..];
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(FrameError::Length);
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::decode(frame[0], &frame[1..])?;
        self.start += LENGTH_BYTES + length;
        Ok(Some(frame))
    }

    /// How many bytes wait for the rest of their frame.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether no bytes wait.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn channel() -> impl Strategy<Value = ChannelName> {
        "[a-z0-9][a-z0-9._-]{0,63}".prop_map(|name| name.parse().unwrap())
    }

    fn device() -> impl Strategy<Value = DeviceId> {
        any::<[u8; 32]>().prop_map(DeviceId)
    }

    fn signature() -> impl Strategy<Value = Signature> {
        any::<u8>().prop_map(|byte| Signature([byte; 64]))
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..300)
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let marks = proptest::collection::vec((device(), any::<u64>()), 0..20);
        prop_oneof![
            (any::<u64>(), device()).prop_map(|(v, device)| Frame::Hello { v, device }),
            (channel(), any::<u64>()).prop_map(|(channel, version)| Frame::Open { channel, version }),
            channel().prop_map(|channel| Frame::Shut { channel }),
            channel().prop_map(|channel| Frame::WantRoster { channel }),
            (signature(), bytes()).prop_map(|(signature, bytes)| Frame::Roster { signature, bytes }),
            (channel(), marks).prop_map(|(channel, marks)| Frame::Marks { channel, marks }),
            (channel(), device(), any::<u64>(), any::<u64>())
                .prop_map(|(channel, device, from_n, limit)| Frame::Want { channel, device, from_n, limit }),
            (signature(), bytes()).prop_map(|(signature, bytes)| Frame::Deliver { signature, bytes }),
            (channel(), device(), any::<u64>(), any::<u64>()).prop_map(|(channel, device, n, held)| Frame::Given {
                channel,
                device,
                n,
                held
            }),
            (channel(), device(), any::<u64>(), any::<u64>(), any::<bool>())
                .prop_map(|(channel, device, n, taken, known)| Frame::Acknowledge { channel, device, n, taken, known }),
            channel().prop_map(|channel| Frame::Typing { channel }),
            Just(Frame::Ping),
            Just(Frame::Pong),
            ".{0,50}".prop_map(|reason| Frame::Bye { reason }),
            Just(Frame::Unknown),
        ]
    }

    /// Feeds `stream` in pieces of the given lengths and collects what comes out.
    fn decode(stream: &[u8], pieces: &[usize]) -> Result<Vec<Frame>, FrameError> {
        let mut buffer = FrameBuffer::default();
        let mut frames = Vec::new();
        let mut rest = stream;
        let mut pieces = pieces.iter().copied().cycle();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(pieces.next().unwrap_or(1).clamp(1, rest.len()));
            rest = after;
            buffer.push(piece);
            while let Some(frame) = buffer.next_frame()? {
                frames.push(frame);
            }
            assert!(buffer.len() < LENGTH_BYTES + FRAME_BYTES_MAX);
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(frames in proptest::collection::vec(frame(), 1..8),
                                    pieces in proptest::collection::vec(1..200_usize, 1..10)) {
            let stream: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
            prop_assert_eq!(decode(&stream, &pieces).unwrap(), frames.clone());
            prop_assert_eq!(decode(&stream, &[1]).unwrap(), frames.clone());
            prop_assert_eq!(decode(&stream, &[usize::MAX]).unwrap(), frames);
        }

        #[test]
        fn garbage_never_panics(stream in proptest::collection::vec(any::<u8>(), 0..300),
                                type_byte in any::<u8>()) {
            let _ = decode(&stream, &[7]);
            // behind a good length, so that the payload parsers see it too
            let mut framed = ((stream.len() + 1) as u32).to_be_bytes().to_vec();
            framed.push(type_byte);
            framed.extend_from_slice(&stream);
            let _ = decode(&framed, &[5]);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let framed = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat();
        let typed = |type_byte: u8, payload: &[u8]| framed(&[&[type_byte], payload].concat());
        let cases = [
            (vec![0, 0, 0, 0], FrameError::Length),
            (((FRAME_BYTES_MAX + 1) as u32).to_be_bytes().to_vec(), FrameError::Length),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), FrameError::Length),
            (typed(0, b""), FrameError::Type),
            (typed(15, b""), FrameError::Type),
            (typed(127, b"{}"), FrameError::Type),
            (typed(1, b""), FrameError::Payload),
            (typed(1, b"{\"v\":1}"), FrameError::Payload),
            (typed(1, b"{\"v\":\"1\",\"device\":\"AQ\"}"), FrameError::Payload),
            (typed(2, b"{\"channel\":\"a b\",\"version\":1}"), FrameError::Payload),
            (typed(2, b"{\"channel\":\"ab\",\"version\":-1}"), FrameError::Payload),
            (typed(2, b"{\"channel\":\"ab\",\"version\":1,\"version\":2}"), FrameError::Payload),
            (typed(5, &[0; 63]), FrameError::Payload),
            (typed(8, &[0; 63]), FrameError::Payload),
            (typed(6, b"{\"channel\":\"ab\",\"marks\":[[1,2]]}"), FrameError::Payload),
            (typed(12, b"x"), FrameError::Payload),
            (typed(14, b"\"bye\""), FrameError::Payload),
        ];
        for (stream, expected) in cases {
            assert_eq!(decode(&stream, &[1]), Err(expected), "{stream:?}");
        }
    }

    #[test]
    fn later_versions_may_add_optional_frames_and_fields() {
        let stream = [&[0, 0, 0, 2, 0x81, 7][..], &[0, 0, 0, 1, 0xff]].concat();
        assert_eq!(decode(&stream, &[3]), Ok(vec![Frame::Unknown, Frame::Unknown]));
        let payload = br#"{"channel":"ab","later":[1]}"#;
        let stream = [&[0, 0, 0, payload.len() as u8 + 1, 11][..], payload].concat();
        assert_eq!(decode(&stream, &[3]), Ok(vec![Frame::Typing { channel: "ab".parse().unwrap() }]));
    }

    #[test]
    fn reasons_are_cut_at_a_character() {
        let frame = Frame::Bye { reason: "é".repeat(REASON_BYTES_MAX) };
        let frames = decode(&frame.to_bytes(), &[9]).unwrap();
        assert_eq!(frames, [Frame::Bye { reason: "é".repeat(REASON_BYTES_MAX / 2) }]);
    }

    #[test]
    fn the_largest_marks_fit_a_frame() {
        let marks = vec![(DeviceId([255; 32]), u64::MAX); crate::limits::MARKS_PER_FRAME_MAX];
        let channel: ChannelName = "x".repeat(64).parse().unwrap();
        assert!(Frame::Marks { channel, marks }.to_bytes().len() <= FRAME_BYTES_MAX);
    }
}
