//! How messages are handed on: compressed or not, ahead of their readers or not, with hints before them or not.

use super::build::{Builder, Words};
use super::rules::Switch;
use super::tree::Statement;
use super::value;
use super::{Compression, EarlyHints};

/// Bytes of an answer that are taken from a backend ahead of a slow client when nothing else is said: a page with all
/// that belongs to it.
pub(super) const RESPONSE_BUFFER_DEFAULT: u64 = 1024 * 1024;
/// Bytes of a request that are taken from a client before a backend is asked when nothing else is said: forms, and the
/// pictures of a telephone.
pub(super) const REQUEST_BUFFER_DEFAULT: u64 = 1024 * 1024;
/// Most that can be said: each such message may hold as much memory.
const BUFFER_MAX: u64 = 1024 * 1024 * 1024;

/// What a block says itself, before it inherits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Draft {
    early_hints: Option<EarlyHints>,
    compression: Option<Switch<Compression>>,
    response_buffer: Option<Switch<u64>>,
    request_buffer: Option<Switch<u64>>,
}

impl Draft {
    /// Takes a directive, if it is one of these.
    pub(super) fn directive(&mut self, builder: &mut Builder<'_>, statement: &Statement) -> bool {
        match statement.name.text.as_str() {
            "early_hints" => {
                self.early_hints = builder.single(statement, "`off`, `http2` or `on`", |text| match text {
                    "off" => Ok(EarlyHints::Off),
                    "http2" => Ok(EarlyHints::Http2),
                    "on" => Ok(EarlyHints::On),
                    _ => Err(""),
                });
            }
            "compression" => self.compression = compression(builder, statement),
            "proxy_buffering" => self.response_buffer = buffer(builder, statement, RESPONSE_BUFFER_DEFAULT),
            "proxy_request_buffering" => self.request_buffer = buffer(builder, statement, REQUEST_BUFFER_DEFAULT),
            _ => return false,
        }
        true
    }

    /// Takes from the host what the block does not say itself.
    pub(super) fn inherit(&mut self, host: &Self) {
        self.early_hints = self.early_hints.or(host.early_hints);
        self.compression = self.compression.or(host.compression);
        self.response_buffer = self.response_buffer.or(host.response_buffer);
        self.request_buffer = self.request_buffer.or(host.request_buffer);
    }

    pub(super) fn early_hints(&self) -> EarlyHints {
        self.early_hints.unwrap_or_default()
    }

    pub(super) fn compression(&self) -> Option<Compression> {
        self.compression.and_then(Switch::on)
    }

    pub(super) fn response_buffer(&self) -> Option<u64> {
        self.response_buffer.and_then(Switch::on)
    }

    pub(super) fn request_buffer(&self) -> Option<u64> {
        self.request_buffer.and_then(Switch::on)
    }
}

fn on_off(builder: &mut Builder<'_>, words: &mut Words<'_>) -> Option<bool> {
    builder.value(words, "`on` or `off`", |text| match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(""),
    })
}

fn compression(builder: &mut Builder<'_>, statement: &Statement) -> Option<Switch<Compression>> {
    let mut words = Words::of(statement);
    let is_on = on_off(builder, &mut words)?;
    let mut compression = Compression { trusts_backends: false };
    builder.options(&mut words, |_, text| {
        compression.trusts_backends = text.is_empty();
        if text.is_empty() { Ok(()) } else { Err(("`trusted` alone", String::new())) }
    });
    Some(if is_on { Switch::On(compression) } else { Switch::Off })
}

fn buffer(builder: &mut Builder<'_>, statement: &Statement, default: u64) -> Option<Switch<u64>> {
    let mut words = Words::of(statement);
    let is_on = on_off(builder, &mut words)?;
    let mut size = default;
    builder.options(&mut words, |_, text| {
        let found = value::size(text).filter(|size| (1..=BUFFER_MAX).contains(size));
        size = found.ok_or(("a size like `64k` or `1m`, at most 1g", String::new()))?;
        Ok(())
    });
    Some(if is_on { Switch::On(size) } else { Switch::Off })
}
