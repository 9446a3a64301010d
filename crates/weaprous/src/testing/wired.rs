//! Messages on their way over a wire that is only a buffer: written by one side's rules, read by the other's.

use bytes::{Bytes, BytesMut};
use engine::{Body, BodyError, Fields, ParseError, RequestHead, Response, ResponseHead, Source};
use http1::{BodyEncoder, Event, Framing, Limits, Method, RequestDecoder, ResponseDecoder, ResponseSpec, Version};
use std::task::{Context, Poll, ready};

/// Content that is written chunk by chunk as it is asked for, and read back.
struct Wired {
    body: Body,
    encoder: BodyEncoder,
    wire: BytesMut,
    reader: Reader,
    is_written: bool,
    trailers: Option<Fields>,
}

enum Reader {
    Request(RequestDecoder),
    Response(ResponseDecoder),
}

enum Piece {
    Data(Bytes),
    Trailers(Fields),
    End,
}

/// Reads a request back from its written head; its content follows as it is asked for.
pub(super) fn receive_request(
    head: &[u8],
    encoder: BodyEncoder,
    body: Body,
) -> Result<(RequestHead, Body), ParseError> {
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut wire = BytesMut::from(head);
    let Some(Event::Head(head)) = decoder.poll(&mut wire)? else { panic!("a written head is complete") };
    let body = match head.framing() {
        Framing::None => Body::Empty,
        _ => carry(Reader::Request(decoder), wire, encoder, body),
    };
    Ok((head, body))
}

/// Writes a response as the engine does and reads its head back; its content follows as it is asked for.
pub(super) fn receive_response(response: Response, method: Method) -> Result<(ResponseHead, Body), ParseError> {
    let spec = ResponseSpec {
        request_method: method,
        request_version: Version::Http11,
        status: response.status,
        fields: &response.fields,
        framing: framing_of(&response, method),
        keep_alive: true,
        date: None,
    };
    let mut head = Vec::new();
    let encoder = http1::write_response_head(&mut head, &spec).body;
    let mut wire = BytesMut::from(&head[..]);
    let mut decoder = ResponseDecoder::new(Limits::default());
    decoder.expect(method);
    let Some(Event::Head(head)) = decoder.poll(&mut wire)? else { panic!("a written head is complete") };
    let body = match head.framing() {
        Framing::None => Body::Empty,
        _ => carry(Reader::Response(decoder), wire, encoder, response.body),
    };
    Ok((head, body))
}

/// As in the engine: how the content ends, or would have ended for `HEAD`.
fn framing_of(response: &Response, method: Method) -> Framing {
    let declared = || response.fields.get_str("content-length")?.parse().ok();
    match response.body.exact_len() {
        Some(0) if method == Method::Head || response.status.as_u16() == 304 => {
            declared().map_or(Framing::None, Framing::Length)
        }
        Some(0) if response.status.forbids_body() => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    }
}

fn carry(reader: Reader, wire: BytesMut, encoder: BodyEncoder, body: Body) -> Body {
    Body::from_source(Wired { body, encoder, wire, reader, is_written: false, trailers: None })
}

impl Source for Wired {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match self.reader.next(&mut self.wire) {
                Ok(Some(Piece::Data(data))) => return Poll::Ready(Some(Ok(data))),
                Ok(Some(Piece::Trailers(trailers))) => self.trailers = Some(trailers),
                Ok(Some(Piece::End)) => return Poll::Ready(None),
                Ok(None) if self.is_written => return Poll::Ready(Some(Err(BodyError::Closed))),
                Ok(None) => match ready!(self.poll_write(cx)) {
                    Ok(()) => {}
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    fn exact_len(&self) -> Option<u64> {
        self.body.exact_len().filter(|_| self.encoder.remaining().is_some())
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }
}

impl Wired {
    /// Puts the next chunk, or the end, on the wire.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let chunk = ready!(self.body.poll_chunk(cx)).transpose()?;
        let written = if let Some(chunk) = chunk {
            self.encoder.data(&mut self.wire, &chunk)
        } else {
            self.is_written = true;
            let trailers = self.body.trailers();
            self.encoder.finish(&mut self.wire, trailers.as_ref())
        };
        Poll::Ready(written.map_err(|error| BodyError::Source(error.into())))
    }
}

impl Reader {
    fn next(&mut self, wire: &mut BytesMut) -> Result<Option<Piece>, ParseError> {
        match self {
            Self::Request(decoder) => Ok(decoder.poll(wire)?.and_then(piece)),
            Self::Response(decoder) => Ok(decoder.poll(wire)?.and_then(piece)),
        }
    }
}

fn piece<Head>(event: Event<Head>) -> Option<Piece> {
    match event {
        Event::Data(data) => Some(Piece::Data(data)),
        Event::Trailers(received) => {
            let mut fields = Fields::new();
            for (name, value) in received.iter() {
                fields.append(name, value).ok()?;
            }
            Some(Piece::Trailers(fields))
        }
        Event::End => Some(Piece::End),
        Event::Head(_) => None,
    }
}
