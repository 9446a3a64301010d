//! Everything a decoder says of some bytes, data merged, so that two readings can be compared.

use bytes::{Bytes, BytesMut};
use http1::{Event, Limits, Method, ParseError, RequestDecoder, RequestHead, ResponseDecoder, ResponseHead, Trailers};

/// A reading of a whole connection.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reading {
    pub(super) messages: Vec<Message>,
    pub(super) error: Option<ParseError>,
    /// Bytes that were not taken.
    pub(super) left: Vec<u8>,
}

/// One message as far as it was read.
#[derive(Debug, PartialEq)]
pub(super) struct Message {
    pub(super) head: Head,
    pub(super) content: Vec<u8>,
    pub(super) trailers: Vec<(String, Vec<u8>)>,
    pub(super) is_complete: bool,
}

/// What a head says; the head itself is kept for writing it anew.
#[derive(Debug, Clone)]
pub(super) enum Head {
    Request(RequestHead),
    Response(ResponseHead),
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.facts() == other.facts()
    }
}

impl Head {
    /// All that is told by a head, in words.
    fn facts(&self) -> String {
        match self {
            Self::Request(head) => {
                let upgrades: Vec<_> = head.upgrade().collect();
                let options: Vec<_> = head.connection_tokens().collect();
                let target = (head.method(), head.target(), head.form(), head.path(), head.query());
                let host = (head.host(), head.host_name(), head.port(), head.version());
                let rest = (head.framing(), head.keep_alive(), head.expects_continue(), upgrades, options);
                format!("{target:?} {host:?} {rest:?} {:?}", fields(head.fields()))
            }
            Self::Response(head) => {
                let upgrades: Vec<_> = head.upgrade().collect();
                let line = (head.status(), head.version(), head.reason());
                let rest = (head.framing(), head.content_length(), head.keep_alive(), upgrades);
                format!("{line:?} {rest:?} {:?}", fields(head.fields()))
            }
        }
    }
}

pub(super) fn fields(received: &Trailers) -> Vec<(String, Vec<u8>)> {
    received.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

/// Reads pieces as a server does.
pub(super) fn requests<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    let mut decoder = RequestDecoder::new(limits);
    read(pieces, |input, eof| {
        let event = if eof { decoder.handle_eof() } else { decoder.poll(input) };
        event.map(|event| event.map(|event| general(event, Head::Request)))
    })
}

/// Reads pieces as a client does that has sent requests with these methods.
pub(super) fn responses<'a>(limits: Limits, methods: &[Method], pieces: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    let mut decoder = ResponseDecoder::new(limits);
    methods.iter().for_each(|&method| decoder.expect(method));
    read(pieces, |input, eof| {
        let event = if eof { decoder.handle_eof() } else { decoder.poll(input) };
        event.map(|event| event.map(|event| general(event, Head::Response)))
    })
}

/// Low enough to be met by what a fuzzer writes. What kept to them, written anew, keeps to the default ones.
pub(super) fn low() -> Limits {
    Limits {
        head_bytes_max: 2048,
        fields_max: 20,
        target_bytes_max: 256,
        chunk_line_max: 64,
        trailer_bytes_max: 256,
        body_bytes_max: 4096,
    }
}

enum Any {
    Head(Head),
    Data(Bytes),
    Trailers(Trailers),
    End,
}

fn general<H>(event: Event<H>, wrap: impl Fn(H) -> Head) -> Any {
    match event {
        Event::Head(head) => Any::Head(wrap(head)),
        Event::Data(data) => Any::Data(data),
        Event::Trailers(trailers) => Any::Trailers(trailers),
        Event::End => Any::End,
    }
}

fn read<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    mut poll: impl FnMut(&mut BytesMut, bool) -> Result<Option<Any>, ParseError>,
) -> Reading {
    let mut reading = Reading::default();
    let mut input = BytesMut::new();
    for piece in pieces.into_iter().map(Some).chain([None]) {
        input.extend_from_slice(piece.unwrap_or_default());
        loop {
            let before = input.len();
            let event = poll(&mut input, piece.is_none());
            assert!(input.len() <= before, "bytes came from nowhere");
            match event {
                Ok(Some(event)) => reading.take(event),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(poll(&mut input, false).err(), Some(error), "an error is the last word");
                    reading.error = Some(error);
                    return reading;
                }
            }
            if piece.is_none() {
                break; // the end is told once
            }
        }
    }
    reading.left = input.to_vec();
    reading
}

impl Reading {
    fn take(&mut self, event: Any) {
        if let Any::Head(head) = event {
            let message = Message { head, content: Vec::new(), trailers: Vec::new(), is_complete: false };
            return self.messages.push(message);
        }
        let message = self.messages.last_mut().expect("a head comes first");
        assert!(!message.is_complete, "nothing comes after the end");
        match event {
            Any::Data(data) => {
                assert!(!data.is_empty(), "no empty data");
                message.content.extend_from_slice(&data);
            }
            Any::Trailers(trailers) => message.trailers = fields(&trailers),
            Any::End => message.is_complete = true,
            Any::Head(_) => {}
        }
    }
}
