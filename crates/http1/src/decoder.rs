//! Turns received bytes into events, one message after the other.
//!
//! ```text
//!            head complete            body complete
//!   Head ────────────────▶ Body ───────────────────▶ Head, or Closed after `Connection: close`
//!    │ 101, or 2xx to CONNECT ▶ Switched
//!    └ wrong bytes anywhere   ▶ Failed
//! ```

use crate::body::Body;
use crate::framing::Facts;
use crate::head::Verdict;
use crate::lines::{LineFault, LineScan};
use crate::received::FieldSpan;
use crate::scan::{self, ScannedRequest};
use crate::section::{NameRule, Section, SectionLimits};
use crate::start_line::{self, RequestLine, StatusLine};
use crate::{ErrorKind, Framing, Limits, Method, ParseError, ReceivedFields, RequestHead, ResponseHead, Trailers};
use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

/// Empty lines ignored before a request line (RFC 9112 §2.2 asks for one).
const LEADING_LINES_MAX: u8 = 2;

/// Interim responses accepted before a final one; servers send one or two.
const INTERIM_MAX: u8 = 16;

/// Requests in flight kept without allocating.
const EXPECTED_INLINE: usize = 8;

/// What was read. Per message: `Head`, any number of `Data`, at most one `Trailers`, `End`.
///
/// An interim response ([`ResponseHead::is_interim`]) is a `Head` alone; a `Head` that switches
/// protocols (101, or 2xx to `CONNECT`) is the last event of all.
#[derive(Debug, Clone)]
pub enum Event<Head> {
    /// A start line and its fields.
    Head(Head),
    /// Some bytes of the body, never empty; how they are cut means nothing.
    Data(Bytes),
    /// Fields after the last chunk; absent if there were none.
    Trailers(Trailers),
    /// The message is complete.
    End,
}

/// The same as [`Event`] for a caller that keeps the head in a place of its own: nothing large is
/// moved.
#[derive(Debug)]
pub enum Step {
    /// A head is in the caller's slot.
    Head,
    /// Some bytes of the body, never empty.
    Data(Bytes),
    /// Fields after the last chunk.
    Trailers(Box<Trailers>),
    /// The message is complete.
    End,
}

/// Reads requests: the server role.
///
/// Events of the next pipelined request follow those of the first without a pause. A caller that
/// may switch protocols stops polling after that request's `End`: what is left in `input` then
/// belongs to the new protocol. After a request that closes the connection nothing more is taken.
#[derive(Debug)]
pub struct RequestDecoder {
    limits: Limits,
    state: State,
    partial: Option<Box<PartialHead<RequestLine>>>,
    leading_lines: u8,
    keep_alive: bool,
}

/// Reads responses: the client role.
#[derive(Debug)]
pub struct ResponseDecoder {
    limits: Limits,
    state: State,
    partial: Option<Box<PartialHead<StatusLine>>>,
    /// Methods of the requests whose final response has not ended, oldest first.
    expected: SmallVec<[Method; EXPECTED_INLINE]>,
    interim: u8,
    keep_alive: bool,
}

#[derive(Debug)]
enum State {
    Head,
    /// A head was taken whose message ends with it.
    NoBody,
    Body(Body),
    /// The last message was the last; what follows is not looked at.
    Closed,
    /// What follows is another protocol's.
    Switched,
    Failed(ParseError),
}

impl State {
    /// After a head whose body ends in this way.
    #[inline]
    fn of_body(framing: Framing, limits: &Limits) -> Result<Self, ErrorKind> {
        if framing.is_empty() { Ok(Self::NoBody) } else { Body::new(framing, limits).map(Self::Body) }
    }
}

/// A head as far as it was read; `Line` is its first line. A head that comes whole is never one for longer than a
/// call; only what comes in parts is kept.
#[derive(Debug)]
struct PartialHead<Line> {
    line: Option<Line>,
    section: Section,
    facts: Facts,
}

