//! Other people's requests against a real server: what is answered, refused and closed is what `http1`'s decoder says,
//! and that agrees with their verdicts but for the listed exceptions.

use crate::support::*;
use engine::Method;
use http1::{Event, RequestDecoder};
use testkit::RawClient;
use testkit::corpus::{CorpusCase, Role, corpus};

#[test]
fn requests_of_both_corpora_are_answered_or_refused() {
    let Some(cases) = corpus() else { return };
    let server = serve_lengths(settings());
    let requests = cases.iter().filter(|case| case.role == Role::Server);
    let failures: Vec<_> = requests.filter_map(|case| check(&server, case).err()).collect();
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// Sends the input, closes the sending side, and reads to the end.
fn check(server: &engine::Running, case: &CorpusCase) -> Result<(), String> {
    let mut client = connect(server);
    let _ = client.try_send(&case.input); // the server may close before it has everything
    client.half_close();
    let got = statuses(&mut client);
    let expected = Expected::of(&case.input);
    let describe = |why: &str| format!("{}: {why}: got {got:?}, expected {expected:?}", case.name);
    if !expected.agrees_with(&got) {
        return Err(describe("not what the decoder says"));
    }
    let is_refused = |expected: &Expected| expected.refusal.is_some() || expected.closes;
    // What only ends too early is refused for its mistake when it ends properly.
    let is_refused_in_the_end = || case.is_never_complete() || is_refused(&Expected::of(&case.with_an_end()));
    if case.is_refused && !is_refused(&expected) && !(expected.is_cut_short && is_refused_in_the_end()) {
        return Err(describe("accepted"));
    }
    if !case.is_refused && expected.refusal.is_some() {
        return Err(describe("refused"));
    }
    Ok(())
}

/// The status codes on a connection until it ends.
fn statuses(client: &mut RawClient) -> Vec<u16> {
    let bytes = client.read_to_end();
    let text = String::from_utf8_lossy(&bytes);
    let codes = text.split("HTTP/1.1 ").skip(1).filter_map(|part| part.get(..3)?.parse().ok());
    codes.filter(|code| *code != 100).collect()
}

/// What a server that reads like the decoder answers.
#[derive(Debug, Default)]
struct Expected {
    answers: Vec<u16>,
    /// The status of what is no request.
    refusal: Option<u16>,
    /// The input ended inside a request.
    is_cut_short: bool,
    /// A request closed the connection, whatever came after it.
    closes: bool,
}

impl Expected {
    fn of(input: &[u8]) -> Self {
        let mut expected = Self::default();
        let mut decoder = RequestDecoder::new(http1::Limits::default());
        let mut bytes = bytes::BytesMut::from(input);
        let mut answer = 200;
        loop {
            match decoder.poll(&mut bytes) {
                Ok(Some(Event::Head(head))) => {
                    answer = answer_to(head.method());
                    expected.closes = !head.keep_alive();
                }
                Ok(Some(Event::End)) => expected.answers.push(answer),
                Ok(Some(_)) => {}
                Ok(None) => {
                    expected.is_cut_short = decoder.handle_eof().is_err();
                    return expected;
                }
                Err(error) => {
                    expected.refusal = Some(error.status().as_u16());
                    return expected;
                }
            }
        }
    }

    fn agrees_with(&self, got: &[u16]) -> bool {
        let Some(rest) = got.strip_prefix(&self.answers[..]) else { return false };
        match (self.refusal, rest) {
            // Refused within a request's content: the answer to that request, or the refusal.
            (Some(refusal), [status]) => *status == refusal,
            (None, []) => true,
            (None, [status]) => self.is_cut_short && *status >= 400,
            (Some(_) | None, _) => false,
        }
    }
}

/// What this server answers to a complete request.
fn answer_to(method: Method) -> u16 {
    match method {
        Method::Connect => 501,
        Method::Trace => 405,
        _ => 200,
    }
}
