//! Runs the writing side of case files: what the encoder puts on the wire, escaped.

use crate::forward;
use bytes::BytesMut;
use http1::{
    Event, Fields, Framing, Limits, RequestDecoder, RequestSpec, ResponseDecoder, ResponseSpec, StatusCode, Version,
    is_hop_by_hop, write_request_head, write_response_head,
};
use testkit::cases::{Block, unescape};

/// The wire image of a `send-response`, `send-request` or `forward` block, or why there is none.
pub(crate) fn write(block: &Block) -> String {
    let written = match block.tag.as_str() {
        "send-response" => send_response(block),
        "send-request" => send_request(block),
        "forward" => forward_request(&block.bytes()),
        "forward-response" => forward_response(&block.bytes()),
        tag => panic!("unknown block {tag:?} in line {}", block.line),
    };
    match written {
        Ok(out) => show(&out),
        Err(refusal) => format!("refused: {refusal}\n"),
    }
}

type Outcome = Result<Vec<u8>, Box<dyn std::error::Error>>;

fn send_response(block: &Block) -> Outcome {
    let fields = fields(&block.text)?;
    let body = block.attribute("body").unwrap_or_default();
    let mut out = Vec::new();
    let spec = ResponseSpec {
        request_method: block.attribute("to").unwrap_or("GET").parse()?,
        request_version: version(block),
        status: StatusCode::try_from(block.attribute("status").unwrap().parse::<u16>()?)?,
        fields: &fields,
        framing: framing(block),
        keep_alive: block.attribute("close").is_none(),
        date: block.attribute("date").map(str::as_bytes),
    };
    let mut written = write_response_head(&mut out, &spec);
    let closes = String::from_utf8_lossy(&out).contains("close\r\n");
    let says_close = closes || written.body.is_until_close();
    assert_eq!(written.keep_alive, !says_close, "keep_alive says what was written");
    written.body.data(&mut out, body.as_bytes())?;
    written.body.finish(&mut out, None)?;
    Ok(out)
}

fn send_request(block: &Block) -> Outcome {
    let fields = fields(&block.text)?;
    let mut out = Vec::new();
    let target = unescape(block.attribute("target").unwrap_or("/"));
    let spec = RequestSpec {
        method: block.attribute("method").unwrap_or("GET").parse()?,
        target: std::str::from_utf8(&target)?,
        fields: &fields,
        framing: framing(block),
        keep_alive: block.attribute("close").is_none(),
    };
    let result = write_request_head(&mut out, &spec);
    assert!(result.is_ok() || out.is_empty(), "a refused head writes nothing");
    let mut body = result?;
    body.data(&mut out, block.attribute("body").unwrap_or_default().as_bytes())?;
    body.finish(&mut out, None)?;
    Ok(out)
}

/// Reads a request and writes it anew, as a proxy does.
fn forward_request(bytes: &[u8]) -> Outcome {
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut input = BytesMut::from(bytes);
    let Some(Event::Head(head)) = decoder.poll(&mut input)? else {
        panic!("a head comes first");
    };
    let listed = |name: &[u8]| head.connection_tokens().any(|option| option.eq_ignore_ascii_case(name));
    let mut out = Vec::new();
    let mut body = forward::request(&mut out, &head, head.path(), |name| !is_hop_by_hop(name) && !listed(name))?;
    loop {
        match decoder.poll(&mut input)?.expect("the body is complete") {
            Event::Data(data) => body.data(&mut out, &data)?,
            Event::Trailers(_) => {}
            Event::End => break,
            Event::Head(_) => unreachable!("the body ends before the next head"),
        }
    }
    body.finish(&mut out, None)?;
    Ok(out)
}

/// Reads a response to `GET` and writes it anew for an HTTP/1.1 client.
fn forward_response(bytes: &[u8]) -> Outcome {
    let mut decoder = ResponseDecoder::new(Limits::default());
    decoder.expect(http1::Method::Get);
    let mut input = BytesMut::from(bytes);
    let Some(Event::Head(head)) = decoder.poll(&mut input)? else {
        panic!("a head comes first");
    };
    let mut out = Vec::new();
    let mut written = forward::response(&mut out, &head, http1::Method::Get, |name| !is_hop_by_hop(name))?;
    loop {
        match decoder.poll(&mut input)? {
            Some(Event::Data(data)) => written.body.data(&mut out, &data)?,
            Some(Event::End) => break,
            Some(other) => panic!("{other:?} in a simple response"),
            None => {
                decoder.handle_eof()?;
                break;
            }
        }
    }
    written.body.finish(&mut out, None)?;
    Ok(out)
}

/// One `name: value` per line, escapes resolved.
fn fields(text: &str) -> Result<Fields, http1::InvalidField> {
    let mut fields = Fields::new();
    for line in text.lines() {
        let (name, value) = line.split_once(':').expect("a field has a colon");
        let name = String::from_utf8(unescape(name)).unwrap();
        fields.append(&name, unescape(value))?;
    }
    Ok(fields)
}

fn framing(block: &Block) -> Framing {
    match block.attribute("framing") {
        None => Framing::None,
        Some("chunked") => Framing::Chunked,
        Some("until-close") => Framing::UntilClose,
        Some(length) => Framing::Length(length.parse().unwrap()),
    }
}

fn version(block: &Block) -> Version {
    match block.attribute("version") {
        Some("1.0") => Version::Http10,
        _ => Version::Http11,
    }
}

/// One line per line of the message, control bytes visible.
fn show(out: &[u8]) -> String {
    let text = out.escape_ascii().to_string().replace("\\r\\n", "\\r\\n\n");
    if text.ends_with('\n') { text } else { text + "\n" }
}
