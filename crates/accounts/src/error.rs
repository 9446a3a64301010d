//! What can go wrong with an account, by what the caller can do about it.

use crate::password::PASSWORD_BYTES_MIN;
use chat::StoreError;

/// An account operation that did not happen. None of the messages says more than the caller may know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Somebody has this name. Choose another.
    #[error("this name is taken; choose another or log in")]
    NameTaken,
    /// The password is too easy to guess, or too long. Choose another.
    #[error("{reason}; take {PASSWORD_BYTES_MIN} characters or more, for example four words")]
    WeakPassword {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Wrong name or wrong password; it does not say which.
    #[error("the name or the password is wrong")]
    WrongPassword,
    /// Too many tries. Wait.
    #[error("too many tries; wait {retry_after_s} s")]
    RateLimited {
        /// Seconds until the next try is looked at.
        retry_after_s: u64,
    },
    /// The device belongs to another account.
    #[error("this device belongs to another account")]
    DeviceTaken,
    /// The account has as many devices as it may have.
    #[error("the account has {} devices, the most it may have", crate::DEVICES_MAX)]
    TooManyDevices,
    /// There is no such account.
    #[error("there is no such account")]
    NoAccount,
    /// Too many passwords are being checked. Try again in a moment.
    #[error("too many logins at once; try again in a moment")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
