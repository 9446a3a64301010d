//! Keeps `docs/conformance.md` true: every row is there, none is empty, and every case file and test it names exists.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use testkit::cases::read_dir;

/// Rows of the rule tables that the document must list.
const ROWS: [(char, u32); 8] = [('F', 20), ('S', 11), ('H', 15), ('L', 5), ('T', 5), ('P', 4), ('R', 3), ('D', 24)];

const CRATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[test]
fn every_row_is_covered_by_tests_that_exist() {
    let text = fs::read_to_string(format!("{CRATES}/../docs/conformance.md")).expect("docs/conformance.md is there");
    let rows: Vec<Vec<&str>> = text.lines().filter_map(cells).collect();
    let listed: BTreeSet<_> = rows.iter().map(|row| row[0].to_owned()).collect();
    let wanted = ROWS.iter().flat_map(|(kind, last)| (1..=*last).map(move |row| format!("{kind}{row}")));
    let missing: Vec<_> = wanted.filter(|row| !listed.contains(row)).collect();
    assert!(missing.is_empty(), "not in docs/conformance.md: {missing:?}");

    let empty: Vec<_> = rows.iter().filter(|row| row[2].is_empty() && row[3].is_empty()).map(|row| row[0]).collect();
    assert!(empty.is_empty(), "rows without a test: {empty:?}");

    let claimed: BTreeSet<_> = rows.iter().flat_map(|row| claims(row)).collect();
    let cases = read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"));
    let covered: BTreeSet<_> =
        cases.iter().flat_map(|case| case.rows().map(|row| (row.to_owned(), case.file.clone()))).collect();
    assert_eq!(claimed, covered, "left: what the document says, right: what the case files hold");

    let mut sources = Sources::default();
    let lost: Vec<_> = rows.iter().flat_map(|row| sources.lost(row)).collect();
    assert!(lost.is_empty(), "tests that docs/conformance.md names and no source has:\n{}", lost.join("\n"));
}

/// The cells of a table line whose first is a row's number.
fn cells(line: &str) -> Option<Vec<&str>> {
    let cells: Vec<_> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
    let number = cells[0].strip_prefix(ROWS.map(|(kind, _)| kind))?;
    number.parse::<u32>().ok().map(|_| cells)
}

/// Row and case file for every file named in the line.
fn claims(row: &[&str]) -> Vec<(String, String)> {
    let files = row[2].split('`').filter(|word| Path::new(word).extension() == Some(OsStr::new("md")));
    files.map(|file| (row[0].to_owned(), file.to_owned())).collect()
}

/// Source files of the crates, read as they are asked for.
#[derive(Default)]
struct Sources(BTreeMap<String, Vec<(PathBuf, String)>>);

impl Sources {
    /// The tests of a row's last cell that are not there. The cell is `crate`: `module::test`, …; `crate`: …
    fn lost(&mut self, row: &[&str]) -> Vec<String> {
        let mut lost = Vec::new();
        for part in row[3].split(';').filter(|part| !part.trim().is_empty()) {
            let mut names = part.split('`').skip(1).step_by(2);
            let package = names.next().unwrap_or_default();
            let mut count = 0;
            for name in names {
                count += 1;
                if !self.has(package, name) {
                    lost.push(format!("{}: {package}: {name}", row[0]));
                }
            }
            if count == 0 {
                lost.push(format!("{}: names no test: {part}", row[0]));
            }
        }
        lost
    }

    /// Whether the crate has a test of this name in the module's file; `prefix_*` stands for any such test.
    fn has(&mut self, package: &str, name: &str) -> bool {
        let files = self.0.entry(package.to_owned()).or_insert_with(|| {
            let mut files = Vec::new();
            collect(&Path::new(CRATES).join(package), &mut files);
            files
        });
        let Some((module, test)) = name.rsplit_once("::") else { return false };
        let (module, is_unit) = match module.strip_suffix("::tests") {
            Some(module) => (module, true),
            None => (module, test == "tests"),
        };
        let wanted = match (test, test.strip_suffix('*')) {
            ("tests", _) => "mod tests {".to_owned(),
            (_, Some(prefix)) => format!("fn {prefix}"),
            (_, None) => format!("fn {test}("),
        };
        files.iter().any(|(path, text)| {
            let is_module = path.file_stem() == Some(OsStr::new(module))
                || (path.ends_with("mod.rs") && path.parent().and_then(Path::file_name) == Some(OsStr::new(module)));
            let is_there = || if test == "tests" { text.contains(&wanted) } else { has_test(text, &wanted) };
            is_module && path.components().any(|part| part.as_os_str() == "tests") != is_unit && is_there()
        })
    }
}

/// Whether a function that begins like this is a test, and one that is not left out.
fn has_test(text: &str, wanted: &str) -> bool {
    text.match_indices(wanted).any(|(at, _)| {
        let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let before = text[..line].lines().rev().map(str::trim);
        let attributes: Vec<&str> =
            before.take_while(|line| line.starts_with("#[") || line.starts_with("//")).collect();
        let is_test = |line: &&str| *line == "#[test]" || line.starts_with("#[tokio::test");
        !text[line..at].contains("//")
            && attributes.iter().any(is_test)
            && !attributes.iter().any(|line| line.starts_with("#[ignore"))
    })
}

#[test]
fn what_is_no_test_or_is_left_out_covers_nothing() {
    let check = |text: &str, expect: bool| assert_eq!(has_test(text, "fn it("), expect, "{text}");
    check("#[test]\nfn it() {", true);
    check("    #[test]\n    #[cfg(unix)]\n    // why\n    fn it() {", true);
    check("#[tokio::test]\nasync fn it() {", true);
    check("#[tokio::test(flavor = \"current_thread\")]\nasync fn it() {", true);
    check("fn it() {", false);
    check("#[test]\nfn other() {}\n\nfn it() {", false);
    check("#[test]\n#[ignore = \"slow\"]\nfn it() {", false);
    check("#[test]\n// fn it() {", false);
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("the sources can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension() == Some(OsStr::new("rs")) {
            let text = fs::read_to_string(&path).expect("the sources can be read");
            files.push((path, text));
        }
    }
}
