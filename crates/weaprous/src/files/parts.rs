//! The content of an answer: all of a file, one part, or several as `multipart/byteranges` (RFC 9110 §14.6).

use super::range::Part;
use bytes::{Bytes, BytesMut};
use engine::{Body, BodyError, Source};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Bytes(Bytes),
    File(Arc<File>),
}

impl Content {
    pub(crate) fn part(&self, part: Part) -> Body {
        match self {
            // The numbers are positions in memory, so they fit.
            Self::Bytes(bytes) => bytes.slice(part.first as usize..=part.last as usize).into(),
            Self::File(file) => file_body(file, part.first, part.len()),
        }
    }

    pub(crate) fn whole(&self, len: u64) -> Body {
        match self {
            Self::Bytes(bytes) => bytes.clone().into(),
            Self::File(file) => file_body(file, 0, len),
        }
    }

    /// Several parts, each with the media type and the length of the whole.
    pub(crate) fn parts(&self, parts: &[Part], media_type: &str, total: u64) -> Multipart {
        let boundary = boundary();
        let mut pieces = VecDeque::with_capacity(parts.len() * 2 + 1);
        let mut head = String::new();
        for part in parts {
            let _ = write!(
                head,
                "\r\n--{boundary}\r\ncontent-type: {media_type}\r\ncontent-range: bytes {}-{}/{total}\r\n\r\n",
                part.first, part.last
            );
            pieces.push_back(Piece::Text(std::mem::take(&mut head).into()));
            pieces.push_back(match self {
                Self::Bytes(bytes) => Piece::Text(bytes.slice(part.first as usize..=part.last as usize)),
                Self::File(file) => Piece::Read(Body::from_file(Arc::clone(file), part.first, part.len())),
            });
        }
        pieces.push_back(Piece::Text(format!("\r\n--{boundary}--\r\n").into()));
        let len = pieces.iter().map(Piece::left).sum();
        let body = match self {
            Self::Bytes(_) => together(&pieces, len).into(),
            Self::File(_) => Body::from_source(Pieces { pieces }),
        };
        Multipart { boundary, body }
    }
}

/// Several parts as one content.
#[derive(Debug)]
pub(crate) struct Multipart {
    pub(crate) boundary: String,
    pub(crate) body: Body,
}

fn file_body(file: &Arc<File>, start: u64, len: u64) -> Body {
    if len == 0 { Body::Empty } else { Body::from_file(Arc::clone(file), start, len) }
}

enum Piece {
    Text(Bytes),
    Read(Body),
}

impl Piece {
    fn left(&self) -> u64 {
        match self {
            Self::Text(bytes) => bytes.len() as u64,
            Self::Read(body) => body.exact_len().unwrap_or_default(),
        }
    }
}

fn together(pieces: &VecDeque<Piece>, len: u64) -> Bytes {
    let mut all = BytesMut::with_capacity(len as usize);
    for piece in pieces {
        if let Piece::Text(bytes) = piece {
            all.extend_from_slice(bytes);
        }
    }
    all.freeze()
}

/// Pieces one after another.
struct Pieces {
    pieces: VecDeque<Piece>,
}

impl Source for Pieces {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match self.pieces.front_mut() {
                None => return Poll::Ready(None),
                Some(Piece::Text(bytes)) => {
                    let bytes = std::mem::take(bytes);
                    self.pieces.pop_front();
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Some(Piece::Read(body)) => match ready!(body.poll_chunk(cx)) {
                    Some(chunk) => return Poll::Ready(Some(chunk)),
                    None => drop(self.pieces.pop_front()),
                },
            }
        }
    }

    fn exact_len(&self) -> Option<u64> {
        Some(self.pieces.iter().map(Piece::left).sum())
    }
}

/// A line that stands in no content but by a chance of 2⁻¹²⁸.
fn boundary() -> String {
    let mut random = [0; 16];
    // Without randomness the parts are still told apart unless somebody wrote the file to confuse them.
    let _ = getrandom::fill(&mut random);
    let mut boundary = String::with_capacity(32);
    for byte in random {
        let _ = write!(boundary, "{byte:02x}");
    }
    boundary
}
