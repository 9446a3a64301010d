//! What a decoder makes of some input, as text to compare: one line per event, data merged.

use bytes::{Buf as _, BytesMut};
use http1::{
    Event, Framing, Limits, Method, ParseError, ReceivedFields, RequestDecoder, RequestHead, ResponseDecoder,
    ResponseHead,
};

/// Which decoder reads.
#[derive(Debug, Clone)]
pub(crate) enum Reader {
    Requests,
    /// With the methods of the requests that were sent.
    Responses(Vec<Method>),
}

/// Feeds the pieces one after the other, then the end of the connection.
pub(crate) fn transcript<'a>(reader: &Reader, limits: &Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    match reader {
        Reader::Requests => {
            let pieces: Vec<_> = pieces.into_iter().collect();
            let text = run(&mut RequestDecoder::new(limits.clone()), pieces.iter().copied());
            let in_place = run(&mut InPlace(RequestDecoder::new(limits.clone())), pieces);
            assert_eq!(in_place, text, "a head means the same wherever it is taken from");
            text
        }
        Reader::Responses(methods) => {
            let mut decoder = ResponseDecoder::new(limits.clone());
            for &method in methods {
                decoder.expect(method);
            }
            run(&mut decoder, pieces)
        }
    }
}

/// What both decoders have in common.
trait Decoder {
    type Head;
    fn poll(&mut self, input: &mut BytesMut) -> Result<Option<Event<Self::Head>>, ParseError>;
    fn handle_eof(&mut self) -> Result<Option<Event<Self::Head>>, ParseError>;
    fn describe(head: &Self::Head) -> String;
    fn is_switched(&self) -> bool;
}

impl Decoder for RequestDecoder {
    type Head = RequestHead;

    fn poll(&mut self, input: &mut BytesMut) -> Result<Option<Event<RequestHead>>, ParseError> {
        self.poll(input)
    }

    fn handle_eof(&mut self) -> Result<Option<Event<RequestHead>>, ParseError> {
        self.handle_eof()
    }

    fn describe(head: &RequestHead) -> String {
        let query = head.query().map_or(String::new(), |query| format!("?{query}"));
        let mut line = format!(
            "request {} {}{query} host={}{}",
            head.method(),
            head.path(),
            head.host(),
            common(head.framing(), head.keep_alive()),
        );
        if head.expects_continue() {
            line.push_str(" expects-continue");
        }
        for protocol in head.upgrade() {
            line.push_str(" upgrade=");
            line.push_str(protocol);
        }
        line + &fields(head.fields())
    }

    fn is_switched(&self) -> bool {
        false
    }
}

/// Heads are taken from where they lie, as far as they can be.
struct InPlace(RequestDecoder);

impl Decoder for InPlace {
    type Head = RequestHead;

    fn poll(&mut self, input: &mut BytesMut) -> Result<Option<Event<RequestHead>>, ParseError> {
        let mut head = None;
        let length = self.0.take_head(input, &mut head)?;
        input.advance(length);
        assert_eq!(length > 0, head.is_some());
        head.map_or_else(|| self.0.poll(input), |head| Ok(Some(Event::Head(head))))
    }

    fn handle_eof(&mut self) -> Result<Option<Event<RequestHead>>, ParseError> {
        self.0.handle_eof()
    }

    fn describe(head: &RequestHead) -> String {
        RequestDecoder::describe(head)
    }

    fn is_switched(&self) -> bool {
        false
    }
}

impl Decoder for ResponseDecoder {
    type Head = ResponseHead;

    fn poll(&mut self, input: &mut BytesMut) -> Result<Option<Event<ResponseHead>>, ParseError> {
        self.poll(input)
    }

    fn handle_eof(&mut self) -> Result<Option<Event<ResponseHead>>, ParseError> {
        self.handle_eof()
    }

    fn describe(head: &ResponseHead) -> String {
        let mut line = format!("response {}{}", head.status(), common(head.framing(), head.keep_alive()));
        if head.is_interim() {
            line.push_str(" interim");
        }
        line + &fields(head.fields())
    }

    fn is_switched(&self) -> bool {
        self.is_switched()
    }
}

fn common(framing: Framing, keep_alive: bool) -> String {
    let body = match framing {
        Framing::None => "none".to_owned(),
        Framing::Length(length) => length.to_string(),
        Framing::Chunked => "chunked".to_owned(),
        Framing::UntilClose => "until-close".to_owned(),
    };
    format!(" body={body} {}", if keep_alive { "keep-alive" } else { "close" })
}

/// Lines of their own, so that cases which are not about fields can leave them out.
fn fields(fields: &ReceivedFields) -> String {
    fields
        .iter()
        .map(|(name, value)| format!("  {name}: {}", value.escape_ascii()))
        .fold(String::new(), |lines, line| lines + "\n" + line.trim_end())
}

fn run<'a, D: Decoder>(decoder: &mut D, pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut input = BytesMut::new();
    let mut given = 0;
    let mut transcript = Transcript::default();
    for piece in pieces {
        input.extend_from_slice(piece);
        given += piece.len();
        loop {
            match decoder.poll(&mut input) {
                Ok(Some(event)) => transcript.event::<D>(event),
                Ok(None) => break,
                Err(error) => {
                    let left = input.len();
                    let again = decoder.poll(&mut input).err();
                    assert_eq!(again, Some(error), "an error is final");
                    assert_eq!(decoder.handle_eof().err(), Some(error), "an error is final");
                    assert_eq!(input.len(), left, "nothing after an error is taken");
                    return transcript.error(error);
                }
            }
        }
        assert!(input.len() <= given, "more taken than given");
    }
    match decoder.handle_eof() {
        Ok(Some(event)) => transcript.event::<D>(event),
        Ok(None) => {}
        Err(error) => return transcript.error(error),
    }
    let state = if decoder.is_switched() { "switched" } else { "idle" };
    let rest = if input.is_empty() { String::new() } else { format!(" left={}", input.escape_ascii()) };
    transcript.line(&format!("{state}{rest}"));
    transcript.text
}

#[derive(Default)]
struct Transcript {
    text: String,
    data: Vec<u8>,
}

impl Transcript {
    fn event<D: Decoder>(&mut self, event: Event<D::Head>) {
        match event {
            Event::Head(head) => self.line(&D::describe(&head)),
            Event::Data(data) => {
                assert!(!data.is_empty(), "data is never empty");
                self.data.extend_from_slice(&data);
            }
            Event::Trailers(trailers) => {
                assert!(!trailers.is_empty(), "trailers are never empty");
                self.line(&format!("trailers{}", fields(&trailers)));
            }
            Event::End => self.line("end"),
        }
    }

    fn error(mut self, error: ParseError) -> String {
        self.line(&format!("error {} {:?}", error.status(), error.kind()));
        self.text
    }

    fn line(&mut self, line: &str) {
        if !self.data.is_empty() {
            let data = std::mem::take(&mut self.data);
            self.text.push_str("data ");
            self.text.push_str(&describe_data(&data));
            self.text.push('\n');
        }
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// Long data is told by its length: the cases that have it repeat one byte.
fn describe_data(data: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 100;
    if data.len() > SHOWN_BYTES_MAX { format!("of {} bytes", data.len()) } else { data.escape_ascii().to_string() }
}

/// The transcript without the lines that list fields.
pub(crate) fn without_fields(transcript: &str) -> String {
    let lines = transcript.lines().filter(|line| !line.starts_with("  "));
    lines.fold(String::new(), |text, line| text + line + "\n")
}
