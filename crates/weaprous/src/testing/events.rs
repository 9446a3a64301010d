//! Server-sent events as a client reads them (HTML Living Standard §9.2.6).

/// An event as it arrived.
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::testing::{Client, ReceivedEvent};
///
/// let app = App::new().route("/", [GET], async || {
///     Sse::new(async |sender: SseSender| sender.send(Event::new().id(7).data("hello")).await)
/// });
/// let event: ReceivedEvent = Client::new(app).get("/").send().event().expect("one was sent");
/// assert_eq!((event.event.as_str(), event.id.as_deref(), event.data.as_str()), ("message", Some("7"), "hello"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceivedEvent {
    /// Its name; `message` unless the server named it.
    pub event: String,
    /// Its id, if it has one.
    pub id: Option<String>,
    /// Its data, lines joined by `\n`.
    pub data: String,
}

/// Cuts a stream into events. Blocks of nothing but comments are none.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    received: Vec<u8>,
}

impl EventReader {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.received.extend_from_slice(chunk);
    }

    /// The next complete event.
    pub(super) fn next(&mut self) -> Option<ReceivedEvent> {
        loop {
            let end = self.received.windows(2).position(|pair| pair == b"\n\n")?;
            let block: Vec<u8> = self.received.drain(..end + 2).collect();
            let text = String::from_utf8(block).expect("an event stream is UTF-8");
            if let Some(event) = read(&text) {
                return Some(event);
            }
        }
    }
}

fn read(block: &str) -> Option<ReceivedEvent> {
    let mut event = ReceivedEvent { event: "message".to_owned(), ..ReceivedEvent::default() };
    let mut data: Vec<&str> = Vec::new();
    let mut is_empty = true;
    for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
        is_empty = false;
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut event.event),
            "id" => event.id = Some(value.to_owned()),
            "data" => data.push(value),
            _ => {}
        }
    }
    event.data = data.join("\n");
    (!is_empty).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_wherever_the_chunks_were() {
        let stream = b":\n\nevent: a\nid: 7\ndata: x\ndata: y\n\n: hello\n\ndata:z\n\ndata: not yet\n";
        for size in 1..stream.len() {
            let mut reader = EventReader::default();
            let mut events = Vec::new();
            for chunk in stream.chunks(size) {
                reader.push(chunk);
                events.extend(std::iter::from_fn(|| reader.next()));
            }
            let event = |event: &str, id: Option<&str>, data: &str| ReceivedEvent {
                event: event.to_owned(),
                id: id.map(str::to_owned),
                data: data.to_owned(),
            };
            assert_eq!(events, [event("a", Some("7"), "x\ny"), event("message", None, "z")], "chunks of {size}");
        }
    }
}
