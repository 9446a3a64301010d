//! What went wrong, as the problem documents that clients get.

use accounts::AccountError;
use chat::{AppendError, Denied, StoreError};
use weaprous::prelude::*;

/// When to come back after a failure that passes by itself, in seconds.
const RETRY_AFTER_S: u64 = 1;

/// A failure on its way to the client. Boxed, because results are passed around far more often than they fail.
#[derive(Debug)]
pub(crate) struct Trouble(pub(crate) Box<Problem>);

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        let problem = match error {
            StoreError::Busy | StoreError::Closed => Problem::unavailable(error.to_string(), RETRY_AFTER_S),
            StoreError::Failed(_) | StoreError::Damaged(_) => Problem::internal(error),
        };
        problem.into()
    }
}

impl From<AccountError> for Trouble {
    fn from(error: AccountError) -> Self {
        let detail = error.to_string();
        let problem = match error {
            AccountError::NameTaken | AccountError::DeviceTaken | AccountError::TooManyDevices => {
                Problem::conflict(detail)
            }
            AccountError::WeakPassword { .. } => Problem::unprocessable(detail),
            AccountError::WrongPassword => Problem::unauthorized(detail),
            AccountError::RateLimited { retry_after_s } => Problem::too_many_requests(detail, retry_after_s),
            AccountError::NoAccount => Problem::not_found(detail),
            AccountError::Busy => Problem::unavailable(detail, RETRY_AFTER_S),
            AccountError::Store(error) => return error.into(),
        };
        problem.into()
    }
}

impl From<Denied> for Trouble {
    fn from(denied: Denied) -> Self {
        let detail = denied.to_string();
        let problem = match denied {
            Denied::NoSuchChannel => Problem::not_found(detail),
            Denied::Exists => Problem::conflict(detail),
            Denied::WrongVisibility => Problem::unprocessable(detail),
            Denied::NotMember | Denied::NotInvited | Denied::Removed | Denied::NotOwner | Denied::Direct => {
                Problem::forbidden(detail)
            }
        };
        problem.into()
    }
}

/// Why an envelope did not come into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Its chain lacks something, or contradicts it.
    #[error(transparent)]
    Chain(#[from] AppendError),
    /// Its author may not say this here.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Its device is not one of its author's.
    #[error("the device does not belong to the author")]
    UnknownDevice,
    /// It is of another channel than the one in the request.
    #[error("the envelope belongs to another channel")]
    WrongChannel,
}

impl Refusal {
    /// The word that programs tell it by.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Chain(AppendError::Gap { .. }) => "gap",
            Self::Chain(AppendError::Fork) => "fork",
            Self::Denied(_) => "denied",
            Self::UnknownDevice => "unknown_device",
            Self::WrongChannel => "wrong_channel",
        }
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(denied) => denied.into(),
            other => Problem::conflict(other.to_string()).into(),
        }
    }
}
