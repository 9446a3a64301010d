//! What a handshake said about the connection.

use super::Snapshot;
use super::certificates::Certificate;
use http1::RequestHead;
use rustls::ServerConnection;
use rustls::pki_types::ServerName;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// The TLS side of a connection.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The name the client asked for (SNI).
    pub server_name: Option<String>,
    /// The protocol that was agreed upon: `h2` or `http/1.1`.
    pub alpn: Option<Vec<u8>>,
    /// The client's own certificate, as DER; its signature and authority were verified.
    pub client_certificate: Option<Vec<u8>>,
    snapshot: Option<Arc<Snapshot>>,
    /// The host of the last request that was not misdirected: the next one's is mostly the same, and to look into a
    /// certificate costs more than all else of a short request.
    last_host: RefCell<String>,
}

impl TlsInfo {
    pub(super) fn new(connection: &ServerConnection, snapshot: Arc<Snapshot>) -> Self {
        let first = connection.peer_certificates().and_then(<[_]>::first);
        Self {
            server_name: connection.server_name().map(str::to_owned),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            client_certificate: first.map(|certificate| certificate.as_ref().to_vec()),
            snapshot: Some(snapshot),
            last_host: RefCell::default(),
        }
    }

    /// Whether a request came by a connection that is not for its host, so that the answer is 421 (RFC 9110 §7.4):
    ///
    /// - A host the presented certificate covers is fine: browsers use one connection for several of its names.
    /// - So is the name the client asked for, whatever certificate it was given: it was content with it.
    /// - A client that asked for no name is refused only where another certificate is for the host.
    /// - Everything else is misdirected.
    pub(crate) fn is_misdirected(&self, head: &RequestHead) -> bool {
        let Some(snapshot) = &self.snapshot else { return false };
        let host = head.host_name();
        if *self.last_host.borrow() == host {
            return false; // also where there is none
        }
        let is_misdirected = self.is_for_another(snapshot, host);
        if !is_misdirected {
            host.clone_into(&mut self.last_host.borrow_mut());
        }
        is_misdirected
    }

    fn is_for_another(&self, snapshot: &Snapshot, host: &str) -> bool {
        if self.server_name.as_deref().is_some_and(|name| is_same_name(name, host)) {
            return false;
        }
        let presented = snapshot.certificates.for_name(self.server_name.as_deref());
        match (host_name(host), &self.server_name) {
            (Some(name), _) if presented.covers(&name) => false,
            (Some(name), None) => has_another(snapshot, &name, presented),
            (None, None) => false,
            (_, Some(_)) => true,
        }
    }
}

fn has_another(snapshot: &Snapshot, name: &ServerName<'_>, presented: &Certificate) -> bool {
    snapshot.certificates.has_another_for(name, presented)
}

fn is_same_name(one: &str, other: &str) -> bool {
    let plain = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    plain(one) == plain(other)
}

/// A host as certificates name it; IPv6 literals come in brackets.
fn host_name(host: &str) -> Option<ServerName<'_>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare).ok()
}

impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInfo")
            .field("server_name", &self.server_name)
            .field("alpn", &self.alpn.as_deref().map(String::from_utf8_lossy))
            .field("has_client_certificate", &self.client_certificate.is_some())
            .finish_non_exhaustive()
    }
}
