//! Other people's responses from an upstream behind a real proxy: what the client sees is what `http1`'s decoder reads
//! in them, written anew; a response that is refused becomes a 502, one that breaks off never looks complete.

use bytes::BytesMut;
use http1::{Event, Limits, Method, ResponseDecoder};
use testkit::corpus::{CorpusCase, Role, corpus};

use crate::harness::*;

#[test]
fn responses_of_the_corpus_are_relayed_or_refused() {
    let Some(cases) = corpus() else { return };
    let responses = cases.iter().filter(|case| case.role == Role::Client);
    let failures: Vec<_> = responses.filter_map(|case| check(case).err()).collect();
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

fn check(case: &CorpusCase) -> Result<(), String> {
    let upstream = answering(case.input.clone(), true);
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: corpus\r\nConnection: close\r\n\r\n");
    let got = Seen::of(&client.read_to_end());
    let sent = Seen::of(&case.input);
    let agrees = match &sent {
        Seen::Nothing => matches!(got, Seen::Whole { status: 502, .. }),
        Seen::Whole { .. } => got == sent,
        // The head may have left before the fault was seen.
        Seen::Broken { status } => {
            got == Seen::Broken { status: *status } || matches!(got, Seen::Whole { status: 502, .. })
        }
    };
    if agrees { Ok(()) } else { Err(format!("{}: sent {sent:?}, the client saw {got:?}", case.name)) }
}

/// What a client makes of the bytes on a connection that then ends.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// A complete final response.
    Whole { status: u16, content: Vec<u8> },
    /// A final response that breaks off.
    Broken { status: u16 },
    /// None.
    Nothing,
}

impl Seen {
    fn of(bytes: &[u8]) -> Self {
        let mut decoder = ResponseDecoder::new(Limits::default());
        decoder.expect(Method::Get);
        let mut input = BytesMut::from(bytes);
        let mut final_status = None;
        let mut content = Vec::new();
        loop {
            let event = match decoder.poll(&mut input) {
                Ok(None) => decoder.handle_eof(),
                event => event,
            };
            match (event, final_status) {
                // A protocol that nobody asked for is no answer.
                (Ok(Some(Event::Head(head))), _) if head.is_switching() => return Self::Nothing,
                (Ok(Some(Event::Head(head))), _) if head.is_interim() => {}
                (Ok(Some(Event::Head(head))), _) => final_status = Some(head.status().as_u16()),
                (Ok(Some(Event::Data(data))), _) => content.extend_from_slice(&data),
                (Ok(Some(Event::Trailers(_))), _) => {}
                (Ok(Some(Event::End)), Some(status)) => return Self::Whole { status, content },
                (_, Some(status)) => return Self::Broken { status },
                (_, None) => return Self::Nothing,
            }
        }
    }
}
