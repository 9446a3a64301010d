//! Received heads: what a start line and its fields say, with everything a driver asks of them.

use crate::framing::{Facts, Sign, Signs};
use crate::start_line::{RequestLine, StatusLine};
use crate::target;
use crate::{ErrorKind, Framing, Method, ReceivedFields, StatusCode, TargetForm, Version, tokens};
use std::ops::Range;

/// The head of a received request.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// What else it says lies in the same box.
    fields: ReceivedFields,
}

/// What a request's head says beside its fields.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    line: RequestLine,
    verdict: Verdict,
}

/// The head of a received response.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    fields: ReceivedFields,
    status: StatusCode,
    version: Version,
    reason: Range<u16>,
    framing: Framing,
    content_length: Option<u64>,
    keep_alive: bool,
    upgrade: bool,
}

/// What the fields of a request decide beside the application.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    host: Range<u16>,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    expects_continue: bool,
    upgrade: bool,
    seen: Signs,
}

impl Verdict {
    const NOTHING: Self = Self {
        host: 0..0,
        framing: Framing::None,
        keep_alive: false,
        expects_continue: false,
        upgrade: false,
        seen: Signs::NONE,
    };

    /// Of the usual head without content, of which only `Host` decides anything: what [`Verdict::of`] makes of it.
    #[inline]
    pub(crate) fn usual(line: &RequestLine, facts: &Facts) -> Option<Self> {
        let host = facts.host?;
        let is_usual = facts.say_nothing_else() && line.version == Version::Http11 && line.target.authority.is_empty();
        is_usual.then(|| Self {
            host: host.value_range(),
            framing: Framing::None,
            keep_alive: true,
            expects_continue: false,
            upgrade: false,
            seen: Signs::NONE,
        })
    }

    /// Judges a head as a whole, whose fields have been read.
    pub(crate) fn of(line: &RequestLine, facts: &Facts) -> Result<Self, ErrorKind> {
        let version = line.version;
        let host = match facts.host {
            None if version == Version::Http11 => return Err(ErrorKind::HostMissing),
            _ if !line.target.authority.is_empty() => line.target.authority.clone(),
            Some(span) => span.value_range(),
            None => 0..0,
        };
        let framing = facts.request_framing(version)?;
        Ok(Self {
            host,
            framing,
            keep_alive: facts.keep_alive(version),
            expects_continue: facts.expects_continue(version)? && !framing.is_empty(),
            upgrade: facts.upgrade(version),
            seen: facts.seen,
        })
    }
}

impl Judged {
    /// What stands where there is no request.
    pub(crate) const NOTHING: Self = Self { line: RequestLine::EMPTY, verdict: Verdict::NOTHING };
}

impl Default for Judged {
    fn default() -> Self {
        Self::NOTHING
    }
}

impl RequestHead {
    /// A head whose fields have been read and judged, and which came as these bytes.
    #[inline]
    pub(crate) fn new(bytes: &[u8], line: RequestLine, mut fields: ReceivedFields, verdict: Verdict) -> Self {
        fields.set_request(bytes, Judged { line, verdict });
        Self { fields }
    }

    #[inline]
    fn line(&self) -> &RequestLine {
        &self.fields.request().line
    }

    #[inline]
    fn verdict(&self) -> &Verdict {
        &self.fields.request().verdict
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.line().method
    }

    /// The target exactly as received: visible ASCII.
    #[inline]
    pub fn target(&self) -> &str {
        self.text(&self.line().target.whole)
    }

    /// Which of the four shapes the target has.
    pub fn form(&self) -> TargetForm {
        self.line().target.form
    }

    /// The path, still percent-encoded, starting with `/`; `*` in asterisk form, empty in authority
    /// form.
    pub fn path(&self) -> &str {
        if self.line().target.form == TargetForm::Absolute && self.line().target.path.is_empty() {
            return "/";
        }
        self.text(&self.line().target.path)
    }

    /// What follows the first `?`, still percent-encoded.
    pub fn query(&self) -> Option<&str> {
        self.line().target.query.as_ref().map(|query| self.text(query))
    }

    /// The host and port the request is for: the target's if it names one, otherwise `Host`
    /// (RFC 9112 §3.2.2, §3.3). Empty only for an HTTP/1.0 request that says nothing.
    pub fn host(&self) -> &str {
        self.text(&self.verdict().host)
    }

    /// The host without port; IPv6 literals keep their brackets.
    pub fn host_name(&self) -> &str {
        self.split_host().0
    }

    /// The port the client wrote, if it wrote one.
    pub fn port(&self) -> Option<u16> {
        target::port(self.split_host().1)
    }

    /// The version the client speaks.
    pub fn version(&self) -> Version {
        self.line().version
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
        self.verdict().framing
    }

    /// Says by what a head came that was judged as one of HTTP/1.1.
    pub(crate) fn set_version(&mut self, version: Version) {
        self.fields.request_mut().line.version = version;
    }

    /// Says how the body ends where the connection frames it itself.
    pub(crate) fn set_framing(&mut self, framing: Framing) {
        // Any other expectation was refused.
        let expects_continue = !framing.is_empty() && self.fields.contains("expect");
        let verdict = &mut self.fields.request_mut().verdict;
        (verdict.framing, verdict.expects_continue) = (framing, expects_continue);
    }

