//! Fields on their way through: what is dropped, what is passed on, what is set (RFC 9110 §7.6).
//!
//! Towards the upstream: fields of one connection and those that `Connection` lists are dropped, framing
//! is left to the engine, and only then the proxy sets its own, so that no client can have them removed
//! or forge them. Never looks at a body.

use std::net::{IpAddr, SocketAddr};

use engine::{Fields, InvalidField, Method, RequestHead, ResponseHead, StatusCode, is_hop_by_hop};
use smallvec::SmallVec;

use crate::conf::{HeaderChange, HeaderEdit};
use crate::rewrite::Values;

/// A request on its way, with all that its new fields depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Onward<'a> {
    pub(crate) head: &'a RequestHead,
    /// The other end of the client's connection.
    pub(crate) peer: IpAddr,
    /// Whether `peer` is a proxy whose word counts.
    pub(crate) trusted: bool,
    /// Who asks: the peer, or whom trusted proxies name (see [`crate::access::client`]).
    pub(crate) client: IpAddr,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// What this proxy calls itself in `Via`.
    pub(crate) name: &'a str,
    pub(crate) edits: &'a [HeaderEdit],
    /// Fields that a `forward_auth` program gave; what the client calls so is dropped.
    pub(crate) granted: &'a [(String, Vec<u8>)],
    pub(crate) upstream: SocketAddr,
    /// The protocols to offer, if the client wants to switch.
    pub(crate) upgrade: Option<&'a str>,
    pub(crate) hops: Hops,
}

/// What `Max-Forwards` says (RFC 9110 §7.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hops {
    /// Nothing, or nothing that counts for this method.
    Unlimited,
    /// So many more, this proxy not counted.
    Left(u64),
    /// This is where the request is to be answered.
    Over,
}

/// Reads `Max-Forwards`, which concerns only `OPTIONS` and `TRACE`.
pub(crate) fn hops(head: &RequestHead) -> Hops {
    if !matches!(head.method(), Method::Options | Method::Trace) {
        return Hops::Unlimited;
    }
    let Some(value) = head.field_str("max-forwards") else { return Hops::Unlimited };
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Hops::Unlimited;
    }
    match value.parse::<u64>().unwrap_or(u64::MAX).checked_sub(1) {
        Some(left) => Hops::Left(left),
        None => Hops::Over,
    }
}

/// Whether the request has passed through the proxy of this name before (RFC 9110 §7.6.3).
pub(crate) fn has_passed(head: &RequestHead, name: &str) -> bool {
    head.fields().tokens("via").any(|hop| {
        let mut words = hop.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        words.nth(1) == Some(name.as_bytes())
    })
}

/// The protocols a client offers to switch to, as one value; none when it sends a body as well.
/// `h2c` is never among them (RFC 9113 §3.1).
pub(crate) fn upgrade(head: &RequestHead) -> Option<String> {
    let offers: Vec<&str> = head.upgrade().filter(|offer| !offer.eq_ignore_ascii_case("h2c")).collect();
    (!offers.is_empty() && head.framing().is_empty()).then(|| offers.join(", "))
}

/// The fields of the request that goes to the upstream.
pub(crate) fn to_upstream(onward: &Onward<'_>) -> Result<Fields, InvalidField> {
    let head = onward.head;
    let mut fields = Fields::new();
    let host = head.host();
    match host {
        // An HTTP/1.0 client without one gets the upstream's address.
        "" => fields.append("host", onward.upstream.to_string())?,
        host => fields.append("host", host)?,
    }
    let listed = listed(head.connection_tokens());
    fields.extend_received(head.fields(), |name| {
        let passes = if onward.trusted { passes_from_trusted(name) } else { passes_to_upstream(name) };
        passes && !is_listed(&listed, name)
    })?;
    add_own(&mut fields, onward, host)?;
    for (name, value) in onward.granted {
        fields.remove(name);
        if !value.is_empty() {
            fields.append(name, value)?;
        }
    }
    if !onward.edits.is_empty() {
        edit(&mut fields, onward.edits, &onward.values(&|| forwarded_for(onward)))?;
    }
    Ok(fields)
}

