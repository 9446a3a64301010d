//! Rules that check themselves: who may depend on whom (the table in ARCHITECTURE.md), what pure crates must not
//! name, what a file must look like. Prints every breach, then fails if there was one.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crates that know bytes and values only.
const PURE: [&str; 3] = ["http1", "chat", "p2p"];

/// What a pure crate must not name in its sources: clocks, files, sockets, threads, randomness.
const IMPURE: [&str; 8] =
    ["SystemTime::now", "Instant::now", "std::fs", "std::thread", "TcpStream", "UdpSocket", "tokio", "getrandom"];

/// Words that may stand in no tracked source file, each with the reason.
const FORBIDDEN: [(&str, &str); 6] = [
    (concat!("to", "do!("), "a stub is a defect"),
    (concat!("unimpl", "emented!("), "a stub is a defect"),
    (concat!("FIX", "ME"), "open an issue instead"),
    (concat!("#[ig", "nore]"), "a skipped test is a defect"),
    (concat!("inner", "HTML"), "foreign text reaches the page through textContent"),
    (concat!("/ho", "me/"), "no path of a machine"),
];

/// The one file that may hold `unsafe` code, and the one crate whose lints are therefore its own.
const UNSAFE_FILE: &str = "crates/sockopt/src/lib.rs";
const UNSAFE_MANIFEST: &str = "crates/sockopt/Cargo.toml";

/// Where the decisions are listed.
const DECISIONS_INDEX: &str = "docs/decisions/README.md";

/// Endings of files that hold code.
const SOURCES: [&str; 4] = ["rs", "js", "mjs", "css"];

/// Longest source file, in lines; past that it is no longer one thing.
const FILE_LINES_MAX: usize = 1000;
/// Longest ARCHITECTURE.md, in lines.
const ARCHITECTURE_LINES_MAX: usize = 150;
/// Longest example of the framework, in lines.
const EXAMPLE_LINES_MAX: usize = 60;

pub(crate) fn run() -> Result<()> {
    println!("\n==> tidy");
    let mut breaches = Vec::new();
    dependencies(&mut breaches)?;
    let index = std::fs::read_to_string(DECISIONS_INDEX).context("the decisions have an index")?;
    for path in tracked_files()? {
        breaches.extend(unlisted_decision(&path, &index));
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        sources(&path, &text, &mut breaches);
        links(&path, &text, &mut breaches);
    }
    shown_example(&mut breaches)?;
    for breach in &breaches {
        println!("{breach}");
    }
    if !breaches.is_empty() {
        bail!("tidy: {} breaches", breaches.len());
    }
    Ok(())
}

/// A decision that its index does not name is one that nobody finds.
fn unlisted_decision(path: &str, index: &str) -> Option<String> {
    let name = path.strip_prefix("docs/decisions/").filter(|_| path != DECISIONS_INDEX)?;
    let is_listed = index.contains(&format!("]({name})"));
    (!is_listed).then(|| format!("{path}: {DECISIONS_INDEX} has no row for it"))
}

/// What stands after the last dot of a path.
fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn tracked_files() -> Result<Vec<String>> {
    let output =
        Command::new("git").args(["ls-files", "-z"]).output().context("tidy asks git which files there are")?;
    let names = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// Compares `cargo metadata` with the table in ARCHITECTURE.md, both ways.
fn dependencies(breaches: &mut Vec<String>) -> Result<()> {
    let text = std::fs::read_to_string("ARCHITECTURE.md").context("ARCHITECTURE.md holds the dependency table")?;
    let allowed = table(&text);
    for (name, found) in workspace_dependencies()? {
        let Some(allowed) = allowed.get(&name) else {
            breaches.push(format!("ARCHITECTURE.md: the table of dependencies lacks `{name}`"));
            continue;
        };
        for other in found.difference(allowed) {
            breaches.push(format!("{name} depends on {other}, which the table in ARCHITECTURE.md does not allow"));
        }
        for other in allowed.difference(&found) {
            breaches.push(format!("ARCHITECTURE.md allows {name} → {other}, which is not there: take it out"));
        }
    }
    Ok(())
}

/// Rows ``| `name` | `a` `b` |`` → name → {a, b}.
fn table(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let ticked = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let start = text.find("## Who may depend on whom").unwrap_or(text.len());
    text[start..]
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split_once('|'))
        .map(|(name, rest)| (name.trim().trim_end_matches('`').to_owned(), ticked(rest).into_iter().collect()))
        .collect()
}

/// Each member's dependencies on other members, without those for tests.
fn workspace_dependencies() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let output = Command::new("cargo").args(["metadata", "--format-version", "1", "--no-deps"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("cargo metadata is JSON")?;
    let packages = metadata["packages"].as_array().context("metadata lists packages")?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let own: BTreeSet<String> = packages.iter().map(|package| text(&package["name"])).collect();
    let dependencies = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|d| d["kind"].is_null()).map(|d| text(&d["name"])).filter(|d| own.contains(d)).collect()
    };
    Ok(packages.iter().map(|package| (text(&package["name"]), dependencies(package))).collect())
}

