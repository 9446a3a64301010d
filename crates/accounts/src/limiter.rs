//! How often somebody may try: failed logins per name and per address, new accounts per address. In memory, bounded.
//! An address of version 6 stands for its network.

use crate::AccountError;
use chat::UserName;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Length of a window, in milliseconds.
const WINDOW_MS: u64 = 5 * 60 * 1000;
/// Failed logins for one name from one address in a window. The pair counts, so that a stranger elsewhere cannot lock
/// a person out of their own account.
const FAILURES_PER_NAME_AND_ADDRESS: u32 = 10;
/// Failed logins for one name from everywhere in a window: stops a guess spread over many addresses.
const FAILURES_PER_NAME: u32 = 200;
/// Failed logins from one address in a window, over all names: a class behind one router mistypes less often.
const FAILURES_PER_ADDRESS: u32 = 60;
/// New accounts from one address in a window: a class behind one router signs up at once.
const SIGN_UPS_PER_ADDRESS: u32 = 200;
/// Windows remembered at once; past that, see [`make_room`].
const WINDOWS_MAX: usize = 20_000;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Subject {
    NameAndAddress(UserName, IpAddr),
    Name(UserName),
    Address(IpAddr),
    SignUp(IpAddr),
}

#[derive(Default)]
struct Window {
    started_ms: u64,
    count: u32,
}

/// Counts tries. A try is counted before it is made, and taken back when it does not fail, so that many at once cannot slip
/// through together.
#[derive(Default)]
pub(crate) struct Limiter {
    windows: Mutex<HashMap<Subject, Window>>,
}

/// A counted try.
pub(crate) struct Attempt([Subject; 3]);

impl Limiter {
    /// Counts a try to log in, or says how long to wait.
    pub(crate) fn login(&self, user: &UserName, from: IpAddr, now_ms: u64) -> Result<Attempt, AccountError> {
        let from = party(from);
        let subjects =
            [Subject::NameAndAddress(user.clone(), from), Subject::Name(user.clone()), Subject::Address(from)];
        self.count(&subjects, now_ms)?;
        Ok(Attempt(subjects))
    }

    /// Takes back a try that was no failure.
    pub(crate) fn take_back(&self, attempt: Attempt) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in attempt.0 {
            if let Some(window) = windows.get_mut(&subject) {
                window.count = window.count.saturating_sub(1);
            }
        }
    }

    /// Counts a new account, or says how long to wait.
    pub(crate) fn sign_up(&self, from: IpAddr, now_ms: u64) -> Result<(), AccountError> {
        self.count(&[Subject::SignUp(party(from))], now_ms)
    }

    /// Counts all subjects, or none of them and remembers nothing: a refused try costs no memory.
    fn count(&self, subjects: &[Subject], now_ms: u64) -> Result<(), AccountError> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in subjects {
            if let Some(window) = windows.get(subject)
                && window.is_open(now_ms)
                && window.count >= subject.limit()
            {
                let end_ms = window.started_ms + WINDOW_MS;
                return Err(AccountError::RateLimited { retry_after_s: end_ms.saturating_sub(now_ms).div_ceil(1000) });
            }
        }
        if windows.len() + subjects.len() > WINDOWS_MAX {
            make_room(&mut windows, now_ms);
        }
        for subject in subjects {
            let window = windows.entry(subject.clone()).or_default();
            if window.count == 0 || !window.is_open(now_ms) {
                *window = Window { started_ms: now_ms, count: 0 };
            }
            window.count += 1;
        }
        Ok(())
    }
}

/// Whom an address stands for. In version 6 a single customer has at least a /64 (RFC 6177 §2), and as many addresses
/// as it likes; so the network counts.
fn party(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(addr) => IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Forgets windows that have run out and, if most have not, the half that counted least: whoever floods the memory
/// with single tries cannot make it forget the tries of a guess.
fn make_room(windows: &mut HashMap<Subject, Window>, now_ms: u64) {
    windows.retain(|_, window| window.is_open(now_ms));
    if windows.len() > WINDOWS_MAX / 2 {
        let mut counts: Vec<u32> = windows.values().map(|window| window.count).collect();
        let half = counts.len() / 2;
        let (_, &mut median, _) = counts.select_nth_unstable(half);
        windows.retain(|_, window| window.count > median);
    }
}

impl Window {
    fn is_open(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.started_ms) < WINDOW_MS
    }
}

