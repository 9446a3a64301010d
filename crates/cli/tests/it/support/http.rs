//! Requests as a script would make them: one connection each, JSON or a form.

use serde_json::Value;
use std::net::SocketAddr;
use testkit::{RawClient, RawResponse};

/// One request: `method`, `path`, further field lines, and a body.
pub(crate) fn request(addr: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> RawResponse {
    let mut client = RawClient::connect(addr);
    client.send(bytes_of(addr, method, path, fields, body));
    client.read_response_to(method)
}

/// The bytes `request` sends.
pub(crate) fn bytes_of(addr: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> String {
    let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let lines = lines.concat();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{lines}{length}\r\n{body}")
}

/// A GET with these fields.
pub(crate) fn get(addr: SocketAddr, path: &str, fields: &[(&str, &str)]) -> RawResponse {
    request(addr, "GET", path, fields, "")
}

/// A POST of a form, as a browser on the same page sends it.
pub(crate) fn post_form(addr: SocketAddr, path: &str, form: &str) -> RawResponse {
    let fields = [("Content-Type", "application/x-www-form-urlencoded"), ("Sec-Fetch-Site", "same-origin")];
    request(addr, "POST", path, &fields, form)
}

/// Somebody the tracker knows by a token.
pub(crate) struct Caller {
    addr: SocketAddr,
    authorization: String,
}

impl Caller {
    /// Claims a free name at the tracker, as curl would.
    pub(crate) fn claim(addr: SocketAddr, name: &str) -> Self {
        let body = serde_json::json!({ "username": name }).to_string();
        let response = request(addr, "POST", "/submit-info", &[("Content-Type", "application/json")], &body);
        assert_eq!(response.status, 200, "{}", response.text());
        let token = json(&response)["token"].as_str().expect("an answer has a token").to_owned();
        Self { addr, authorization: format!("Bearer {token}") }
    }

    /// Comes into a channel.
    pub(crate) fn join(&self, channel: &str) {
        let response = self.post("/join-list", &serde_json::json!({ "channel": channel }));
        assert!(matches!(response.status, 200 | 201), "{}", response.text());
    }

    /// POSTs JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> RawResponse {
        let fields = [("Content-Type", "application/json"), ("Authorization", self.authorization.as_str())];
        request(self.addr, "POST", path, &fields, &body.to_string())
    }

    /// POSTs JSON to a server that may die meanwhile: nothing unless a whole answer came back.
    pub(crate) fn try_post(&self, path: &str, body: &Value) -> Option<RawResponse> {
        use std::io::{Read, Write};
        let fields = [("Content-Type", "application/json"), ("Authorization", self.authorization.as_str())];
        let mut stream = std::net::TcpStream::connect(self.addr).ok()?;
        stream.write_all(bytes_of(self.addr, "POST", path, &fields, &body.to_string()).as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        whole_response(&answer)
    }

    /// POSTs these bytes as JSON, whatever they are.
    pub(crate) fn post_raw(&self, path: &str, body: &str) -> RawResponse {
        let fields = [("Content-Type", "application/json"), ("Authorization", self.authorization.as_str())];
        request(self.addr, "POST", path, &fields, body)
    }

    /// GETs JSON and insists on 200.
    pub(crate) fn get(&self, path: &str) -> Value {
        let response = get(self.addr, path, &[("Authorization", self.authorization.as_str())]);
        assert_eq!(response.status, 200, "{}", response.text());
        json(&response)
    }

    /// The text messages of a channel as (seq, author, text), after checking that `seq` has no hole.
    pub(crate) fn log(&self, channel: &str) -> Vec<(u64, String, String)> {
        let mut log = Vec::new();
        let mut after = 0;
        loop {
            let page = self.get(&format!("/get-messages?channel={channel}&after={after}&limit=100"));
            let messages = page["messages"].as_array().expect("messages is a list").clone();
            if messages.is_empty() {
                return log;
            }
            for message in messages {
                let seq = message["seq"].as_u64().expect("a logged message has a seq");
                assert_eq!(seq, after + 1, "seq has a hole");
                after = seq;
                if let Some(text) = message["text"].as_str() {
                    log.push((seq, message["author"].as_str().unwrap_or_default().to_owned(), text.to_owned()));
                }
            }
        }
    }
}

/// The body as JSON.
pub(crate) fn json(response: &RawResponse) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{error}: {}", response.text()))
}

/// `session=…` as a Cookie value, from the answer to a login.
pub(crate) fn session_cookie(response: &RawResponse) -> String {
    response
        .fields_named("set-cookie")
        .filter_map(|cookie| cookie.split(';').next())
        .find(|cookie| cookie.starts_with("session="))
        .expect("a login sets the session cookie")
        .to_owned()
}

/// An answer with Content-Length, if all of it is there.
fn whole_response(bytes: &[u8]) -> Option<RawResponse> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next()?.to_owned();
    let status = status_line.split(' ').nth(1)?.parse().ok()?;
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let response = RawResponse { status, status_line, fields, body: body.as_bytes().to_vec(), trailers: Vec::new() };
    let length: usize = response.field("content-length")?.parse().ok()?;
    (length == body.len()).then_some(response)
}
