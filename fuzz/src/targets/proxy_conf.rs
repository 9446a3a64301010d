//! `proxy.conf`: any text is understood or refused with a place in it.

use super::project;
use proxy::Config;

/// A configuration file.
pub(crate) fn read(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let checked = Config::check("fuzz.conf", text);
    if let Err(errors) = &checked.outcome {
        assert!(!errors.is_empty(), "a refusal has a reason");
        for error in errors {
            let line = text.split('\n').nth(error.line - 1).expect("the place is in the file");
            assert_eq!(line.trim_end_matches('\r'), error.line_text);
            assert!((1..=line.chars().count() + 1).contains(&error.column), "column {}", error.column);
            assert!(error.to_string().starts_with(&format!("fuzz.conf:{}:{}: expected ", error.line, error.column)));
        }
    }
    assert_eq!(checked.outcome.is_ok(), Config::parse("fuzz.conf", text).is_ok());
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(project("config")).expect("the project has configuration files");
    let paths = files.map(|file| file.expect("a file").path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "conf"))
        .filter_map(|path| std::fs::read(path).ok())
        .collect()
}
