//! What holds for every input, tried with random ones.

use crate::transcript::{Reader, transcript};
use bytes::BytesMut;
use http1::{
    Event, Fields, Framing, Limits, Method, RequestDecoder, RequestSpec, ResponseDecoder, ResponseSpec, StatusCode,
    Version, write_request_head, write_response_head,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// How many random inputs each property is tried with.
const CASES: u32 = 2_000;

/// Tries a property with inputs from the printed seed.
fn try_with<S: Strategy>(strategy: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&testkit::seed().to_le_bytes());
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    TestRunner::new_with_rng(config, rng).run(strategy, property).unwrap_or_else(|failure| panic!("{failure}"));
}

/// Pieces of messages, good and bad, so that random joining gets deep into the decoders.
const SCRAPS: [&[u8]; 40] = [
    b"GET / HTTP/1.1\r\n",
    b"POST /a?b HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 C\r\n",
    b"HTTP/1.1 204 \r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.0\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, upgrade\r\n",
    b"Upgrade: x\r\n",
    b"Expect: 100-continue\r\n",
    b"X: y\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\0",
    b"5\r\nhello\r\n",
    b"0\r\n",
    b"0\r\n\r\n",
    b"5;a=\"b\"\r\nhello\r\n",
    b"ffffffffffffffff\r\n",
    b"1\r\nx",
    b"hello",
    b":",
    b"\xff",
    b"HTTP/1.1 101 S\r\n",
    b"Content-Type: x\r\n",
    b"5",
    b";",
    b"Content-Length: 5\r\n",
    b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
];

fn input() -> impl Strategy<Value = Vec<u8>> {
    let scrap = prop_oneof![
        9 => (0..SCRAPS.len()).prop_map(|index| SCRAPS[index].to_vec()),
        1 => vec(any::<u8>(), 0..20),
    ];
    vec(scrap, 0..20).prop_map(|scraps| scraps.concat())
}

fn reader() -> impl Strategy<Value = Reader> {
    let methods = vec((0..Method::ALL.len()).prop_map(|index| Method::ALL[index]), 0..4);
    prop_oneof![Just(Reader::Requests), methods.prop_map(Reader::Responses)]
}

#[test]
fn how_input_is_cut_means_nothing() {
    let places = vec(any::<prop::sample::Index>(), 0..8);
    try_with(&(reader(), input(), places), |(reader, input, places)| {
        let limits = Limits { trailer_bytes_max: 64, body_bytes_max: 64, ..Limits::default() };
        let mut cuts: Vec<_> = places.iter().map(|place| place.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([input.len()]);
        let pieces = starts.zip(ends).map(|(start, end)| &input[start..end]);
        let whole = transcript(&reader, &limits, [&input[..]]);
        prop_assert_eq!(whole, transcript(&reader, &limits, pieces));
        Ok(())
    });
}

#[test]
fn arbitrary_bytes_end_in_events_or_an_error() {
    try_with(&(reader(), vec(any::<u8>(), 0..200)), |(reader, input)| {
        transcript(&reader, &Limits::default(), [&input[..]]);
        Ok(())
    });
}

/// Field names and values that may be sent, none with a meaning for the connection.
fn app_fields() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let byte = prop_oneof![Just(b'\t'), b' '..=b'~', 0x80_u8..];
    let value = vec(byte, 0..20);
    vec(("X-[!#$%&'*+.^_`|~0-9a-zA-Z-]{0,10}", value), 0..30)
}

fn build(pairs: &[(String, Vec<u8>)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in pairs {
        fields.append(name, value).unwrap();
    }
    fields
}

fn trimmed(pairs: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let trim = |value: &[u8]| {
        let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
        let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
        value[start..end].to_vec()
    };
    pairs.iter().map(|(name, value)| (name.clone(), trim(value))).collect()
}

fn body() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), 0..300), 0..6)
}

