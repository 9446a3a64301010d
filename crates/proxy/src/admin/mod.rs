//! What operators look at, on a listener of its own: a page, JSON for scripts, metrics for Prometheus, orders.
//!
//! It is meant for this machine. Whoever reaches the listener without a [`Token`] must have asked for a loopback
//! address by its number or by `localhost`: a page elsewhere whose name was made to lead here gets nothing. Orders
//! need a proof that no other page sent them. Another address than loopback needs a token, and somebody's word.

mod api;
mod guard;

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;

use engine::{Connections, Method, Request, Response, Service, StatusCode};

use crate::metrics::{self, Status};
use crate::proxy::Proxy;
use guard::Refusal;

/// Longest order, in bytes.
const ORDER_BYTES_MAX: u64 = 4096;
/// Shortest token, in bytes: so many random letters cannot be guessed over a network.
const TOKEN_BYTES_MIN: usize = 16;

/// What the page may do: nothing but its own scripts, styles and requests.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                                       connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The page: path, media type, content.
const FILES: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("../../../../www-admin/index.html")),
    ("/admin.css", "text/css; charset=utf-8", include_str!("../../../../www-admin/admin.css")),
    ("/admin.js", "text/javascript; charset=utf-8", include_str!("../../../../www-admin/admin.js")),
    ("/chart.js", "text/javascript; charset=utf-8", include_str!("../../../../www-admin/chart.js")),
    ("/history.js", "text/javascript; charset=utf-8", include_str!("../../../../www-admin/history.js")),
    ("/show.js", "text/javascript; charset=utf-8", include_str!("../../../../www-admin/show.js")),
    ("/icon.svg", "image/svg+xml", include_str!("../../../../www-admin/icon.svg")),
];

/// What whoever asks from elsewhere has to know.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl FromStr for Token {
    type Err = AdminError;

    /// Takes a token from text such as that of a file; white space around it does not count.
    fn from_str(text: &str) -> Result<Self, AdminError> {
        let token = text.trim();
        let is_sound = token.len() >= TOKEN_BYTES_MIN && token.bytes().all(|byte| byte.is_ascii_graphic());
        if is_sound { Ok(Self(token.into())) } else { Err(AdminError::Token) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why there is no admin listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// The token is none.
    #[error("an admin token needs at least {TOKEN_BYTES_MIN} visible ASCII characters and no spaces")]
    Token,
    /// The address can be reached from elsewhere.
    #[error(
        "{0} can be reached from other machines: take a loopback address for the admin page, or say that you mean it and give a token"
    )]
    Exposed(SocketAddr),
}

/// The admin listener of one proxy.
#[derive(Debug, Clone)]
pub struct Admin {
    proxy: Proxy,
    token: Option<Token>,
    connections: Option<Connections>,
}

impl Admin {
    /// The admin listener of a proxy at an address; `is_meant` allows one that can be reached from elsewhere.
    ///
    /// # Errors
    /// The address can be reached from elsewhere, and that is not meant or there is no token.
    pub fn new(proxy: Proxy, address: SocketAddr, token: Option<Token>, is_meant: bool) -> Result<Self, AdminError> {
        if !(address.ip().to_canonical().is_loopback() || is_meant && token.is_some()) {
            return Err(AdminError::Exposed(address));
        }
        Ok(Self { proxy, token, connections: None })
    }

    /// Lets it say how many connections are open.
    pub fn counting(self, connections: Connections) -> Self {
        Self { connections: Some(connections), ..self }
    }

    /// Makes the service of each worker: for [`engine::Server::listen`].
    pub fn service(&self) -> impl Fn() -> AdminService + Send + Sync + use<> {
        let admin = self.clone();
        move || AdminService(Rc::new(admin.clone()))
    }

    fn status(&self) -> Status {
        let connections = self.connections.as_ref().map_or(0, |connections| connections.open() as u64);
        Status { connections, ..self.proxy.status() }
    }
}

/// Answers what operators ask.
#[derive(Debug, Clone)]
pub struct AdminService(Rc<Admin>);

