//! How bytes arrive means nothing: whole, cut in two at every place, byte by byte, and (requests) behind another
//! request they give the same events. For every input of both corpora and of the case files, and for what chance makes
//! of them.

use crate::corpus::reader_of;
use crate::transcript::{Reader, transcript};
use http1::{Limits, Method};
use testkit::cases::read_dir;
use testkit::corpus::corpus;

/// Longer inputs are cut at some places only.
const CUT_EVERYWHERE_MAX: usize = 256;

/// Inputs that try the limits are left to the case files.
const LENGTH_MAX: usize = 8 * 1024;

/// Changed copies made of every input.
const MUTANTS_PER_INPUT: usize = 4;

/// A request that stands before an input on the connection, and its events.
const BEFORE: &[u8] = b"GET /before HTTP/1.1\r\nHost: before\r\n\r\n";

/// What is spliced in: bytes that mean something to some reader.
const TELLING: [&[u8]; 16] = [
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\x7f",
    b"\xff",
    b"\r\n ",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
];

#[test]
fn how_bytes_arrive_means_nothing() {
    let mut chance = Chance(testkit::seed());
    let mut failures = Vec::new();
    for (name, reader, input) in inputs() {
        failures.extend(difference(&reader, &input).map(|it| format!("{name}: {it}")));
        for _ in 0..MUTANTS_PER_INPUT {
            let mutant = chance.mutate(&input);
            let what = || format!("{name} changed to {}", mutant.escape_ascii());
            failures.extend(difference(&reader, &mutant).map(|it| format!("{}: {it}", what())));
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// Every input there is, with its name and its reader.
fn inputs() -> Vec<(String, Reader, Vec<u8>)> {
    let mut inputs = Vec::new();
    for case in read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases")) {
        for block in &case.blocks {
            let reader = match block.tag.as_str() {
                "request" => Reader::Requests,
                "response" => Reader::Responses(vec![Method::Get; 4]),
                _ => continue,
            };
            inputs.push((case.name(), reader, block.bytes()));
        }
    }
    assert!(inputs.len() > 100, "the case files are there");
    let corpora = corpus().unwrap_or_default();
    inputs.extend(corpora.into_iter().map(|case| (case.name, reader_of(case.role), case.input)));
    inputs.retain(|(_, _, input)| input.len() <= LENGTH_MAX);
    inputs
}

/// The first way of arriving that gives other events than arriving whole.
fn difference(reader: &Reader, input: &[u8]) -> Option<String> {
    let limits = Limits::default();
    let whole = transcript(reader, &limits, [input]);
    let compare = |how: &str, got: String| (got != whole).then(|| format!("{how}\n{got}\ninstead of\n{whole}"));
    let step = 1 + input.len() / CUT_EVERYWHERE_MAX;
    let cuts = (0..input.len()).step_by(step);
    let mut cut = cuts.filter_map(|at| {
        let (first, second) = input.split_at(at);
        compare(&format!("cut at {at}"), transcript(reader, &limits, [first, second]))
    });
    cut.next()
        .or_else(|| compare("byte by byte", transcript(reader, &limits, testkit::byte_by_byte(input))))
        .or_else(|| pipelined(reader, input, &whole))
}

/// Behind a good request an input means what it means alone; but for empty lines in front, of which fewer are left.
fn pipelined(reader: &Reader, input: &[u8], whole: &str) -> Option<String> {
    if !matches!(reader, Reader::Requests) {
        return None;
    }
    let limits = Limits::default();
    let before = transcript(reader, &limits, [BEFORE]);
    let before = before.strip_suffix("idle\n").expect("the good request is complete");
    let got = transcript(reader, &limits, [&[BEFORE, input].concat()[..]]);
    (got != format!("{before}{whole}")).then(|| format!("pipelined\n{got}\ninstead of\n{before}{whole}"))
}

/// A small generator of pseudo-random numbers (xorshift), so that a seed says everything.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.max(1);
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    /// One to three small changes.
    fn mutate(&mut self, input: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len() + 1);
            let end = (at + 1 + self.below(8)).min(bytes.len());
            let telling = TELLING[self.below(TELLING.len())];
            match self.below(5) {
                0 => drop(bytes.splice(at..at, telling.iter().copied())),
                1 => drop(bytes.splice(at..end.max(at), telling.iter().copied())),
                2 => drop(bytes.drain(at..end.max(at))),
                3 => bytes.extend_from_within(at..end.max(at)),
                _ if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
        bytes
    }
}
