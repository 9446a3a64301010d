//! The names a certificate was asked to be for beside the machine's own, kept in `names.txt`: one a line.

use crate::{Access, CertError, Name, read_file, write_file};
use std::fmt::Write as _;
use std::path::Path;

const FILE: &str = "names.txt";
/// Most further names; a certificate with more is no certificate of one machine.
pub(crate) const FURTHER_MAX: usize = 100;
const HEADING: &str =
    "# Names and addresses the certificate is for, beside this machine's own. Take a line out to drop it.\n";

/// Those of the file and these, which are added to it.
///
/// # Errors
/// The file cannot be used, or a line of it is no name.
pub(crate) fn kept(folder: &Path, asked: &[Name]) -> Result<Vec<Name>, CertError> {
    let path = folder.join(FILE);
    let text = read_file(&path)?;
    let wrong = |reason: String| CertError::Names { path: path.clone(), reason };
    let mut names: Vec<Name> = Vec::new();
    for (line, number) in text.as_deref().unwrap_or_default().lines().map(str::trim).zip(1..) {
        if !line.is_empty() && !line.starts_with('#') {
            let name =
                line.parse().map_err(|_| wrong(format!("line {number} is neither a host name nor an address")))?;
            names.push(name);
        }
    }
    let added: Vec<Name> = asked.iter().filter(|name| !names.contains(name)).cloned().collect();
    names.extend(added.iter().cloned());
    if names.len() > FURTHER_MAX {
        return Err(wrong(format!("more than {FURTHER_MAX} names")));
    }
    if !added.is_empty() {
        let mut text = text.unwrap_or_else(|| HEADING.to_owned());
        if !text.ends_with('\n') {
            text.push('\n');
        }
        for name in &added {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}");
        }
        write_file(&path, text.as_bytes(), Access::Everybody)?;
    }
    Ok(names)
}
