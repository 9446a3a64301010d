//! What this machine is called, and where it is reached.

use rustls::pki_types::ServerName;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A name or an address a certificate can be for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// A host name, in lower case.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// The text is neither a host name nor an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither a host name nor an address")]
pub struct InvalidName;

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        let name = text.trim_end_matches('.').to_ascii_lowercase();
        match ServerName::try_from(name.as_str()) {
            Ok(ServerName::DnsName(_)) => Ok(Self::Dns(name)),
            _ => Err(InvalidName),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

impl Name {
    pub(crate) fn server_name(&self) -> Option<ServerName<'static>> {
        match self {
            Self::Dns(name) => ServerName::try_from(name.clone()).ok(),
            Self::Ip(ip) => Some(ServerName::IpAddress((*ip).into())),
        }
    }
}

/// `localhost`, the host's name with and without `.local`, and the addresses of all its interfaces that others can type.
pub fn names_of_this_host() -> Vec<Name> {
    let mut names: BTreeSet<Name> = BTreeSet::new();
    names.insert(Name::Dns("localhost".to_owned()));
    names.extend(host_names(&rustix::system::uname().nodename().to_string_lossy()));
    names.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].map(Name::Ip));
    // Without the list the certificate is still good for the names.
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    names.extend(interfaces.iter().map(if_addrs::Interface::ip).filter(can_be_typed).map(Name::Ip));
    names.into_iter().collect()
}

/// The name as it is, its first label, and that with `.local`, by which mDNS finds it.
fn host_names(nodename: &str) -> Vec<Name> {
    let first = nodename.split('.').next().unwrap_or_default();
    let candidates = [nodename.to_owned(), first.to_owned(), format!("{first}.local")];
    candidates.iter().filter_map(|name| name.parse().ok()).filter(|name| matches!(name, Name::Dns(_))).collect()
}

/// Link-local addresses of IPv6 need a zone, which no browser takes.
fn can_be_typed(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_host_names_or_addresses() {
        assert_eq!("Laptop.Local.".parse(), Ok(Name::Dns("laptop.local".to_owned())));
        assert_eq!("::1".parse(), Ok(Name::Ip(IpAddr::V6(Ipv6Addr::LOCALHOST))));
        for bad in ["", "a b", "-", "a..b", "http://a", "a:80", "*"] {
            assert_eq!(bad.parse::<Name>(), Err(InvalidName), "{bad:?}");
        }
    }

    #[test]
    fn this_host_is_at_least_local() {
        let names = names_of_this_host();
        for name in ["localhost", "127.0.0.1", "::1"] {
            assert!(names.contains(&name.parse().expect("a name")), "{name}: {names:?}");
        }
    }

    #[test]
    fn a_host_is_found_by_mdns_too() {
        let text = |nodename: &str| host_names(nodename).iter().map(Name::to_string).collect::<Vec<_>>();
        assert_eq!(text("laptop"), ["laptop", "laptop", "laptop.local"]);
        assert_eq!(text("Laptop.home.arpa"), ["laptop.home.arpa", "laptop", "laptop.local"]);
        assert!(text("").is_empty(), "an unnamed host has no names");
    }
}
