//! Applications on free ports, and requests written out.

use engine::{Running, Server, Settings, Stop};
use std::time::Duration;
use testkit::{RawClient, RawResponse};
use weaprous::App;

/// Longer than any test waits, so that a stream that ignores the stop fails its test.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// Serves an application until the returned value is dropped.
pub(crate) fn serve(app: App) -> Running {
    let settings = Settings { workers: Some(1), ..Settings::default() };
    let any_port = "127.0.0.1:0".parse().unwrap();
    Server::new(settings).listen(any_port, app.into_service().unwrap()).unwrap().start(Stop::new(), GRACE).unwrap()
}

pub(crate) fn connect(server: &Running) -> RawClient {
    RawClient::connect(server.local_addrs()[0])
}

/// Sends one request on a connection of its own. `fields` are whole lines without CRLF.
pub(crate) fn ask(server: &Running, method: &str, target: &str, fields: &[&str], content: &str) -> RawResponse {
    let mut client = connect(server);
    client.send(request(method, target, fields, content));
    client.read_response_to(method)
}

/// A `GET` with these fields.
pub(crate) fn get(server: &Running, target: &str, fields: &[&str]) -> RawResponse {
    ask(server, "GET", target, fields, "")
}

/// The bytes of a request.
pub(crate) fn request(method: &str, target: &str, fields: &[&str], content: &str) -> String {
    let fields: String = fields.iter().flat_map(|field| [field, "\r\n"]).collect();
    let length = if content.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", content.len()) };
    format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{fields}{length}\r\n{content}")
}
