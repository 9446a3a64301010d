//! `config/proxy.reference.conf` is accepted without a word, and holds everything that there is.

use std::path::Path;

use proxy::Config;
use proxy::conf::{Variable, vocabulary};

fn reference() -> (std::path::PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/proxy.reference.conf");
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

/// The lines without comments.
fn code(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_reference_is_accepted_without_a_warning() {
    let checked = Config::check_file(&reference().0).unwrap();
    if let Err(errors) = &checked.outcome {
        panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
    let warnings: Vec<String> = checked.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.is_empty(), "{}", warnings.join("\n"));
}

#[test]
fn the_reference_shows_every_directive_and_every_option() {
    let (_, text) = reference();
    let lines = code(&text);
    let mut count = 0;
    for (directive, option) in vocabulary() {
        count += 1;
        let of_directive = || lines.iter().filter(|line| line.split([' ', ';']).next() == Some(directive));
        assert!(of_directive().next().is_some(), "`{directive}` is missing in the reference");
        // Values of `dist_policy` are words of their own and listed in its comment.
        let is_shown = match (directive, option) {
            (_, "") => true,
            ("dist_policy", policy) => text.contains(&format!("#   {policy} ")),
            (_, "backup" | "optional" | "trusted") => of_directive().any(|line| line.contains(&format!(" {option}"))),
            (_, option) => of_directive().any(|line| line.contains(&format!(" {option}="))),
        };
        assert!(is_shown, "`{option}` of `{directive}` is missing in the reference");
    }
    assert!(count > 50, "the vocabulary is whole: {count}");
}

#[test]
fn every_directive_that_the_reference_shows_is_explained_above_it() {
    let (_, text) = reference();
    let mut seen: Vec<&str> = Vec::new();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (number, line) in lines.iter().enumerate() {
        let name = line.split([' ', ';']).next().unwrap_or_default();
        let is_directive = vocabulary().any(|(directive, _)| directive == name);
        if !is_directive || seen.contains(&name) {
            continue;
        }
        seen.push(name);
        // A comment stands on the line itself, or above it with nothing but other directives in between.
        let above = lines[..number].iter().rev().take_while(|line| !line.is_empty());
        let is_explained = line.contains('#') || above.into_iter().any(|line| line.starts_with('#'));
        assert!(is_explained, "`{name}` on line {} is not explained", number + 1);
    }
}

#[test]
fn every_variable_is_in_the_reference_and_in_the_handbook() {
    let (path, reference) = reference();
    let handbook = std::fs::read_to_string(path.with_file_name("../docs/operations.md")).unwrap();
    for (name, _) in Variable::NAMES {
        // As a word of its own: `$host` is also the beginning of another one.
        let is_in = |text: &str| {
            text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$'))
                .any(|word| word.strip_prefix('$') == Some(name))
        };
        assert!(is_in(&reference), "`${name}` is missing in the reference");
        assert!(
            handbook.contains(&format!("| `${name}` |")),
            "`${name}` is missing in the table of docs/operations.md"
        );
    }
}
