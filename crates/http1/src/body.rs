//! Reads a body to its end, however it ends (RFC 9112 §6, §7).
//!
//! ```text
//!   Length ── data ──▶ Done                     UntilClose ── eof ──▶ Done
//!   ChunkLine ─▶ ChunkData ─▶ ChunkEnd ─▶ ChunkLine … ─▶ Trailers ─▶ Done
//! ```

use crate::chunked::{self, Overhead};
use crate::lines::{LineFault, LineScan};
use crate::received::FieldSpan;
use crate::section::{NameRule, Section, SectionLimits};
use crate::trailers::{self, Verdict};
use crate::{ErrorKind, Framing, Limits, Step};
use bytes::{Buf, Bytes, BytesMut};

/// The body of one message, as far as it was read.
#[derive(Debug)]
pub(crate) struct Body {
    state: State,
    /// Bytes the body may still have.
    allowance: u64,
    overhead: Overhead,
}

#[derive(Debug)]
enum State {
    Length(u64),
    UntilClose,
    ChunkLine(LineScan),
    ChunkData(u64),
    ChunkEnd,
    Trailers(Box<Section>),
    Done,
}

impl Body {
    /// Starts a body with this framing.
    ///
    /// # Errors
    /// The declared length is beyond the limit.
    pub(crate) fn new(framing: Framing, limits: &Limits) -> Result<Self, ErrorKind> {
        let state = match framing {
            Framing::Length(length) if length > limits.body_bytes_max => {
                return Err(ErrorKind::BodyTooLong);
            }
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkLine(LineScan::default()),
            Framing::UntilClose => State::UntilClose,
        };
        Ok(Self { state, allowance: limits.body_bytes_max, overhead: Overhead::default() })
    }

    /// Takes the next piece from the front of `input`.
    pub(crate) fn poll(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
        rule: NameRule,
    ) -> Result<Option<Step>, ErrorKind> {
        loop {
            match &mut self.state {
                State::Done => return Ok(Some(Step::End)),
                State::Length(left) => {
                    let data = take(input, left);
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    return Ok(data.map(Step::Data));
                }
                State::UntilClose if self.allowance == 0 && !input.is_empty() => {
                    return Err(ErrorKind::BodyTooLong);
                }
                State::UntilClose => return Ok(take(input, &mut self.allowance).map(Step::Data)),
                State::ChunkData(left) => {
                    let data = take(input, left);
                    if *left == 0 {
                        self.state = State::ChunkEnd;
                    }
                    return Ok(data.map(Step::Data));
                }
                State::ChunkEnd => {
                    if !chunk_end(input)? {
                        return Ok(None);
                    }
                    self.state = State::ChunkLine(LineScan::default());
                }
                State::ChunkLine(_) => {
                    if !self.chunk_line(input, limits)? {
                        return Ok(None);
                    }
                }
                State::Trailers(_) => return self.trailers(input, limits, rule),
            }
        }
    }

    /// Counts bytes of a body of a declared length that were taken elsewhere; false, and nothing is counted, where it
    /// cannot have as many.
    pub(crate) fn skip(&mut self, count: u64) -> bool {
        match &mut self.state {
            State::Length(left) if *left >= count => {
                *left -= count;
                if *left == 0 {
                    self.state = State::Done;
                }
                true
            }
            _ => false,
        }
    }

    /// Says that no bytes follow: an error unless that is how this body ends.
    pub(crate) fn handle_eof(&mut self) -> Result<(), ErrorKind> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(ErrorKind::Incomplete),
        }
    }

    /// Reads a chunk-size line; false when it is not complete.
    fn chunk_line(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<bool, ErrorKind> {
        let State::ChunkLine(scan) = &mut self.state else {
            return Ok(false);
        };
        let end_max = limits.chunk_line_max.saturating_add(2);
        let line = match scan.next(input, end_max) {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(false),
            Err(LineFault::TooLong) => return Err(ErrorKind::ChunkOverhead),
            Err(LineFault::BareLineFeed) => return Err(ErrorKind::LineEnd),
        };
        let size = chunked::size_line(&input[line.clone()])?;
        self.overhead.add(line.len(), size)?;
        self.spend(size)?;
        input.advance(line.end + 2);
        self.state = match size {
            0 => State::Trailers(Box::default()),
            size => State::ChunkData(size),
        };
        Ok(true)
    }

    fn trailers(&mut self, input: &mut BytesMut, limits: &Limits, rule: NameRule) -> Result<Option<Step>, ErrorKind> {
        let State::Trailers(section) = &mut self.state else {
            return Ok(None);
        };
        let section_limits = SectionLimits { bytes_max: limits.trailer_bytes(), fields_max: limits.fields_max };
        if !section.read(input, section_limits, rule, refuse_forbidden)? {
            return Ok(None);
        }
        let Section { lines, mut fields } = std::mem::take(&mut **section);
        let bytes = input.split_to(lines.start());
        fields.spans_mut().retain(|span| trailers::judge(span.name(&bytes)) == Verdict::Keep);
        fields.set_bytes(&bytes);
        self.state = State::Done;
        Ok(Some(if fields.is_empty() { Step::End } else { Step::Trailers(Box::new(fields)) }))
    }

    fn spend(&mut self, bytes: u64) -> Result<(), ErrorKind> {
        self.allowance = self.allowance.checked_sub(bytes).ok_or(ErrorKind::BodyTooLong)?;
        Ok(())
    }
}

fn refuse_forbidden(input: &[u8], span: FieldSpan) -> Result<(), ErrorKind> {
    match trailers::judge(span.name(input)) {
        Verdict::Refuse => Err(ErrorKind::ForbiddenTrailer),
        Verdict::Keep | Verdict::Drop => Ok(()),
    }
}

/// Takes as many of the `left` bytes as are there; nothing if none are.
fn take(input: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let count = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    *left -= count as u64;
    if count > COPIED_BYTES_MAX {
        return Some(input.split_to(count).freeze());
    }
    let data = (count > 0).then(|| Bytes::copy_from_slice(&input[..count]));
    input.advance(count);
    data
}

/// Content up to this is copied out of the buffer, which then stays its owner's; to share one costs about as much as to
/// copy so many bytes, and holds the whole buffer as long as the content lives.
const COPIED_BYTES_MAX: usize = 2 * 1024;

/// Takes the CRLF after a chunk's data; false when it is not complete.
fn chunk_end(input: &mut BytesMut) -> Result<bool, ErrorKind> {
    match input[..] {
        [b'\r', b'\n', ..] => {
            input.advance(2);
            Ok(true)
        }
        [] | [b'\r'] => Ok(false),
        _ => Err(ErrorKind::ChunkEnd),
    }
}