fn sources(path: &str, text: &str, breaches: &mut Vec<String>) {
    let lines = text.lines().count();
    let limit = |max: usize, breaches: &mut Vec<String>| {
        if lines > max {
            breaches.push(format!("{path}: {lines} lines, at most {max}"));
        }
    };
    let rust = extension(path) == "rs";
    if path == "ARCHITECTURE.md" {
        limit(ARCHITECTURE_LINES_MAX, breaches);
    } else if path.starts_with("crates/weaprous/examples/") {
        limit(EXAMPLE_LINES_MAX, breaches);
    } else if SOURCES.contains(&extension(path)) {
        limit(FILE_LINES_MAX, breaches);
    }
    if rust && !text.starts_with("//!") {
        breaches.push(format!("{path}:1: a file begins with `//!`: what it is and what it never does"));
    }
    if path.ends_with("Cargo.toml")
        && path != "Cargo.toml"
        && path != UNSAFE_MANIFEST
        && !text.contains("[lints]\nworkspace = true")
    {
        breaches.push(format!("{path}: lacks `[lints] workspace = true`"));
    }
    for (number, line) in text.lines().enumerate() {
        words(path, number + 1, line, breaches);
    }
}

fn words(path: &str, number: usize, line: &str, breaches: &mut Vec<String>) {
    let source = SOURCES.contains(&extension(path)) || extension(path) == "html";
    if source {
        for (word, reason) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
            breaches.push(format!("{path}:{number}: `{word}`: {reason}"));
        }
    }
    if extension(path) == "rs" && path != UNSAFE_FILE && has_unsafe_code(line) {
        breaches.push(format!("{path}:{number}: `{UNSAFE}` code: it stands in {UNSAFE_FILE} only"));
    }
    let pure = PURE.iter().any(|name| path.starts_with(&format!("crates/{name}/src/")));
    if pure && extension(path) == "rs" && !line.trim_start().starts_with("//") {
        for word in IMPURE.iter().filter(|word| line.contains(**word)) {
            breaches.push(format!("{path}:{number}: a pure crate names `{word}`"));
        }
    }
}

/// In two parts, so that this file is not found itself.
const UNSAFE: &str = concat!("un", "safe");

/// Whether a line holds the keyword outside of a comment and of a string, or lets it be used by an attribute.
fn has_unsafe_code(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let outside: String = code.split('"').step_by(2).collect();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let name = concat!("un", "safe_code");
    let keyword = outside.match_indices(UNSAFE).any(|(at, _)| {
        let before = at.checked_sub(1).map(|before| outside.as_bytes()[before]);
        let after = outside.as_bytes().get(at + UNSAFE.len()).copied();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    });
    keyword || (outside.contains(name) && (outside.contains("allow") || outside.contains("expect")))
}

/// The example in the README is the file that compiles, not a copy that has gone its own way.
fn shown_example(breaches: &mut Vec<String>) -> Result<()> {
    let example = std::fs::read_to_string("crates/weaprous/examples/hello.rs").context("the README shows hello.rs")?;
    let readme = std::fs::read_to_string("README.md").context("there is a README")?;
    if !readme.contains(example.trim()) {
        breaches.push("README.md: the example differs from crates/weaprous/examples/hello.rs".to_owned());
    }
    Ok(())
}

/// Relative links in Markdown lead to a file that is there.
fn links(path: &str, text: &str, breaches: &mut Vec<String>) {
    if extension(path) != "md" || path.contains("/cases/") {
        return;
    }
    let folder = std::path::Path::new(path).parent().unwrap_or(std::path::Path::new(""));
    for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let file = target.split('#').next().unwrap_or_default();
        let relative = !file.is_empty() && !file.contains("://") && !file.contains(' ');
        if relative && !folder.join(file).exists() {
            breaches.push(format!("{path}: the link to `{target}` leads nowhere"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_by_its_ticks() {
        let text = "## Who may depend on whom\n| crate | may |\n|---|---|\n| `a` | `b`, `c` |\n| `d` | – |\n";
        let table = table(text);
        assert_eq!(table["a"], BTreeSet::from(["b".to_owned(), "c".to_owned()]));
        assert!(table["d"].is_empty());
    }

    #[test]
    fn decisions_are_listed() {
        let index = "| 0001 | [Why](0001-why.md) |";
        assert_eq!(unlisted_decision("docs/decisions/0001-why.md", index), None);
        assert!(unlisted_decision("docs/decisions/0002-how.md", index).is_some());
        assert_eq!(unlisted_decision(DECISIONS_INDEX, index), None);
        assert_eq!(unlisted_decision("docs/protocol.md", index), None);
    }

    #[test]
    fn unsafe_code_stands_in_one_file() {
        let breaches = |path: &str, line: &str| {
            let mut breaches = Vec::new();
            words(path, 1, line, &mut breaches);
            breaches.len()
        };
        for code in ["{ {} x }", "fn f() { {} { g() } }", "#[allow({}_code)]", "{} impl Send for X {}"] {
            let code = code.replacen("{}", UNSAFE, 1);
            assert_eq!(breaches("crates/engine/src/lib.rs", &code), 1, "{code}");
            assert_eq!(breaches(UNSAFE_FILE, &code), 0, "{code}");
        }
        for other in ["// {} is forbidden", "let x = \"{}\";", "let is_{} = 1;", "#![forbid({}_code)]"] {
            let other = other.replacen("{}", UNSAFE, 1);
            assert_eq!(breaches("crates/engine/src/lib.rs", &other), 0, "{other}");
        }
    }

    #[test]
    fn a_pure_crate_may_not_read_the_clock() {
        let mut breaches = Vec::new();
        words("crates/chat/src/lib.rs", 3, "let now = Instant::now();", &mut breaches);
        words("crates/engine/src/lib.rs", 3, "let now = Instant::now();", &mut breaches);
        assert_eq!(breaches, ["crates/chat/src/lib.rs:3: a pure crate names `Instant::now`"]);
    }
}
