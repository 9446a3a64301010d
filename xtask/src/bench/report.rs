//! What a run has brought, row by row: one row that fails does not cost the others their figures.

use super::machine;
use super::servers::CRATES;
use anyhow::{Result, bail};
use std::fmt::Write as _;

/// The tables so far.
#[derive(Default)]
pub(crate) struct Report {
    text: String,
    failed: Vec<String>,
}

impl Report {
    /// Adds a row, or what went wrong with it.
    pub(crate) fn add(&mut self, row: &str, outcome: Result<String>) {
        match outcome {
            Ok(text) => self.text += &text,
            Err(error) => {
                eprintln!("row {row}: {error:#}");
                let why = format!("{error:#}");
                let why = why.lines().next().unwrap_or_default();
                let _ = writeln!(self.text, "\n## `{row}` was not measured\n\n{why}");
                self.failed.push(row.to_owned());
            }
        }
    }

    /// Prints everything and, but for a smoke run, keeps it.
    ///
    /// # Errors
    /// A row has failed, or the result cannot be written.
    pub(crate) fn finish(self, what: &str, smoke: bool, programs: &[&str]) -> Result<()> {
        if smoke {
            println!("{}", self.text);
        } else {
            machine::record(what, &(machine::header(programs, &CRATES)? + &self.text))?;
        }
        if !self.failed.is_empty() {
            bail!("not measured: {}", self.failed.join(", "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_row_that_fails_leaves_the_others_their_figures() {
        let mut report = Report::default();
        report.add("one", Ok("\n## one\n".to_owned()));
        report.add("two", Err(anyhow!("nobody answers")));
        report.add("three", Ok("\n## three\n".to_owned()));
        assert_eq!(report.text, "\n## one\n\n## `two` was not measured\n\nnobody answers\n\n## three\n");
        assert!(report.finish("test", true, &[]).is_err());
    }
}