impl Subject {
    fn limit(&self) -> u32 {
        match self {
            Self::NameAndAddress(..) => FAILURES_PER_NAME_AND_ADDRESS,
            Self::Name(_) => FAILURES_PER_NAME,
            Self::Address(_) => FAILURES_PER_ADDRESS,
            Self::SignUp(_) => SIGN_UPS_PER_ADDRESS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn failures_from_one_address_do_not_lock_the_name_for_another() {
        let limiter = Limiter::default();
        for _ in 0..FAILURES_PER_NAME_AND_ADDRESS {
            assert!(limiter.login(&user("alice"), THERE, 1000).is_ok());
        }
        let refused = limiter.login(&user("alice"), THERE, 61_000).map(drop);
        assert_eq!(refused, Err(AccountError::RateLimited { retry_after_s: 240 }));
        assert!(limiter.login(&user("alice"), HERE, 61_000).is_ok());
        assert!(limiter.login(&user("alice"), THERE, 1000 + WINDOW_MS).is_ok(), "the window has passed");
    }

    #[test]
    fn a_success_is_not_counted() {
        let limiter = Limiter::default();
        for _ in 0..1000 {
            let attempt = limiter.login(&user("alice"), HERE, 5).map_err(|error| error.to_string());
            limiter.take_back(attempt.expect("a success never adds up"));
        }
    }

    #[test]
    fn one_address_cannot_try_every_name() {
        let limiter = Limiter::default();
        let tries = (0..=FAILURES_PER_ADDRESS).map(|i| limiter.login(&user(&format!("user{i}")), HERE, 5));
        assert_eq!(tries.filter(Result::is_err).count(), 1);
    }

    #[test]
    fn refused_tries_leave_no_trace() {
        let limiter = Limiter::default();
        for _ in 0..FAILURES_PER_NAME_AND_ADDRESS {
            assert!(limiter.login(&user("alice"), HERE, 5).is_ok());
        }
        for i in 0..WINDOWS_MAX {
            let _ = limiter.login(&user(&format!("u{i}")), HERE, 5);
        }
        assert!(limiter.login(&user("alice"), HERE, 5).is_err(), "other names cannot wash the count away");
        assert!(limiter.windows.lock().unwrap().len() < WINDOWS_MAX / 10);
    }

    #[test]
    fn who_has_failed_most_is_forgotten_last() {
        let limiter = Limiter::default();
        for _ in 0..FAILURES_PER_NAME_AND_ADDRESS {
            assert!(limiter.login(&user("alice"), HERE, 5).is_ok());
        }
        for i in 0..WINDOWS_MAX as u32 * 2 {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(i));
            limiter.sign_up(address, 6).expect("each address is new");
        }
        assert!(limiter.login(&user("alice"), HERE, 7).is_err());
    }

    #[test]
    fn a_network_of_version_6_counts_as_one_address() {
        let limiter = Limiter::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for i in 0..FAILURES_PER_NAME_AND_ADDRESS {
            assert!(limiter.login(&user("alice"), address(&format!("2001:db8:1:2::{i:x}")), 5).is_ok());
        }
        assert!(limiter.login(&user("alice"), address("2001:db8:1:2:ffff::1"), 5).is_err());
        assert!(limiter.login(&user("alice"), address("2001:db8:1:3::1"), 5).is_ok());
        for i in 0..SIGN_UPS_PER_ADDRESS {
            assert!(limiter.sign_up(address(&format!("2001:db8:1:2::{i:x}")), 5).is_ok());
        }
        assert!(limiter.sign_up(address("2001:db8:1:2:ffff::1"), 5).is_err());
        for i in 0..FAILURES_PER_NAME_AND_ADDRESS {
            assert!(limiter.login(&user("bob"), address("::ffff:192.0.2.1"), 5).is_ok(), "{i}");
        }
        assert!(limiter.login(&user("bob"), address("::ffff:198.51.100.1"), 5).is_ok(), "mapped, so another one");
        assert!(limiter.login(&user("bob"), THERE, 5).is_err(), "mapped, so the same one");
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::default();
        for i in 0..WINDOWS_MAX as u32 + 10 {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(i));
            limiter.sign_up(address, 5).expect("each address is new");
        }
        assert!(limiter.windows.lock().unwrap().len() <= WINDOWS_MAX);
    }
}
