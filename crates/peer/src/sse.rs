//! Server-sent events, bytes to events (HTML Living Standard §9.2). Bounded: a stream that never ends a line is an error.

/// Longest line, and longest data of one event, in bytes. The largest envelope with its wrapping is far below.
pub(crate) const EVENT_BYTES_MAX: usize = 256 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// What kind; `message` where the stream names none.
    pub(crate) name: String,
    /// The last id the stream gave, of this event or an earlier one.
    pub(crate) id: Option<String>,
    /// The content.
    pub(crate) data: String,
}

/// The stream is not one of events, or means harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event stream holds a line or an event longer than {EVENT_BYTES_MAX} bytes")]
pub(crate) struct TooLong;

/// Takes bytes as they come and gives whole events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    name: String,
    data: String,
    has_data: bool,
    id: Option<String>,
}

impl Parser {
    /// Takes the next bytes; whole events go to `events`.
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), TooLong> {
        for &byte in bytes {
            let second_of_crlf = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            match byte {
                b'\n' if second_of_crlf => {}
                b'\n' | b'\r' => self.end_line(events)?,
                _ if self.line.len() >= EVENT_BYTES_MAX => return Err(TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Event>) -> Result<(), TooLong> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.dispatch(events);
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let (field, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => self.add_data(value)?,
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            _ => {} // comments (an empty field name), `retry`, and what later versions add
        }
        Ok(())
    }

    fn add_data(&mut self, value: &str) -> Result<(), TooLong> {
        if self.data.len() + value.len() >= EVENT_BYTES_MAX {
            return Err(TooLong);
        }
        if self.has_data {
            self.data.push('\n');
        }
        self.data.push_str(value);
        self.has_data = true;
        Ok(())
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            let name = if name.is_empty() { "message".to_owned() } else { name };
            events.push(Event { name, id: self.id.clone(), data });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Parses whole and byte by byte; `expect` is `name|id|data` per event.
    fn check(stream: &str, expect: &[&str]) {
        for step in [stream.len().max(1), 1, 3] {
            let (mut parser, mut events) = (Parser::default(), Vec::new());
            for piece in stream.as_bytes().chunks(step) {
                parser.handle_bytes(piece, &mut events).unwrap();
            }
            let shown: Vec<String> = events
                .iter()
                .map(|event| format!("{}|{}|{}", event.name, event.id.as_deref().unwrap_or("-"), event.data))
                .collect();
            assert_eq!(shown, expect, "in steps of {step}");
        }
    }

    #[test]
    fn events_come_out_whole_however_they_are_cut() {
        check("event: message\nid: 7\ndata: {\"a\":1}\n\n", &["message|7|{\"a\":1}"]);
        check("data: one\r\ndata: two\r\n\r\ndata:three\r\r", &["message|-|one\ntwo", "message|-|three"]);
        check(": heartbeat\n\nid: 3\n\ndata: x\n\n", &["message|3|x"]);
        check("event: ready\ndata\n\n", &["ready|-|"]);
        check("event: lost\ndata: never ended\n", &[]);
        check("retry: 10\nunknown: y\ndata: z\n\n", &["message|-|z"]);
    }

    #[test]
    fn endless_lines_and_events_are_refused() {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        let line = vec![b'x'; EVENT_BYTES_MAX + 1];
        assert_eq!(parser.handle_bytes(&line, &mut events), Err(TooLong));
        let mut parser = Parser::default();
        let line = format!("data: {}\n", "y".repeat(EVENT_BYTES_MAX / 2));
        assert_eq!(parser.handle_bytes(line.as_bytes(), &mut events), Ok(()));
        assert_eq!(parser.handle_bytes(line.as_bytes(), &mut events), Err(TooLong));
        assert!(events.is_empty());
    }
}
