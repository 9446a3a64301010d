//! Received heads: what a start line and its fields say, with everything a driver asks of them.

use crate::{Framing, Method, ReceivedFields, StatusCode, TargetForm, Version};

/// The head of a received request. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct RequestHead {
    fields: ReceivedFields,
}

/// The head of a received response. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    fields: ReceivedFields,
}

impl RequestHead {
    /// The method.
    pub fn method(&self) -> Method {
        todo!()
    }

    /// The target exactly as received: visible ASCII.
    pub fn target(&self) -> &str {
        todo!()
    }

    /// Which of the four shapes the target has.
    pub fn form(&self) -> TargetForm {
        todo!()
    }

    /// The path, still percent-encoded, starting with `/`; `*` in asterisk form, empty in authority
    /// form.
    pub fn path(&self) -> &str {
        todo!()
    }

    /// What follows the first `?`, still percent-encoded.
    pub fn query(&self) -> Option<&str> {
        todo!()
    }

    /// The host and port the request is for: the target's if it names one, otherwise `Host`
    /// (RFC 9112 §3.2.2, §3.3). Empty only for an HTTP/1.0 request that says nothing.
    pub fn host(&self) -> &str {
        todo!()
    }

    /// The host without port; IPv6 literals keep their brackets.
    pub fn host_name(&self) -> &str {
        todo!()
    }

    /// The port the client wrote, if it wrote one.
    pub fn port(&self) -> Option<u16> {
        todo!()
    }

    /// The version the client speaks.
    pub fn version(&self) -> Version {
        todo!()
    }

    /// The fields, in order.
    pub fn fields(&self) -> &ReceivedFields {
        &self.fields
    }

    /// The value of the first field of this name, in any case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(name)
    }

    /// The same as text; `None` also when it is not UTF-8.
    pub fn field_str(&self, name: &str) -> Option<&str> {
        self.fields.get_str(name)
    }

    /// The values of all fields of this name, in order.
    pub fn fields_named(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields.get_all(name)
    }

    /// How the body ends. Never `UntilClose`.
    pub fn framing(&self) -> Framing {
        todo!()
    }

    /// Whether the client lets the connection live after this exchange (RFC 9112 §9.3).
    pub fn keep_alive(&self) -> bool {
        todo!()
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    /// False without a body and for HTTP/1.0.
    pub fn expects_continue(&self) -> bool {
        todo!()
    }

    /// The options listed in `Connection`, among them names of fields not to forward.
    pub fn connection_tokens(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.tokens("connection")
    }

    /// The protocols the client offers to switch to; empty unless `Connection: upgrade` stands
    /// beside `Upgrade` in an HTTP/1.1 request. `h2c` is left out (RFC 9113 §3.1).
    pub fn upgrade(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// Whether the client offers to switch to this protocol, such as `websocket`.
    pub fn upgrades_to(&self, protocol: &str) -> bool {
        self.upgrade().any(|offer| offer.eq_ignore_ascii_case(protocol))
    }
}

impl ResponseHead {
    /// The status code.
    pub fn status(&self) -> StatusCode {
        todo!()
    }

    /// The reason phrase as received; often empty, never to be acted upon.
    pub fn reason(&self) -> &[u8] {
        todo!()
    }

    /// The version the server speaks.
    pub fn version(&self) -> Version {
        todo!()
    }

    /// The fields, in order.
    pub fn fields(&self) -> &ReceivedFields {
        &self.fields
    }

    /// The value of the first field of this name, in any case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(name)
    }

    /// The same as text; `None` also when it is not UTF-8.
    pub fn field_str(&self, name: &str) -> Option<&str> {
        self.fields.get_str(name)
    }

    /// The values of all fields of this name, in order.
    pub fn fields_named(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields.get_all(name)
    }

    /// How the body of *this* message ends: `None` in answer to `HEAD`, and for 1xx, 204 and 304.
    pub fn framing(&self) -> Framing {
        todo!()
    }

    /// The declared `Content-Length`, also where no body follows (`HEAD`, 304).
    pub fn content_length(&self) -> Option<u64> {
        todo!()
    }

    /// Whether the server lets the connection live after this exchange (RFC 9112 §9.3).
    pub fn keep_alive(&self) -> bool {
        todo!()
    }

    /// The options listed in `Connection`, among them names of fields not to forward.
    pub fn connection_tokens(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.tokens("connection")
    }

    /// Whether another response to the same request follows (1xx other than 101).
    pub fn is_interim(&self) -> bool {
        self.status().is_interim() && !self.is_switching()
    }

    /// Whether the bytes after this head are another protocol's (101).
    pub fn is_switching(&self) -> bool {
        self.status() == StatusCode::SWITCHING_PROTOCOLS
    }
}
