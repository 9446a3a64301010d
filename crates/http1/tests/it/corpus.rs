//! Other people's cases: our decoders agree with them but for the listed exceptions, however the bytes are cut.

use crate::transcript::{Reader, transcript, without_fields};
use http1::{Limits, Method};
use testkit::corpus::{CorpusCase, Role, corpus};

#[test]
fn both_corpora_agree() {
    let Some(cases) = corpus() else { return };
    let differences: Vec<_> = cases.iter().filter_map(judge).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What is wrong with our answer, if anything. An input that ends early is not thereby refused: it has to be with an end
/// behind it. One that goes on after the connection closed is.
fn judge(case: &CorpusCase) -> Option<String> {
    let limits = Limits::default();
    let read = |input: &[u8]| {
        let text = transcript(&reader_of(case.role), &limits, [input]);
        // As many responses were asked for as there are: what is left is nobody's.
        let answers = text.lines().filter(|line| line.starts_with("response ") && !line.ends_with(" interim")).count();
        match text.lines().last() {
            Some(last) if last.ends_with("NoResponse") && answers > 0 => {
                transcript(&Reader::Responses(vec![Method::Get; answers]), &limits, [input])
            }
            _ => text,
        }
    };
    let got = read(&case.input);
    let agreed = match (case.is_refused, outcome(&got)) {
        (true, Outcome::CutShort) => {
            case.is_never_complete() || outcome(&read(&case.with_an_end())) == Outcome::Refused
        }
        (true, outcome) => outcome == Outcome::Refused,
        (false, outcome) => outcome != Outcome::Refused || got.contains("idle left="),
    };
    (!agreed).then(|| format!("{} differs:\n{}", case.name, without_fields(&got)))
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Accepted,
    /// By an error, or because the connection was closed before it.
    Refused,
    CutShort,
}

fn outcome(transcript: &str) -> Outcome {
    let last = transcript.lines().last().unwrap_or_default();
    match last {
        _ if last.starts_with("idle left=") => Outcome::Refused,
        _ if last.ends_with("Incomplete") || last.ends_with("NoResponse") => Outcome::CutShort,
        _ if last.starts_with("error") => Outcome::Refused,
        _ => Outcome::Accepted,
    }
}

/// What reads the inputs of a role.
pub(crate) fn reader_of(role: Role) -> Reader {
    match role {
        Role::Server => Reader::Requests,
        Role::Client => Reader::Responses(vec![Method::Get; 4]),
    }
}