impl Service for AdminService {
    fn call(&self, request: Request) -> impl Future<Output = Response> + use<> + 'static {
        let admin = Rc::clone(&self.0);
        async move {
            let response = admin.answer(request).await;
            response
                .field("content-security-policy", CONTENT_SECURITY_POLICY)
                .field("x-content-type-options", "nosniff")
                .field("referrer-policy", "no-referrer")
                .field("cross-origin-resource-policy", "same-origin")
                .field("cache-control", "no-store")
        }
    }
}

impl Admin {
    async fn answer(&self, request: Request) -> Response {
        let head = &request.head;
        if self.token.is_none()
            && let Err(refusal) = guard::names_loopback(head)
        {
            return refused(&refusal);
        }
        let is_reading = matches!(head.method(), Method::Get | Method::Head);
        if let Some((_, media_type, content)) = FILES.iter().find(|(path, _, _)| *path == head.path()) {
            return if is_reading { page(media_type, content) } else { not_allowed("GET, HEAD") };
        }
        let is_known = matches!(head.path(), "/metrics" | "/api/status" | "/healthz" | "/api/servers");
        if !is_known {
            return Response::text(StatusCode::NOT_FOUND, "there is nothing here\n");
        }
        if let Some(token) = &self.token
            && let Err(refusal) = guard::has_token(head, &token.0)
        {
            return refused(&refusal);
        }
        match (head.path(), is_reading) {
            ("/metrics", true) => page(metrics::CONTENT_TYPE, &metrics::write_text(&self.status())),
            ("/api/status", true) => page("application/json", &api::status(&self.status())),
            ("/healthz", true) => Response::text(StatusCode::OK, "ok\n"),
            ("/api/servers", _) if head.method() == Method::Post => self.order(request).await,
            ("/api/servers", _) => not_allowed("POST"),
            _ => not_allowed("GET, HEAD"),
        }
    }

    async fn order(&self, request: Request) -> Response {
        if let Err(refusal) = guard::is_own_order(&request.head) {
            return refused(&refusal);
        }
        let content = match request.body.collect(ORDER_BYTES_MAX).await {
            Ok(content) => content,
            Err(error) => return Response::text(error.status(), format!("{error}\n")),
        };
        let order = match api::order(&content) {
            Ok(order) => order,
            Err(problem) => return Response::text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
        };
        match self.proxy.order(&order.upstream, order.server, order.state) {
            Ok(()) => page("application/json", &api::done(&order)),
            Err(error) => Response::text(StatusCode::NOT_FOUND, format!("{error}\n")),
        }
    }
}

fn page(media_type: &str, content: &str) -> Response {
    Response::bytes(StatusCode::OK, media_type, content.to_owned())
}

fn not_allowed(allow: &str) -> Response {
    Response::text(StatusCode::METHOD_NOT_ALLOWED, "this is asked for in another way\n").field("allow", allow)
}

fn refused(refusal: &Refusal) -> Response {
    let response = Response::text(refusal.status, format!("{}\n", refusal.why));
    if refusal.status == StatusCode::UNAUTHORIZED { response.field("www-authenticate", "Bearer") } else { response }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::conf::Config;

    #[test]
    fn another_address_than_loopback_needs_a_word_and_a_token() {
        let proxy = Proxy::new(&Config::default());
        let token = || Some("0123456789abcdef".parse().unwrap());
        for (address, token, is_meant, expect) in [
            ("127.0.0.1:1", None, false, true),
            ("[::1]:1", None, false, true),
            ("[::ffff:127.0.0.1]:1", None, false, true),
            ("0.0.0.0:1", None, false, false),
            ("192.0.2.1:1", None, true, false),
            ("192.0.2.1:1", token(), false, false),
            ("192.0.2.1:1", token(), true, true),
        ] {
            let admin = Admin::new(proxy.clone(), address.parse().unwrap(), token, is_meant);
            assert_eq!(admin.is_ok(), expect, "{address} {is_meant}");
        }
    }

    #[test]
    fn a_token_is_long_and_never_shown() {
        assert!("short".parse::<Token>().is_err());
        assert!("0123456789 abcdef".parse::<Token>().is_err());
        let token: Token = " 0123456789abcdef\n".parse().unwrap();
        assert_eq!(&*token.0, "0123456789abcdef");
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
