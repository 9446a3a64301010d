//! Keeps `docs/conformance.md` true: every row is there, and what it says of this crate exists.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use testkit::cases::read_dir;

/// Rows of the rule table that the document must list.
const ROWS: [(char, u32); 3] = [('F', 20), ('S', 11), ('H', 15)];

#[test]
fn every_row_is_listed_and_every_named_case_exists() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/conformance.md");
    let text = fs::read_to_string(document).expect("docs/conformance.md is there");
    let rows: Vec<Vec<&str>> = text.lines().filter_map(cells).collect();
    let listed: BTreeSet<_> = rows.iter().map(|row| row[0].to_owned()).collect();
    let wanted = ROWS.iter().flat_map(|(kind, last)| (1..=*last).map(move |row| format!("{kind}{row}")));
    let missing: Vec<_> = wanted.filter(|row| !listed.contains(row)).collect();
    assert!(missing.is_empty(), "not in docs/conformance.md: {missing:?}");

    let claimed: BTreeSet<_> = rows.iter().flat_map(|row| claims(row)).collect();
    let cases = read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"));
    let covered: BTreeSet<_> =
        cases.iter().flat_map(|case| case.rows().map(|row| (row.to_owned(), case.file.clone()))).collect();
    assert_eq!(claimed, covered, "left: what the document says, right: what the case files hold");
}

/// The cells of a table line whose first is a row's number.
fn cells(line: &str) -> Option<Vec<&str>> {
    let cells: Vec<_> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
    let number = cells[0].strip_prefix(['F', 'S', 'H'])?;
    number.parse::<u32>().ok().map(|_| cells)
}

/// Row and case file for every file named in the line.
fn claims(row: &[&str]) -> Vec<(String, String)> {
    let files = row[2].split('`').filter(|word| Path::new(word).extension() == Some(OsStr::new("md")));
    files.map(|file| (row[0].to_owned(), file.to_owned())).collect()
}
