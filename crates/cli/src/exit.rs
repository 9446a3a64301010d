//! Exit codes, in one place: 0 done · 1 something failed while running · 2 wrong arguments or configuration (clap's
//! own code, too) · 3 cannot listen · 4 the data directory cannot be used.

use crate::say::complain;
use std::process::ExitCode;

/// Why the program ends, by what the person at the keyboard has to change.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something failed while running.
    Running(anyhow::Error),
    /// Arguments or configuration.
    Usage(String),
    /// An address cannot be listened on.
    Listen(String),
    /// The data directory.
    Data(String),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Running(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Running(error) => write!(f, "{error:#}"),
            Self::Usage(text) | Self::Listen(text) | Self::Data(text) => f.write_str(text),
        }
    }
}

/// Prints what went wrong and gives its exit code.
pub(crate) fn code(outcome: Result<(), Failure>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    let (text, code) = match failure {
        Failure::Running(error) => (format!("{error:#}"), 1),
        Failure::Usage(text) => (text, 2),
        Failure::Listen(text) => (text, 3),
        Failure::Data(text) => (text, 4),
    };
    complain(format_args!("weaprous: {text}"));
    ExitCode::from(code)
}
