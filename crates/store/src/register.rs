//! What every register of this crate does alike.

use std::collections::BTreeMap;
use std::ops::Bound;

use chat::{Conflict, Expect};

/// The one rule of conditional writes, for every store of this crate.
pub(crate) fn expect_version(expect: Expect, current: Option<u64>) -> Result<(), Conflict> {
    let as_expected = match expect {
        Expect::Any => true,
        Expect::Absent => current.is_none(),
        Expect::Version(version) => current == Some(version),
    };
    if as_expected { Ok(()) } else { Err(Conflict { current }) }
}

/// The entries whose key starts with `prefix`, ascending.
pub(crate) fn under<'a, V>(
    entries: &'a BTreeMap<String, V>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a String, &'a V)> {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    entries.range::<str, _>(from).take_while(move |(key, _)| key.starts_with(prefix))
}