/// Makes the operator's changes to the fields of a head. `Host` alone cannot be taken away.
pub(crate) fn edit(fields: &mut Fields, edits: &[HeaderEdit], values: &Values<'_>) -> Result<(), InvalidField> {
    for HeaderEdit { name, change } in edits {
        let value = match change {
            HeaderChange::Set(template) | HeaderChange::Add(template) => values.expand(template),
            HeaderChange::Remove => String::new(),
        };
        match change {
            HeaderChange::Add(_) if value.is_empty() => {}
            HeaderChange::Add(_) => fields.append(name, value)?,
            _ if !value.is_empty() => fields.set(name, value)?,
            _ if name.eq_ignore_ascii_case("host") => {}
            _ => drop(fields.remove(name)),
        }
    }
    Ok(())
}

impl<'a> Onward<'a> {
    /// What templates take from the request.
    pub(crate) fn values(&self, forwarded_for: &'a dyn Fn() -> String) -> Values<'a> {
        Values { head: self.head, client: self.client, peer: self.peer, scheme: self.scheme, forwarded_for }
    }

    /// The fields about which the operator or a `forward_auth` program decides, and not the client.
    pub(crate) fn decided_names(&self) -> Vec<String> {
        let edited = self.edits.iter().map(|edit| &edit.name);
        self.granted.iter().map(|(name, _)| name).chain(edited).cloned().collect()
    }
}

/// What the proxy itself says about the way a request came. Whoever is not trusted has said nothing about it that is
/// still there.
fn add_own(fields: &mut Fields, onward: &Onward<'_>, host: &str) -> Result<(), InvalidField> {
    let head = onward.head;
    if onward.trusted {
        fields.set("x-forwarded-for", forwarded_for(onward))?;
    } else {
        fields.append("x-forwarded-for", AddressText::of(onward.peer))?;
    }
    if !onward.trusted || !fields.contains("x-forwarded-proto") {
        fields.append("x-forwarded-proto", onward.scheme)?;
    }
    let is_told = onward.trusted && fields.contains("x-forwarded-host");
    if !host.is_empty() && !is_told {
        fields.append("x-forwarded-host", host)?;
    }
    if onward.trusted && fields.contains("forwarded") {
        fields.append("forwarded", forwarded(onward))?;
    }
    fields.append("via", via(onward))?;
    match onward.hops {
        Hops::Left(left) => fields.set("max-forwards", left.to_string())?,
        Hops::Unlimited | Hops::Over => {}
    }
    if let Some(offers) = onward.upgrade {
        fields.append("upgrade", offers)?;
    }
    if head.accepts_trailers() {
        fields.append("te", "trailers")?;
    }
    Ok(())
}

/// What this proxy adds to `Via`.
fn via(onward: &Onward<'_>) -> SmallVec<[u8; VIA_BYTES_USUAL]> {
    let mut via = SmallVec::new();
    for part in [onward.head.version().number(), " ", onward.name] {
        via.extend_from_slice(part.as_bytes());
    }
    via
}

/// What `Via` says of one proxy: the version and the name, which are a few letters and eight digits.
const VIA_BYTES_USUAL: usize = 32;

/// The text of an address, without an allocation where it is one of IPv4.
pub(crate) struct AddressText {
    text: SmallVec<[u8; Self::IPV4_BYTES_MAX]>,
}

impl AddressText {
    const IPV4_BYTES_MAX: usize = "255.255.255.255".len();