impl RequestDecoder {
    /// Starts before the first request of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Head, partial: None, leading_lines: 0, keep_alive: true }
    }

    /// Takes the next event from the front of `input`; `None` means that more bytes are needed.
    ///
    /// Bytes already looked at must stay at the front of `input` until they are taken here.
    ///
    /// # Errors
    /// The bytes are no request. The same error is returned ever after; `input` keeps the rest.
    pub fn poll(&mut self, input: &mut BytesMut) -> Result<Option<Event<RequestHead>>, ParseError> {
        let mut head = None;
        Ok(self.poll_into(input, &mut head)?.map(|step| step.with_head(head)))
    }

    /// Takes the next event from the front of `input`, and puts a head into `head`, where it is built: the way for
    /// those who are in a hurry. After [`Step::Head`] the slot is filled; after an error what it holds means nothing.
    ///
    /// # Errors
    /// As [`RequestDecoder::poll`].
    pub fn poll_into(
        &mut self,
        input: &mut BytesMut,
        head: &mut Option<RequestHead>,
    ) -> Result<Option<Step>, ParseError> {
        if matches!(self.state, State::Head) {
            let length = self.take_head(input, head)?;
            if length > 0 {
                input.advance(length);
                return Ok(Some(Step::Head));
            }
            return match self.poll_partial(input, head) {
                Ok(true) => Ok(Some(Step::Head)),
                Ok(false) => Ok(None),
                Err(kind) => Err(self.fail(kind)),
            };
        }
        let step = match &mut self.state {
            State::NoBody => Ok(Some(Step::End)),
            State::Body(body) => body.poll(input, &self.limits, NameRule::Strict),
            State::Head | State::Closed | State::Switched => return Ok(None),
            State::Failed(error) => return Err(*error),
        };
        if let Ok(Some(Step::End)) = step {
            self.state = if self.keep_alive { State::Head } else { State::Closed };
        }
        step.map_err(|kind| self.fail(kind))
    }

    /// Takes a head of the common shapes from where it was received, which is the way for those who are in a greater hurry
    /// still: how long it is. 0 where there is none, or anything else; then these bytes are for
    /// [`RequestDecoder::poll_into`], which would have said the same of the head.
    ///
    /// # Errors
    /// As [`RequestDecoder::poll`].
    #[inline]
    pub fn take_head(&mut self, input: &[u8], head: &mut Option<RequestHead>) -> Result<usize, ParseError> {
        if !matches!(self.state, State::Head) || self.partial.is_some() {
            return Ok(0);
        }
        let mut facts = Facts::default();
        let Some(ScannedRequest { line, fields, length }) = scan::request_head(input, &self.limits, &mut facts) else {
            return Ok(0);
        };
        let bytes = &input[..length];
        if let Some(verdict) = Verdict::usual(&line, &facts) {
            self.leading_lines = 0;
            self.keep_alive = true;
            self.state = State::NoBody;
            *head = Some(RequestHead::new(bytes, line, fields, verdict));
            return Ok(length);
        }
        match self.judge(bytes, line, fields, &facts) {
            Ok(judged) => *head = Some(judged),
            Err(kind) => return Err(self.fail(kind)),
        }
        Ok(length)
    }

    /// Takes the end of a request that has no content: what [`RequestDecoder::poll_into`] does in that case, without
    /// asking what else there could be. False where there is content, or no request.
    #[inline]
    pub fn take_end(&mut self) -> bool {
        let is_there = matches!(self.state, State::NoBody);
        if is_there {
            self.state = if self.keep_alive { State::Head } else { State::Closed };
        }
        is_there
    }

    /// Says that no bytes follow those polled so far. Call it when `poll` has returned `None`.
    ///
    /// # Errors
    /// [`Incomplete`](crate::ErrorKind::Incomplete) in the middle of a request.
    pub fn handle_eof(&mut self) -> Result<Option<Event<RequestHead>>, ParseError> {
        let ended = match &mut self.state {
            State::Failed(error) => return Err(*error),
            State::NoBody => Ok(Some(Event::End)),
            State::Body(body) => body.handle_eof().map(|()| Some(Event::End)),
            State::Head if self.partial.is_some() => Err(ErrorKind::Incomplete),
            State::Head | State::Closed | State::Switched => Ok(None),
        };
        if ended.is_ok() {
            self.state = State::Closed;
        }
        ended.map_err(|kind| self.fail(kind))
    }

    /// Whether the decoder stands between two requests and has seen no byte of the next.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.partial.is_none()
    }

    /// Whether a head has been taken whose `End` has not.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, State::NoBody | State::Body(_))
    }

    /// Reads a head that is not of the common shape, or not yet complete.
    #[cold]
    fn poll_partial(&mut self, input: &mut BytesMut, slot: &mut Option<RequestHead>) -> Result<bool, ErrorKind> {
        if self.partial.is_none() && !self.skip_leading_lines(input)? {
            return Ok(false);
        }
        let mut partial = self.partial.take().unwrap_or_default();
        if partial.line.is_none() {
            partial.line = request_line(&mut partial.section.lines, input, &self.limits)?;
        }
        let complete = partial.read_fields(input, &self.limits, NameRule::Strict, Facts::note_request)?;
        if !complete {
            self.partial = Some(partial);
            return Ok(false);
        }
        let PartialHead { line: Some(line), section, facts } = *partial else { return Ok(false) };
        let length = section.lines.start();
        *slot = Some(self.judge(&input[..length], line, section.fields, &facts)?);
        input.advance(length);
        Ok(true)
    }

    /// Judges a head that came as these bytes.
    fn judge(
        &mut self,
        bytes: &[u8],
        line: RequestLine,
        fields: ReceivedFields,
        facts: &Facts,
    ) -> Result<RequestHead, ErrorKind> {
        let verdict = Verdict::of(&line, facts)?;
        self.leading_lines = 0;
        self.keep_alive = verdict.keep_alive;
        self.state = State::of_body(verdict.framing, &self.limits)?;
        Ok(RequestHead::new(bytes, line, fields, verdict))
    }

    /// Drops empty lines in front; false when the first byte of a request is not there yet.
    fn skip_leading_lines(&mut self, input: &mut BytesMut) -> Result<bool, ErrorKind> {
        loop {
            match input[..] {
                [] | [b'\r'] => return Ok(false),
                [b'\r', b'\n', ..] if self.leading_lines == LEADING_LINES_MAX => {
                    return Err(ErrorKind::LeadingLines);
                }
                [b'\r', b'\n', ..] => {
                    self.leading_lines += 1;
                    input.advance(2);
                }
                [b'\r' | b'\n', ..] => return Err(ErrorKind::LineEnd),
                [byte, ..] if !crate::ascii::is_tchar(byte) => return Err(ErrorKind::Method),
                _ => return Ok(true),
            }
        }
    }

    fn fail(&mut self, kind: ErrorKind) -> ParseError {
        let error = ParseError::request(kind);
        self.state = State::Failed(error);
        error
    }
}

