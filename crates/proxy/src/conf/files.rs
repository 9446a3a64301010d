//! The files that a configuration names: whether they are there and hold what they should. The only part of this module
//! that reads more than the configuration itself.

use std::path::Path;
use std::time::{Duration, SystemTime};

use engine::{CertificateFiles, ClientTls, TlsError, Trust};

use super::error::Flaw;
use super::lexer::Token;
use super::tree::{self, Statement};
use crate::balance::sticky::Sealer;
use crate::passwords;

/// A certificate that ends sooner is worth a warning.
const ENDS_SOON: Duration = Duration::from_hours(14 * 24);

/// What is wrong with the files.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// What keeps a proxy from starting, or from serving what it should.
    pub(super) flaws: Vec<Flaw>,
    pub(super) warnings: Vec<Flaw>,
}

/// Looks at every file that a text without mistakes names.
pub(super) fn look(text: &str, now: SystemTime) -> Looked {
    let mut looked = Looked::default();
    for statement in &tree::read(text).0 {
        looked.statement(statement, now);
    }
    looked
}

impl Looked {
    fn statement(&mut self, statement: &Statement, now: SystemTime) {
        let words = &statement.words[..];
        match (statement.name.text.as_str(), words) {
            ("certificate", [chain, _, key]) => self.certificate(chain, key, now),
            ("client_ca" | "upstream_tls_ca", [file, ..]) => {
                if let Err(error) = ClientTls::new(&Trust::File(file.text.clone().into())) {
                    self.flaw(file, "a file with authorities (PEM)", error.to_string());
                }
            }
            ("sticky_key", [file]) => {
                if let Err(error) = Sealer::from_file(Path::new(&file.text)) {
                    self.flaw(file, "a file with a secret of 32 bytes or more", format!("{}: {error}", file.text));
                }
            }
            ("basic_auth", [_, file]) => self.passwords(file),
            ("error_page", [.., page]) => self.can_be_read(page, "an error page"),
            ("files", [folder]) => {
                if let Err(error) = std::fs::read_dir(&folder.text) {
                    self.flaw(folder, "a folder", format!("{}: {error}", folder.text));
                }
            }
            _ => {}
        }
        for inner in statement.block.iter().flatten() {
            self.statement(inner, now);
        }
    }

    fn certificate(&mut self, chain: &Token, key: &Token, now: SystemTime) {
        let files = CertificateFiles { chain: chain.text.clone().into(), key: key.text.clone().into() };
        let end = match files.valid_until() {
            Ok(end) => end,
            Err(error) => {
                let is_of_key = matches!(&error, TlsError::File { path, .. } | TlsError::Content { path, .. } if *path == files.key);
                let (at, expected) = if is_of_key {
                    (key, "the private key of this certificate (PEM)")
                } else {
                    (chain, "a file with a certificate and its chain (PEM)")
                };
                return self.flaw(at, expected, error.to_string());
            }
        };
        let sentence = match end.duration_since(now) {
            Err(error) => format!("this certificate has expired {} ago", days(error.duration())),
            Ok(left) if left < ENDS_SOON => format!("this certificate expires in {}", days(left)),
            Ok(_) => return,
        };
        self.warnings.push(Flaw::new(chain.start, "", sentence));
    }

    fn passwords(&mut self, file: &Token) {
        match passwords::unusable_lines(Path::new(&file.text)) {
            Err(error) => self.flaw(file, "a file with lines of `name:hash`", format!("{}: {error}", file.text)),
            Ok(lines) => self.warnings.extend(lines.into_iter().map(|line| {
                let sentence = format!("line {line} of {} lets nobody in", file.text);
                Flaw::new(file.start, "", sentence).hint("a line is `name:$argon2id$…`")
            })),
        }
    }

    fn can_be_read(&mut self, file: &Token, expected: &str) {
        if let Err(error) = std::fs::File::open(&file.text) {
            self.flaw(file, expected, format!("{}: {error}", file.text));
        }
    }

    fn flaw(&mut self, at: &Token, expected: &str, found: String) {
        self.flaws.push(Flaw::new(at.start, expected, found));
    }
}

fn days(time: Duration) -> String {
    match time.as_secs() / (24 * 3600) {
        0 => "less than a day".to_owned(),
        1 => "a day".to_owned(),
        days => format!("{days} days"),
    }
}
