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

/// What is wrong with our answer, if anything. An input that ends early is not thereby refused; one
/// that goes on after the connection closed is.
fn judge(case: &CorpusCase) -> Option<String> {
    let limits = Limits::default();
    let reader = reader_of(case.role);
    let got = transcript(&reader, &limits, [&case.input[..]]);
    let error = got.lines().last().filter(|line| line.starts_with("error"));
    let cut_short = |line: &str| line.ends_with("Incomplete") || line.ends_with("NoResponse");
    let agreed =
        if case.is_refused { error.is_some() || got.contains("idle left=") } else { error.is_none_or(cut_short) };
    (!agreed).then(|| format!("{} differs:\n{}", case.name, without_fields(&got)))
}

/// What reads the inputs of a role.
pub(crate) fn reader_of(role: Role) -> Reader {
    match role {
        Role::Server => Reader::Requests,
        Role::Client => Reader::Responses(vec![Method::Get; 4]),
    }
}
