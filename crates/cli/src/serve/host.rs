//! By which names a folder on this machine may be asked for.
//!
//! A page anywhere can once it is loaded have its own name point at 127.0.0.1 (DNS rebinding). Its browser then takes
//! our files for its own: it may read them, and post to the upload form. What came over loopback and has no password
//! is therefore only for who wrote an address or a name that means something in this network alone, which no page
//! elsewhere can be the owner of.

use std::net::{IpAddr, SocketAddr};
use weaprous::prelude::*;

/// The layer that asks for such a name.
pub(crate) async fn own_names_only(request: Request, next: Next) -> Response {
    if request.local_addr().ip().to_canonical().is_loopback() && !is_own(request.head.host()) {
        let problem = Problem::new(StatusCode::MISDIRECTED_REQUEST);
        return problem
            .detail("ask for this machine by its address, as localhost or by a name of this network")
            .into_response();
    }
    next.run(request).await
}

/// Whether the host is an address, or a name no public server of names knows: one word, or below `.local` or
/// `.localhost`; with or without a port. An old program may leave it out.
fn is_own(host: &str) -> bool {
    let unbracketed = host.trim_start_matches('[').trim_end_matches(']');
    let is_address = host.parse::<SocketAddr>().is_ok() || unbracketed.parse::<IpAddr>().is_ok();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    is_address || !name.contains('.') || matches!(name.rsplit('.').next(), Some("local" | "localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_nobody_else_can_own_are_ours() {
        for own in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "localhost",
            "LocalHost:80",
            "a.localhost",
            "box:80",
            "box.local",
            "",
        ] {
            assert!(is_own(own), "{own}");
        }
        for other in
            ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example."]
        {
            assert!(!is_own(other), "{other}");
        }
    }
}