    /// Whether the client lets the connection live after this exchange (RFC 9112 §9.3).
    pub fn keep_alive(&self) -> bool {
        self.verdict().keep_alive
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    /// False without a body and for HTTP/1.0.
    pub fn expects_continue(&self) -> bool {
        self.verdict().expects_continue
    }

    /// Whether the client takes fields behind a body in chunks (RFC 9110 §10.1.4).
    #[inline]
    pub fn accepts_trailers(&self) -> bool {
        self.verdict().seen.has(Sign::Te) && self.lists_trailers()
    }

    /// The options listed in `Connection`, among them names of fields not to forward.
    pub fn connection_tokens(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.tokens("connection")
    }

    /// The protocols the client offers to switch to; empty unless `Connection: upgrade` stands
    /// beside `Upgrade` in an HTTP/1.1 request. `h2c` is left out (RFC 9113 §3.1).
    pub fn upgrade(&self) -> impl Iterator<Item = &str> {
        offers(&self.fields, self.verdict().upgrade)
    }

    /// Whether the client offers to switch to this protocol, such as `websocket`.
    pub fn upgrades_to(&self, protocol: &str) -> bool {
        self.upgrade().any(|offer| offer.eq_ignore_ascii_case(protocol))
    }

    #[cold]
    fn lists_trailers(&self) -> bool {
        self.fields.tokens("te").any(|token| token.eq_ignore_ascii_case(b"trailers"))
    }

    fn split_host(&self) -> (&str, &str) {
        let host = self.host();
        let end = target::judged_host_name_end(host.as_bytes()).unwrap_or(host.len());
        host.split_at(end)
    }

    #[inline]
    fn text(&self, range: &Range<u16>) -> &str {
        let bytes = &self.fields.bytes()[usize::from(range.start)..usize::from(range.end)];
        std::str::from_utf8(bytes).expect("targets and hosts are ASCII")
    }
}

impl ResponseHead {
    /// Judges a complete head as a whole, knowing the method it answers.
    pub(crate) fn new(
        line: StatusLine,
        facts: &Facts,
        fields: ReceivedFields,
        answers: Method,
    ) -> Result<Self, ErrorKind> {
        let StatusLine { status, version, reason } = line;
        let framing = facts.response_framing(version, status, answers)?;
        Ok(Self {
            status,
            version,
            reason,
            framing,
            content_length: facts.content_length,
            keep_alive: facts.keep_alive(version) && framing != Framing::UntilClose,
            upgrade: facts.upgrade(version),
            fields,
        })
    }

    /// Says how the content ends where the connection frames it itself, and lives on.
    pub(crate) fn framed_elsewhere(&mut self, framing: Framing) {
        self.framing = framing;
        self.keep_alive = true;
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The reason phrase as received; often empty, never to be acted upon.
    pub fn reason(&self) -> &[u8] {
        &self.fields.bytes()[usize::from(self.reason.start)..usize::from(self.reason.end)]
    }

    /// The version the server speaks.
    pub fn version(&self) -> Version {
        self.version
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
        self.framing
    }

    /// The declared `Content-Length`, also where no body follows (`HEAD`, 304).
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Whether the connection may live after this exchange (RFC 9112 §9.3): false also when only
    /// its end ends the body.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// The options listed in `Connection`, among them names of fields not to forward.
    pub fn connection_tokens(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.tokens("connection")
    }

    /// The protocols named in `Upgrade` beside `Connection: upgrade`; with 101, the one chosen.
    pub fn upgrade(&self) -> impl Iterator<Item = &str> {
        offers(&self.fields, self.upgrade)
    }

    /// Whether another response to the same request follows (1xx other than 101).
    pub fn is_interim(&self) -> bool {
        self.status.is_interim() && !self.is_switching()
    }

    /// Whether the bytes after this head are another protocol's (101).
    pub fn is_switching(&self) -> bool {
        self.status == StatusCode::SWITCHING_PROTOCOLS
    }
}

/// The members of `Upgrade`, if they mean anything, without the obsolete `h2c`.
fn offers(fields: &ReceivedFields, meant: bool) -> impl Iterator<Item = &str> {
    fields
        .get_all("upgrade")
        .filter(move |_| meant)
        .flat_map(tokens)
        .filter_map(|offer| std::str::from_utf8(offer).ok())
        .filter(|offer| !offer.eq_ignore_ascii_case("h2c"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Limits, scan};

    /// What is judged in short is judged as it would be at length.
    #[test]
    fn a_usual_head_is_a_head_like_others() {
        let judge = |fields: &str| {
            let text = format!("GET /a?b HTTP/1.1\r\n{fields}\r\n");
            let mut facts = Facts::default();
            let found = scan::request_head(text.as_bytes(), &Limits::default(), &mut facts).unwrap();
            let at_length = Verdict::of(&found.line, &facts).map(|verdict| format!("{verdict:?}"));
            (Verdict::usual(&found.line, &facts).map(|verdict| format!("{verdict:?}")), at_length)
        };
        for fields in ["Host: a\r\n", "Accept: */*\r\nhost: 127.0.0.1:80\r\nX-Y: z\r\n", "Host: a_b\r\nCookie: c=d\r\n"]
        {
            let (usual, at_length) = judge(fields);
            assert_eq!(Ok(usual.unwrap()), at_length, "{fields:?}");
        }
        for unusual in ["Content-Length: 0", "Connection: close", "Expect: 100-continue", "TE: trailers", "Upgrade: x"]
        {
            assert!(judge(&format!("Host: a\r\n{unusual}\r\n")).0.is_none(), "{unusual}");
        }
        assert_eq!(judge("X: y\r\n"), (None, Err(ErrorKind::HostMissing)));
    }
}