#[test]
fn a_written_request_reads_back() {
    let target = "/[!-\"$-\\[\\]-~]{0,20}".prop_filter("no second slash", |target| !target.starts_with("//"));
    let strategy = (0..Method::ALL.len(), target, app_fields(), body(), any::<bool>(), any::<bool>());
    try_with(&strategy, |(index, target, pairs, body, chunked, keep_alive)| {
        let method = Method::ALL[index];
        prop_assume!(method != Method::Connect);
        let length = body.iter().map(Vec::len).sum::<usize>() as u64;
        let framing = if chunked { Framing::Chunked } else { Framing::Length(length) };
        let mut fields = build(&pairs);
        fields.append("Host", "h:1").unwrap();
        let spec = RequestSpec { method, target: &target, fields: &fields, framing, keep_alive };
        let mut wire = BytesMut::new();
        let mut encoder = write_request_head(&mut wire, &spec).unwrap();
        for piece in &body {
            encoder.data(&mut wire, piece).unwrap();
        }
        encoder.finish(&mut wire, None).unwrap();

        let mut decoder = RequestDecoder::new(Limits::default());
        let Some(Event::Head(head)) = decoder.poll(&mut wire).unwrap() else {
            panic!("the head is complete");
        };
        prop_assert_eq!((head.method(), head.target()), (method, target.as_str()));
        prop_assert_eq!((head.framing(), head.keep_alive()), (framing, keep_alive));
        prop_assert_eq!(received(head.fields().iter()), trimmed(&pairs));
        prop_assert_eq!(rest(|| decoder.poll(&mut wire).unwrap()), body.concat());
        prop_assert!(wire.is_empty());
        Ok(())
    });
}

#[test]
fn a_written_response_reads_back() {
    let strategy = (200_u16..600, 0..Method::ALL.len(), any::<bool>(), app_fields(), body(), 0..3_u8);
    try_with(&strategy, |(status, index, old, pairs, body, framing)| {
        let length = body.iter().map(Vec::len).sum::<usize>() as u64;
        let fields = build(&pairs);
        let spec = ResponseSpec {
            request_method: Method::ALL[index],
            request_version: if old { Version::Http10 } else { Version::Http11 },
            status: StatusCode::new(status).unwrap(),
            fields: &fields,
            framing: [Framing::Length(length), Framing::Chunked, Framing::UntilClose][usize::from(framing)],
            keep_alive: true,
            date: None,
        };
        let mut wire = BytesMut::new();
        let mut written = write_response_head(&mut wire, &spec);
        for piece in &body {
            written.body.data(&mut wire, piece).unwrap();
        }
        written.body.finish(&mut wire, None).unwrap();

        let mut decoder = ResponseDecoder::new(Limits::default());
        decoder.expect(spec.request_method);
        let Some(Event::Head(head)) = decoder.poll(&mut wire).unwrap() else {
            panic!("the head is complete");
        };
        prop_assert_eq!(head.status(), spec.status);
        prop_assert_eq!(received(head.fields().iter()), trimmed(&pairs));
        if !decoder.is_switched() {
            let mut got = rest(|| decoder.poll(&mut wire).unwrap());
            if head.framing() == Framing::UntilClose {
                decoder.handle_eof().unwrap();
            }
            let without_body = spec.request_method == Method::Head || matches!(status, 204 | 304);
            prop_assert_eq!(std::mem::take(&mut got), if without_body { Vec::new() } else { body.concat() });
            prop_assert_eq!(written.keep_alive, head.keep_alive());
        }
        prop_assert!(wire.is_empty());
        Ok(())
    });
}

/// The fields of the application among the received ones.
fn received<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<(String, Vec<u8>)> {
    fields.filter(|(name, _)| name.starts_with("X-")).map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

/// All data up to the end of the message, or of the input.
fn rest<Head>(mut poll: impl FnMut() -> Option<Event<Head>>) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(Event::Data(data)) = poll() {
        body.extend_from_slice(&data);
    }
    body
}