impl ResponseDecoder {
    /// Starts before the first response of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Head, partial: None, expected: SmallVec::new(), interim: 0, keep_alive: true }
    }

    /// Announces that a request with this method was sent: its response is framed accordingly.
    /// Called once per request, in the order sent.
    pub fn expect(&mut self, method: Method) {
        self.expected.push(method);
    }

    /// How many announced requests have no complete final response yet.
    pub fn expected(&self) -> usize {
        self.expected.len()
    }

    /// Takes the next event from the front of `input`; `None` means that more bytes are needed, or,
    /// after the protocol was switched, that the bytes are no longer HTTP.
    ///
    /// # Errors
    /// The bytes are no response, or nobody asked for one. The same error is returned ever after.
    pub fn poll(&mut self, input: &mut BytesMut) -> Result<Option<Event<ResponseHead>>, ParseError> {
        let mut head = None;
        Ok(self.poll_into(input, &mut head)?.map(|step| step.with_head(head)))
    }

    /// Takes the next event from the front of `input`, and puts a head into `head`; see
    /// [`RequestDecoder::poll_into`].
    ///
    /// # Errors
    /// As [`ResponseDecoder::poll`].
    pub fn poll_into(
        &mut self,
        input: &mut BytesMut,
        head: &mut Option<ResponseHead>,
    ) -> Result<Option<Step>, ParseError> {
        let step = match &mut self.state {
            State::Head => self.poll_head(input, head),
            State::NoBody => Ok(Some(Step::End)),
            State::Body(body) => body.poll(input, &self.limits, NameRule::TrimBeforeColon),
            State::Closed | State::Switched => Ok(None),
            State::Failed(error) => return Err(*error),
        };
        if let Ok(Some(Step::End)) = step {
            self.end_message();
        }
        step.map_err(|kind| self.fail(kind))
    }

    /// Says that no bytes follow those polled so far: `End` if that is how the body ends.
    ///
    /// # Errors
    /// [`Incomplete`](crate::ErrorKind::Incomplete) in the middle of a response,
    /// [`NoResponse`](crate::ErrorKind::NoResponse) when one is expected and not begun.
    pub fn handle_eof(&mut self) -> Result<Option<Event<ResponseHead>>, ParseError> {
        let ended = match &mut self.state {
            State::Failed(error) => return Err(*error),
            State::NoBody => Ok(Some(Event::End)),
            State::Body(body) => body.handle_eof().map(|()| Some(Event::End)),
            State::Head if self.partial.is_some() => Err(ErrorKind::Incomplete),
            State::Head | State::Closed if !self.expected.is_empty() => Err(ErrorKind::NoResponse),
            State::Head | State::Closed | State::Switched => Ok(None),
        };
        if ended.is_ok() {
            self.keep_alive = false;
            self.end_message();
        }
        ended.map_err(|kind| self.fail(kind))
    }

    /// Says that the next `count` bytes of the body were taken without being given to the decoder. False, and nothing
    /// is skipped, where no body of a declared length has as many left.
    pub fn skip(&mut self, count: u64) -> bool {
        match &mut self.state {
            State::Body(body) => body.skip(count),
            _ => false,
        }
    }

    /// Whether no response is under way or expected: the connection may be reused if `input` is empty
    /// as well.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.partial.is_none() && self.expected.is_empty()
    }

    /// Whether the connection no longer carries HTTP: a 101, or a 2xx to `CONNECT`, was taken.
    pub fn is_switched(&self) -> bool {
        matches!(self.state, State::Switched)
    }

    fn poll_head(&mut self, input: &mut BytesMut, slot: &mut Option<ResponseHead>) -> Result<Option<Step>, ErrorKind> {
        if input.is_empty() {
            return Ok(None);
        }
        let Some(&answers) = self.expected.first() else {
            return Err(ErrorKind::UnexpectedBytes);
        };
        if self.partial.is_none()
            && let Some(mut found) = scan::response_head(input, &self.limits)
        {
            found.fields.set_bytes(&input[..found.length]);
            input.advance(found.length);
            let head = slot.insert(ResponseHead::new(found.line, &found.facts, found.fields, answers)?);
            self.after_head(head, answers)?;
            return Ok(Some(Step::Head));
        }
        self.poll_partial(input, slot, answers)
    }

    /// Reads a head that is not of the common shape, or not yet complete.
    #[cold]
    fn poll_partial(
        &mut self,
        input: &mut BytesMut,
        slot: &mut Option<ResponseHead>,
        answers: Method,
    ) -> Result<Option<Step>, ErrorKind> {
        let mut head = self.partial.take().map_or_else(PartialHead::default, |partial| *partial);
        if head.line.is_none() {
            head.line = status_line(&mut head.section.lines, input, &self.limits)?;
        }
        let complete = head.read_fields(input, &self.limits, NameRule::TrimBeforeColon, Facts::note)?;
        if !complete || head.line.is_none() {
            self.partial = Some(Box::new(head));
            return Ok(None);
        }
        let PartialHead { line: Some(line), mut section, facts } = head else { return Ok(None) };
        let length = section.lines.start();
        section.fields.set_bytes(&input[..length]);
        input.advance(length);
        let head = slot.insert(ResponseHead::new(line, &facts, section.fields, answers)?);
        self.after_head(head, answers)?;
        Ok(Some(Step::Head))
    }

    fn after_head(&mut self, head: &ResponseHead, answers: Method) -> Result<(), ErrorKind> {
        if head.is_interim() {
            self.interim += 1;
            return if self.interim > INTERIM_MAX { Err(ErrorKind::TooManyInterim) } else { Ok(()) };
        }
        let tunnel = answers == Method::Connect && head.status().is_success();
        if head.is_switching() || tunnel {
            self.expected.remove(0);
            self.state = State::Switched;
            return Ok(());
        }
        self.keep_alive = head.keep_alive();
        self.state = State::of_body(head.framing(), &self.limits)?;
        Ok(())
    }

    /// A final response is complete.
    fn end_message(&mut self) {
        if matches!(self.state, State::NoBody | State::Body(_)) {
            self.expected.remove(0);
        }
        self.interim = 0;
        self.state = match self.state {
            State::Switched => State::Switched,
            _ if self.keep_alive => State::Head,
            _ => State::Closed,
        };
    }

    fn fail(&mut self, kind: ErrorKind) -> ParseError {
        let error = ParseError::response(kind);
        self.state = State::Failed(error);
        error
    }
}

