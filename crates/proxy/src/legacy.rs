//! What a proxy leaves to the next version of itself, when its sockets are handed over: the key of its sticky cookies,
//! so that sessions stay where they are, and what operators have ordered. Health and counts begin anew.
//!
//! As text, for the way from one process to the other:
//!
//! ```text
//! sticky-key 00112233…          64 digits
//! order draining 10.0.0.1:80 app   the upstream's name to the end of the line
//! ```
//!
//! Lines of other kinds are passed over: a newer version may have more to leave.

use std::fmt;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::balance::sticky::KEY_BYTES;
use crate::metrics::State;

/// What is left. It holds a secret: whoever knows it can choose a backend, and no more.
#[derive(Clone, Default)]
pub struct Legacy {
    pub(crate) sticky_key: Option<[u8; KEY_BYTES]>,
    pub(crate) orders: Vec<Order>,
}

/// What an operator wants of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) upstream: String,
    pub(crate) server: SocketAddr,
    pub(crate) state: State,
}

/// A text that no proxy has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is not what a proxy leaves")]
pub struct NoLegacy;

impl Legacy {
    /// Its text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if let Some(key) = &self.sticky_key {
            text.push_str("sticky-key ");
            for byte in key {
                let _ = write!(text, "{byte:02x}");
            }
            text.push('\n');
        }
        for Order { upstream, server, state } in &self.orders {
            let _ = writeln!(text, "order {} {server} {upstream}", state.as_str());
        }
        text
    }
}

impl FromStr for Legacy {
    type Err = NoLegacy;

    fn from_str(text: &str) -> Result<Self, NoLegacy> {
        let mut legacy = Self::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("sticky-key", digits)) => legacy.sticky_key = Some(key(digits).ok_or(NoLegacy)?),
                Some(("order", rest)) => legacy.orders.push(order(rest).ok_or(NoLegacy)?),
                _ => {}
            }
        }
        Ok(legacy)
    }
}

fn key(digits: &str) -> Option<[u8; KEY_BYTES]> {
    if digits.len() != 2 * KEY_BYTES || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}

fn order(text: &str) -> Option<Order> {
    let mut words = text.splitn(3, ' ');
    let (state, server, upstream) = (words.next()?, words.next()?, words.next()?);
    let state = [State::Draining, State::Disabled].into_iter().find(|known| known.as_str() == state)?;
    Some(Order { upstream: upstream.to_owned(), server: server.parse().ok()?, state })
}

impl fmt::Debug for Legacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Legacy").field("orders", &self.orders).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_left_is_read_again() {
        let order = |upstream: &str, server: &str, state| Order {
            upstream: upstream.to_owned(),
            server: server.parse().unwrap(),
            state,
        };
        let orders = vec![order("app", "10.0.0.1:80", State::Draining), order("a b", "[::1]:81", State::Disabled)];
        let legacy = Legacy { sticky_key: Some(std::array::from_fn(|at| at as u8)), orders };
        let again: Legacy = format!("{}something new\n", legacy.to_text()).parse().unwrap();
        assert_eq!((again.sticky_key, &again.orders), (legacy.sticky_key, &legacy.orders));
        assert!(!format!("{again:?}").contains("0001"), "the key is not shown");
        assert!("".parse::<Legacy>().unwrap().sticky_key.is_none());
        for nonsense in
            ["sticky-key 00", "sticky-key é", "order up 1.2.3.4:5 a", "order draining a b", "order draining"]
        {
            assert!(nonsense.parse::<Legacy>().is_err(), "{nonsense}");
        }
    }
}