    pub(crate) fn of(address: IpAddr) -> Self {
        let IpAddr::V4(address) = address else { return Self { text: address.to_string().into_bytes().into() } };
        let mut text = SmallVec::new();
        for (place, number) in address.octets().into_iter().enumerate() {
            if place > 0 {
                text.push(b'.');
            }
            if number >= 100 {
                text.push(b'0' + number / 100);
            }
            if number >= 10 {
                text.push(b'0' + number / 10 % 10);
            }
            text.push(b'0' + number % 10);
        }
        Self { text }
    }
}

impl AsRef<[u8]> for AddressText {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// The fields that follow a request's content, on their way to the upstream: none that would have been dropped or
/// written anew in the head, since a program may take them for the head's (RFC 9110 §6.5.1). `reserved` are those of
/// this place.
pub(crate) fn trailers_to_upstream(received: &Fields, reserved: &[String]) -> Fields {
    const NEVER: [&str; 5] = ["authorization", "cookie", "via", "x-request-id", "content-type"];
    let mut fields = Fields::new();
    for (name, value) in received.iter() {
        let dropped = is_hop_by_hop(name)
            || is_rewritten(name.as_bytes())
            || is_about_the_way(name.as_bytes())
            || name.contains('_')
            || NEVER.iter().any(|other| other.eq_ignore_ascii_case(name))
            || reserved.iter().any(|other| other.eq_ignore_ascii_case(name));
        if !dropped {
            // It was received within the limits, and is shorter now.
            let _ = fields.append(name, value);
        }
    }
    fields
}

/// What a trusted peer says, and then the peer itself.
pub(crate) fn forwarded_for(onward: &Onward<'_>) -> String {
    let mut chain = String::new();
    if onward.trusted {
        for value in onward.head.fields_named("x-forwarded-for").filter_map(|value| std::str::from_utf8(value).ok()) {
            if !value.is_empty() {
                chain.push_str(value);
                chain.push_str(", ");
            }
        }
    }
    chain.push_str(&onward.peer.to_string());
    chain
}

/// One element of `Forwarded`: an IPv6 address stands in brackets and quotes (RFC 7239 §6).
fn forwarded(onward: &Onward<'_>) -> String {
    let node = match onward.peer {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    format!("for={node};host=\"{}\";proto={}", onward.head.host().replace(['"', '\\'], ""), onward.scheme)
}

/// The fields of the response that goes to the client.
pub(crate) fn to_client(head: &ResponseHead) -> Result<Fields, InvalidField> {
    let mut fields = Fields::new();
    let listed = listed(head.connection_tokens());
    let keeps_upgrade = matches!(head.status(), StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    fields.extend_received(head.fields(), |name| {
        let is_upgrade = keeps_upgrade && name.eq_ignore_ascii_case(b"upgrade");
        let dropped = is_hop_by_hop(name) || name.eq_ignore_ascii_case(b"content-length") || is_listed(&listed, name);
        is_upgrade || !dropped
    })?;
    Ok(fields)
}

/// Whether a field of this name goes on to the upstream as it came from a client; what `Connection` lists does not.
pub(crate) fn passes_to_upstream(name: &[u8]) -> bool {
    passes_from_trusted(name) && !is_about_the_way(name)
}

fn passes_from_trusted(name: &[u8]) -> bool {
    !(is_hop_by_hop(name) || is_rewritten(name) || name.contains(&b'_'))
}

/// Whether nothing in the head of a request of HTTP/1.1, which has a host, asks for more than its being passed on.
pub(crate) fn is_plain(head: &RequestHead) -> bool {
    let is_marked = |name: &[u8]| match name.len() {
        3 => name.eq_ignore_ascii_case(b"via"),
        10 => name.eq_ignore_ascii_case(b"connection"),
        _ => false,
    };
    let mut marked = head.fields().iter_bytes().filter(|(name, _)| is_marked(name));
    let is_usual = marked.all(|(name, value)| name.len() == 10 && !lists_fields(engine::tokens(value)));
    is_usual && !head.accepts_trailers() && head.upgrade().next().is_none()
}

/// Whether `Connection` lists more than the options everybody knows.
pub(crate) fn lists_fields<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> bool {
    !listed(tokens).is_empty()
}

/// Fields of a request that never travel as they are: the proxy or the engine writes them anew, or
/// they must not reach a program behind a gateway (`Proxy` would become `HTTP_PROXY` there).
fn is_rewritten(name: &[u8]) -> bool {
    const NAMES: [&str; 5] = ["host", "content-length", "expect", "proxy", "http2-settings"];
    NAMES.iter().any(|other| other.as_bytes().eq_ignore_ascii_case(name))
}

/// Fields that say who the client is. Only a proxy may, and only one that is trusted.
pub(crate) fn is_about_the_way(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    if !matches!(name.first(), Some(b'x' | b'X' | b'f' | b'F')) {
        return false;
    }
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
        || ["forwarded", "x-real-ip", "x-forwarded"].iter().any(|other| other.as_bytes().eq_ignore_ascii_case(name))
}

/// The names in a `Connection` field, without the options everybody knows.
fn listed<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    tokens
        .filter(|token| {
            !["close", "keep-alive", "upgrade", "te"].iter().any(|known| token.eq_ignore_ascii_case(known.as_bytes()))
        })
        .collect()
}

/// Whether `Connection` takes this field away. What the proxy reads or writes itself is beyond its reach.
fn is_listed(listed: &[&[u8]], name: &[u8]) -> bool {
    !listed.is_empty()
        && listed.iter().any(|other| other.eq_ignore_ascii_case(name))
        && !name.eq_ignore_ascii_case(b"via")
        && !is_about_the_way(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::BytesMut;
    use http1::{Event, Limits, RequestDecoder, ResponseDecoder};

    use super::*;
    use crate::conf::Config;

    fn request(text: &str) -> RequestHead {
        let mut input = BytesMut::from(text.replace('\n', "\r\n").as_bytes());
        match RequestDecoder::new(Limits::default()).poll(&mut input) {
            Ok(Some(Event::Head(head))) => head,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn response(text: &str) -> ResponseHead {
        let mut input = BytesMut::from(text.replace('\n', "\r\n").as_bytes());
        let mut decoder = ResponseDecoder::new(Limits::default());
        decoder.expect(Method::Get);
        match decoder.poll(&mut input) {
            Ok(Some(Event::Head(head))) => head,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn edits(lines: &str) -> Vec<HeaderEdit> {
        let text = format!("host a {{ proxy_pass http://1.2.3.4:5; {lines} }}");
        match Config::parse("test", &text).unwrap().hosts.remove(0).root.unwrap().action {
            crate::conf::Action::Pass(pass) => pass.request_headers,
            other => panic!("{other:?}"),
        }
    }

    fn onward(head: &RequestHead) -> Onward<'_> {
        Onward {
            head,
            peer: "192.0.2.7".parse().unwrap(),
            trusted: false,
            client: "192.0.2.7".parse().unwrap(),
            scheme: "http",
            name: "us",
            edits: &[],
            granted: &[],
            upstream: "10.0.0.1:9000".parse().unwrap(),
            upgrade: None,
            hops: hops(head),
        }
    }

    fn lines(fields: &Fields) -> Vec<String> {
        fields.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect()
    }

    /// What the proxy adds to every request of the client `192.0.2.7` for `app.local:8080`.
    const OWN: [&str; 4] =
        ["x-forwarded-for: 192.0.2.7", "x-forwarded-proto: http", "x-forwarded-host: app.local:8080", "via: 1.1 us"];

    /// Checks what becomes of some of a client's fields, beside `Host` and what the proxy adds.
    fn check(fields: &str, passed: &[&str]) {
        let head = request(&format!("GET / HTTP/1.1\nHost: app.local:8080\n{fields}\n"));
        let expect: Vec<&str> =
            std::iter::once("host: app.local:8080").chain(passed.iter().copied()).chain(OWN).collect();
        assert_eq!(lines(&to_upstream(&onward(&head)).unwrap()), expect, "{fields}");
    }

    #[test]
    fn addresses_are_written_as_everybody_writes_them() {
        for address in ["0.0.0.0", "127.0.0.1", "9.10.99.100", "255.255.255.255", "2001:db8::1", "::1"] {
            let text = AddressText::of(address.parse().unwrap());
            assert_eq!(std::str::from_utf8(text.as_ref()).unwrap(), address);
        }
    }

    #[test]
    fn other_fields_pass_in_order_with_duplicates() {
        check("", &[]);
        check("B: 1\nA: 2\nb: 3\nCookie: session=x\n", &["B: 1", "A: 2", "b: 3", "Cookie: session=x"]);
    }

    #[test]
    fn fields_of_one_connection_are_dropped() {
        check("Connection: keep-alive, TE\nKeep-Alive: 5\nTE: gzip\nTrailer: x\nA: 1\n", &["A: 1"]);
        check("Proxy-Connection: close\nProxy-Authorization: x\nProxy-Authenticate: y\nUpgrade: h2c\n", &[]);
        check("Transfer-Encoding: chunked\n", &[]);
        check("Content-Length: 0\nExpect: 100-continue\nHTTP2-Settings: AAMAAABk\n", &[]);
    }

    #[test]
    fn whoever_takes_trailers_is_sent_some() {
        let head = request("GET / HTTP/1.1\nHost: a\nConnection: TE\nTE: gzip;q=0.5, Trailers\n\n");
        assert_eq!(to_upstream(&onward(&head)).unwrap().get("te"), Some(&b"trailers"[..]));
    }

    #[test]
    fn trailers_cannot_say_what_the_head_may_not() {
        let mut fields = Fields::new();
        for name in ["X-Checksum", "Via", "X-Forwarded-For", "Forwarded", "a_b", "Host", "Cookie", "Connection", "X-B"]
        {
            fields.append(name, "1").unwrap();
        }
        assert_eq!(lines(&trailers_to_upstream(&fields, &[])), ["X-Checksum: 1", "X-B: 1"]);
        assert_eq!(lines(&trailers_to_upstream(&fields, &["x-b".to_owned()])), ["X-Checksum: 1"]);
    }

    #[test]
    fn fields_listed_in_connection_are_dropped_but_never_those_of_the_proxy() {
        check("Connection: close, X-Secret\nConnection: cookie\nX-Secret: 1\nCookie: a=b\nA: 1\n", &["A: 1"]);
        check("Connection: close, X-Forwarded-For, X-Forwarded-Host, Host, Via, Content-Length\n", &[]);
    }

    #[test]
    fn a_client_cannot_say_who_it_is() {
        check("X-Forwarded-For: 1.1.1.1\nX-Forwarded-Proto: https\nX-Forwarded-Host: evil\nX-Forwarded-Port: 1\n", &[]);
        check("x-forwarded: a\nX-Real-IP: 1.1.1.1\nForwarded: for=1.1.1.1\n", &[]);
    }

    #[test]
    fn fields_that_turn_into_others_behind_a_gateway_are_dropped() {
        check("Proxy: http://evil\nX_Forwarded_For: 1\nContent_Length: 5\nTransfer_Encoding: x\nA.b: 1\n", &["A.b: 1"]);
    }

    #[test]
    fn a_trusted_peer_is_believed_and_its_chain_extended() {
        let head = request(
            "GET / HTTP/1.1\nHost: inner\nX-Forwarded-For: 1.1.1.1\nX-Forwarded-For: 2.2.2.2\nX-Forwarded-Proto: https\n\
             X-Forwarded-Host: outer\nForwarded: for=1.1.1.1\nX-Real-IP: 1.1.1.1\nVia: 1.0 front\n\n",
        );
        let onward = Onward { trusted: true, peer: "2001:db8::1".parse().unwrap(), ..onward(&head) };
        let mut passed = lines(&to_upstream(&onward).unwrap());
        passed.sort_unstable();
        assert_eq!(
            passed,
            [
                "Forwarded: for=1.1.1.1",
                "Via: 1.0 front",
                "X-Forwarded-Host: outer",
                "X-Forwarded-Proto: https",
                "X-Real-IP: 1.1.1.1",
                "forwarded: for=\"[2001:db8::1]\";host=\"inner\";proto=http",
                "host: inner",
                "via: 1.1 us",
                "x-forwarded-for: 1.1.1.1, 2.2.2.2, 2001:db8::1",
            ]
        );
    }

    #[test]
    fn the_operator_has_the_last_word() {
        let head = request("GET / HTTP/1.1\nHost: app.local:8080\nX-A: client\nX-B: client\nConnection: X-C\n\n");
        let edits = edits(
            "proxy_set_header Host inner; proxy_set_header X-A \"$scheme://$host from $remote_addr\"; \
             proxy_set_header X-B \"\"; proxy_set_header X-C c; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        );
        let fields = to_upstream(&Onward { edits: &edits, ..onward(&head) }).unwrap();
        let get =
            |name| fields.get_all(name).map(|value| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>();
        assert_eq!(get("host"), ["inner"]);
        assert_eq!(get("x-a"), ["http://app.local:8080 from 192.0.2.7"]);
        assert!(get("x-b").is_empty());
        assert_eq!(get("x-c"), ["c"]);
        assert_eq!(get("x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(get("x-forwarded-host"), ["app.local:8080"]);
    }

    #[test]
    fn a_client_without_host_gets_the_upstreams() {
        let head = request("GET / HTTP/1.0\n\n");
        let edits = edits("proxy_set_header Host $host;");
        for edits in [&[][..], &edits] {
            let fields = to_upstream(&Onward { edits, ..onward(&head) }).unwrap();
            assert_eq!(fields.get("host"), Some(&b"10.0.0.1:9000"[..]));
            assert_eq!(fields.get("x-forwarded-host"), None);
            assert_eq!(fields.get("via"), Some(&b"1.0 us"[..]));
        }
    }

    #[test]
    fn a_loop_is_known_by_our_own_name_only() {
        for (via, expect) in [
            ("1.1 us", true),
            ("1.1 front, HTTP/1.1  us (comment)", true),
            ("1.1 front\nVia: 1.1 us", true),
            ("1.1 us2, 1.1 use", false),
            ("us 1.1", false),
            ("", false),
        ] {
            let head = request(&format!("GET / HTTP/1.1\nHost: a\nVia: {via}\n\n"));
            assert_eq!(has_passed(&head, "us"), expect, "{via}");
        }
    }

    #[test]
    fn max_forwards_counts_for_options_and_trace() {
        for (method, value, expect) in [
            ("OPTIONS", "0", Hops::Over),
            ("OPTIONS", "1", Hops::Left(0)),
            ("TRACE", "10", Hops::Left(9)),
            ("OPTIONS", "99999999999999999999999", Hops::Left(u64::MAX - 1)),
            ("OPTIONS", "x", Hops::Unlimited),
            ("OPTIONS", "-1", Hops::Unlimited),
            ("OPTIONS", "+1", Hops::Unlimited),
            ("GET", "0", Hops::Unlimited),
        ] {
            let head = request(&format!("{method} / HTTP/1.1\nHost: a\nMax-Forwards: {value}\n\n"));
            assert_eq!(hops(&head), expect, "{method} {value}");
        }
        let head = request("OPTIONS / HTTP/1.1\nHost: a\nMax-Forwards: 3\n\n");
        assert_eq!(to_upstream(&onward(&head)).unwrap().get("max-forwards"), Some(&b"2"[..]));
    }

    #[test]
    fn an_upgrade_is_offered_on_unless_it_is_h2c_or_comes_with_content() {
        for (fields, expect) in [
            ("Connection: upgrade\nUpgrade: websocket\n", Some("websocket")),
            ("Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c, weaprous-relay/1\n", Some("weaprous-relay/1")),
            ("Connection: upgrade\nUpgrade: h2c\n", None),
            ("Connection: upgrade\nUpgrade: H2C\n", None),
            ("Upgrade: websocket\n", None),
            ("Connection: upgrade\nUpgrade: websocket\nContent-Length: 5\n", None),
            ("Connection: upgrade\nUpgrade: websocket\nTransfer-Encoding: chunked\n", None),
        ] {
            let head = request(&format!("GET / HTTP/1.1\nHost: a\n{fields}\n"));
            assert_eq!(upgrade(&head).as_deref(), expect, "{fields}");
        }
        let head = request("GET / HTTP/1.0\nHost: a\nConnection: upgrade\nUpgrade: websocket\n\n");
        assert_eq!(upgrade(&head), None);
    }

    fn check_response(text: &str, expect: &[&str]) {
        assert_eq!(lines(&to_client(&response(text)).unwrap()), expect, "{text}");
    }

    #[test]
    fn a_response_loses_framing_and_what_concerns_one_connection() {
        check_response(
            "HTTP/1.1 200 OK\nServer: x\nContent-Length: 3\nConnection: X-Hop, close\nX-Hop: 1\nKeep-Alive: 5\n\
             Set-Cookie: a\nSet-Cookie: b\nUpgrade: h2c\nProxy-Authenticate: x\n\n",
            &["Server: x", "Set-Cookie: a", "Set-Cookie: b"],
        );
        check_response("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X\nA: 1\n\n", &["A: 1"]);
        check_response("HTTP/1.1 426 Upgrade Required\nConnection: upgrade\nUpgrade: x\n\n", &["Upgrade: x"]);
    }
}