impl<Line> PartialHead<Line> {
    /// Reads on up to the empty line; false when it, or the first line, is not there yet.
    fn read_fields(
        &mut self,
        input: &[u8],
        limits: &Limits,
        rule: NameRule,
        note: impl Fn(&mut Facts, &[u8], FieldSpan) -> Result<(), ErrorKind>,
    ) -> Result<bool, ErrorKind> {
        if self.line.is_none() {
            return Ok(false);
        }
        let section_limits = SectionLimits { bytes_max: limits.head_bytes(), fields_max: limits.fields_max };
        let facts = &mut self.facts;
        self.section.read(input, section_limits, rule, |input, span| note(facts, input, span))
    }
}

impl<Line> Default for PartialHead<Line> {
    fn default() -> Self {
        Self { line: None, section: Section::default(), facts: Facts::default() }
    }
}

/// Reads the request line, if it is complete.
fn request_line(lines: &mut LineScan, input: &[u8], limits: &Limits) -> Result<Option<RequestLine>, ErrorKind> {
    let end_max = start_line::request_line_end_max(limits);
    match lines.next(input, end_max) {
        Ok(Some(line)) => start_line::request_line(&input[line], limits).map(Some),
        Ok(None) => Ok(None),
        Err(LineFault::TooLong) => Err(start_line::overlong_request_line(input)),
        Err(fault) => Err(fault.into()),
    }
}

/// Reads the status line, if it is complete.
fn status_line(lines: &mut LineScan, input: &[u8], limits: &Limits) -> Result<Option<StatusLine>, ErrorKind> {
    if !start_line::may_be_status_line(input) {
        return Err(ErrorKind::StartLine);
    }
    match lines.next(input, limits.head_bytes())? {
        Some(line) => start_line::status_line(&input[line]).map(Some),
        None => Ok(None),
    }
}

impl Step {
    /// The same with the head that was put into a slot.
    fn with_head<Head>(self, head: Option<Head>) -> Event<Head> {
        match self {
            Self::Head => Event::Head(head.expect("a slot is filled whenever a step says so")),
            Self::Data(data) => Event::Data(data),
            Self::Trailers(trailers) => Event::Trailers(*trailers),
            Self::End => Event::End,
        }
    }
}
