//! Heads, chunks and whole connections, in both roles: no panic; however the bytes are cut they read the same; and what
//! was read, written anew, reads the same again.

use super::transcript::{Head, Message, Reading, low, requests, responses};
use super::{forward, pieces, project};
use http1::{BodyEncoder, Fields, Limits, Method, is_hop_by_hop};

/// The request whose content the chunks of [`chunked`] are.
const CHUNKED_HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Methods of the requests that responses answer.
const ASKED: [Method; 4] = [Method::Get, Method::Head, Method::Get, Method::Post];

/// One or more request heads.
pub(crate) fn request_head(data: &[u8]) {
    let reading = requests(low(), [data]);
    check_requests(&reading);
    assert_eq!(reading, requests(low(), testkit::byte_by_byte(data)));
}

/// One or more response heads.
pub(crate) fn response_head(data: &[u8]) {
    let reading = responses(low(), &ASKED, [data]);
    check_responses(&reading);
    assert_eq!(reading, responses(low(), &ASKED, testkit::byte_by_byte(data)));
}

/// The chunks of one request's content.
pub(crate) fn chunked(data: &[u8]) {
    let whole = [CHUNKED_HEAD, data].concat();
    let reading = requests(low(), [&whole[..]]);
    check_requests(&reading);
    assert_eq!(reading, requests(low(), testkit::byte_by_byte(&whole)));
}

/// A connection: the first byte chooses the role and how the rest is cut.
pub(crate) fn connection(data: &[u8]) {
    let Some((&seed, bytes)) = data.split_first() else { return };
    if seed % 2 == 0 {
        let reading = requests(low(), [bytes]);
        assert_eq!(reading, requests(low(), pieces(seed, bytes)));
        check_requests(&reading);
    } else {
        let reading = responses(low(), &ASKED, [bytes]);
        assert_eq!(reading, responses(low(), &ASKED, pieces(seed, bytes)));
        check_responses(&reading);
    }
}

/// Writes every complete request anew and reads it again.
fn check_requests(reading: &Reading) {
    for message in &reading.messages {
        let Head::Request(head) = &message.head else { continue };
        if !message.is_complete || head.method() == Method::Connect {
            continue;
        }
        let mut out = Vec::new();
        let written = forward::request(&mut out, head, head.target(), is_forwarded);
        let mut body = written.expect("what was received may be sent");
        write_content(&mut out, &mut body, message);
        let again = requests(Limits::default(), [&out[..]]);
        assert_eq!(again.messages.len(), 1, "{}", out.escape_ascii());
        assert_same(message, &again.messages[0]);
    }
}

/// Writes every complete final response anew and reads it again.
fn check_responses(reading: &Reading) {
    let finals = reading.messages.iter().filter(|message| message.is_complete);
    for (message, &method) in finals.zip(&ASKED) {
        let Head::Response(head) = &message.head else { continue };
        let mut out = Vec::new();
        let written = forward::response(&mut out, head, method, is_forwarded);
        let mut written = written.expect("what was received may be sent");
        if !written.body.discards() {
            write_content(&mut out, &mut written.body, message);
        }
        let again = responses(Limits::default(), &[method], [&out[..]]);
        assert_eq!(again.messages.len(), 1, "{}", out.escape_ascii());
        assert_same(message, &again.messages[0]);
    }
}

/// What a proxy passes on as it is. It answers `Expect` itself, and writes the others anew.
fn is_forwarded(name: &[u8]) -> bool {
    let is_own = ["host", "content-length", "expect"].iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
    !is_own && !is_hop_by_hop(name)
}

fn write_content(out: &mut Vec<u8>, body: &mut BodyEncoder, message: &Message) {
    body.data(out, &message.content).expect("as long as it was declared");
    let mut trailers = Fields::new();
    for (name, value) in &message.trailers {
        trailers.append(name, value).expect("a received trailer may be sent");
    }
    body.finish(out, Some(&trailers)).expect("as long as it was declared");
}

/// What must survive being forwarded.
fn assert_same(one: &Message, other: &Message) {
    assert!(other.is_complete, "the end was written");
    assert_eq!(one.content, other.content);
    assert_eq!(one.trailers, other.trailers);
    match (&one.head, &other.head) {
        (Head::Request(one), Head::Request(other)) => {
            assert_eq!((one.method(), one.target()), (other.method(), other.target()));
            assert_eq!(kept(one.fields()), kept(other.fields()));
        }
        (Head::Response(one), Head::Response(other)) => {
            assert_eq!(one.status(), other.status());
            assert_eq!(kept(one.fields()), kept(other.fields()));
        }
        _ => unreachable!("a message keeps its kind"),
    }
}

fn kept(fields: &http1::ReceivedFields) -> Vec<(&str, &[u8])> {
    fields.iter().filter(|(name, _)| is_forwarded(name.as_bytes())).collect()
}

/// Every input block of this kind in the case files.
fn blocks(tag: &str) -> Vec<Vec<u8>> {
    let cases = testkit::cases::read_dir(project("crates/http1/tests/cases"));
    let blocks = cases.iter().flat_map(|case| &case.blocks);
    blocks.filter(|block| block.tag == tag).map(testkit::cases::Block::bytes).filter(|seed| seed.len() < 4096).collect()
}

pub(crate) fn request_seeds() -> Vec<Vec<u8>> {
    blocks("request")
}

pub(crate) fn response_seeds() -> Vec<Vec<u8>> {
    blocks("response")
}

pub(crate) fn chunked_seeds() -> Vec<Vec<u8>> {
    let heads_end = |input: &[u8]| input.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    blocks("request").iter().filter_map(|input| Some(input[heads_end(input)? + 4..].to_vec())).collect()
}

pub(crate) fn connection_seeds() -> Vec<Vec<u8>> {
    let with = |seed: u8, input: Vec<u8>| [&[seed][..], &input].concat();
    let requests = blocks("request").into_iter().map(|input| with(b' ', input));
    requests.chain(blocks("response").into_iter().map(|input| with(b'!', input))).collect()
}
