//! Runs the case files in `tests/cases`: every input whole, cut in two at every place, byte by byte,
//! and (requests) behind another request on the same connection.
//!
//! Blocks of a case: inputs (`request`, or `response to=GET,HEAD`), then what must come of each of
//! them (`events`; with the attribute `fields` also the fields). A `values` block between them is
//! put, line by line, in place of `{}` in every input. `send-response`, `send-request` and `forward`
//! are for the writing side, followed by `wire`.

use crate::transcript::{Reader, transcript, without_fields};
use crate::wire;
use http1::{Limits, Method};
use testkit::cases::{Block, Case, read_dir};

/// Inputs longer than this are cut at some places only: near both ends, and spread between.
const CUT_EVERYWHERE_MAX: usize = 2 * 1024;

/// How many places near each end of a long input are cut.
const CUTS_NEAR_ENDS: usize = 128;

/// A request that stands before the case's own on the connection, and its transcript.
const BEFORE: &[u8] = b"GET /before HTTP/1.1\r\nHost: before\r\n\r\n";
const BEFORE_EVENTS: &str = "request GET /before host=before body=none keep-alive\nend\n";

#[test]
fn every_case_file_holds() {
    let cases = read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"));
    let failures: Vec<_> = cases.iter().flat_map(check_case).collect();
    assert!(failures.is_empty(), "{} failures\n\n{}", failures.len(), failures.join("\n"));
}

fn check_case(case: &Case) -> Vec<String> {
    let mut failures = Vec::new();
    let mut inputs: Vec<&Block> = Vec::new();
    let mut values: Vec<String> = Vec::new();
    let mut checked = 0;
    for block in &case.blocks {
        match block.tag.as_str() {
            "values" => values = block.lines().map(str::to_owned).collect(),
            "events" | "wire" => {
                for input in fill(&inputs, &values) {
                    checked += 1;
                    failures.extend(
                        check(&input, block)
                            .err()
                            .map(|what| format!("{}:{} {}\n{}{what}", case.file, input.line, case.title, input.text)),
                    );
                }
                inputs.clear();
                values.clear();
            }
            _ => inputs.push(block),
        }
    }
    assert!(checked > 0 && inputs.is_empty(), "{}: inputs and outcomes do not pair", case.name());
    failures
}

/// Every input with every value in place of `{}`.
fn fill(inputs: &[&Block], values: &[String]) -> Vec<Block> {
    if values.is_empty() {
        return inputs.iter().map(|&input| input.clone()).collect();
    }
    let with = |input: &Block, value: &str| {
        let mut filled = input.clone();
        filled.text = filled.text.replace("{}", value);
        for (_, attribute) in &mut filled.attributes {
            *attribute = attribute.replace("{}", value);
        }
        assert!(filled != *input, "line {}: no place for the values", input.line);
        filled
    };
    let pairs = inputs.iter().flat_map(|&input| values.iter().map(move |value| (input, value)));
    pairs.map(|(input, value)| with(input, value)).collect()
}

fn check(input: &Block, outcome: &Block) -> Result<(), String> {
    let limits = limits(input);
    match input.tag.as_str() {
        "request" => {
            check_reading(&Reader::Requests, &limits, input, outcome)?;
            check_behind_another(&limits, input, outcome)
        }
        "response" => {
            let methods = input.attribute("to").unwrap_or("GET").split(',');
            let methods = methods.filter(|name| !name.is_empty());
            let methods: Vec<Method> = methods.map(|name| name.parse().unwrap()).collect();
            check_reading(&Reader::Responses(methods), &limits, input, outcome)
        }
        _ => same(&outcome.text, &wire::write(input), "written"),
    }
}

fn check_reading(reader: &Reader, limits: &Limits, input: &Block, outcome: &Block) -> Result<(), String> {
    let bytes = input.bytes();
    let whole = transcript(reader, limits, [&bytes[..]]);
    let shown = if outcome.attribute("fields").is_some() { whole.clone() } else { without_fields(&whole) };
    same(&outcome.text, &shown, "fed whole")?;
    for at in cuts(bytes.len()) {
        let (first, second) = bytes.split_at(at);
        same(&whole, &transcript(reader, limits, [first, second]), &format!("cut at {at}"))?;
    }
    let single = transcript(reader, limits, testkit::byte_by_byte(&bytes));
    same(&whole, &single, "byte by byte")
}

fn check_behind_another(limits: &Limits, input: &Block, outcome: &Block) -> Result<(), String> {
    let bytes = [BEFORE, &input.bytes()].concat();
    let got = without_fields(&transcript(&Reader::Requests, limits, [&bytes[..]]));
    let expect = format!("{BEFORE_EVENTS}{}", without_fields(&outcome.text));
    same(&expect, &got, "behind another request")
}

fn cuts(len: usize) -> impl Iterator<Item = usize> {
    let near_ends = move |at: usize| at < CUTS_NEAR_ENDS || at + CUTS_NEAR_ENDS > len;
    let spread = (len / CUTS_NEAR_ENDS).max(1);
    (0..len).filter(move |&at| len <= CUT_EVERYWHERE_MAX || near_ends(at) || at % spread == 0)
}

fn limits(input: &Block) -> Limits {
    let mut limits = Limits::default();
    if let Some(max) = input.attribute("body-max") {
        limits.body_bytes_max = max.parse().unwrap();
    }
    limits
}

fn same(expect: &str, got: &str, how: &str) -> Result<(), String> {
    if expect == got {
        return Ok(());
    }
    Err(format!("{how}\nexpected:\n{expect}got:\n{got}"))
}
