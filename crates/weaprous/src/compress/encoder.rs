//! Compresses content, at once or as it comes. Flushes where the content pauses.

use super::Coding;
use crate::handler::LocalBoxFuture;
use brotli::CompressorWriter;
use bytes::Bytes;
use engine::{Body, BodyError, Fields, Source};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::cell::Cell;
use std::io::{self, Write};
use std::task::{Context, Poll, ready};
use zstd::stream::write::Encoder as ZstdEncoder;
use zstd::zstd_safe::CParameter;

/// Effort: each takes about 1 ms per 100 KiB and gets within a few percent of the best that is worth waiting for.
const GZIP_LEVEL: u32 = 5;
const BROTLI_QUALITY: u32 = 4;
const ZSTD_LEVEL: i32 = 3;
/// Memory of one stream: half a MiB of what was sent is looked back upon.
const WINDOW_LOG: u32 = 19;
/// Bytes Brotli gathers before it hands them on; all of it goes into memory.
const BROTLI_BUFFER_BYTES: usize = 4096;
/// Bytes that are compressed before others on the worker have their turn.
const SLICE_BYTES: usize = 32 * 1024;

/// Streams compressed at a time on a worker. Each encoder takes up to three megabytes, and stays as long as the client
/// takes to receive the answer; further answers are sent as they are.
const STREAMS_MAX: usize = 64;

thread_local! {
    static STREAMS: Cell<usize> = const { Cell::new(0) };
}

/// One of the worker's streams that are compressed. Dropping it makes room for another.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let taken = STREAMS.get();
        (taken < STREAMS_MAX).then(|| {
            STREAMS.set(taken + 1);
            Self
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        STREAMS.set(STREAMS.get() - 1);
    }
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

/// Content that is compressed as it is asked for.
pub(super) struct Compressed {
    body: Body,
    /// `None` once its end was written.
    encoder: Option<Encoder>,
    _place: Place,
    /// Taken from the content and not compressed yet.
    input: Bytes,
    is_flushed: bool,
    /// Bytes compressed since others had their turn.
    worked: usize,
    /// Until others, also those whose sockets have only now something to say, had it.
    pause: Option<LocalBoxFuture<'static, ()>>,
}

/// All of it, or `None` if that is not possible.
pub(super) fn compress(coding: Coding, bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = Encoder::new(coding).ok()?;
    encoder.writer().write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

impl Compressed {
    /// Compresses a body; gives it back if there are too many already, or the encoder cannot be made.
    pub(super) fn new(coding: Coding, body: Body) -> Result<Self, Body> {
        let Some(place) = Place::take() else { return Err(body) };
        match Encoder::new(coding) {
            Ok(encoder) => Ok(Self {
                body,
                encoder: Some(encoder),
                _place: place,
                input: Bytes::new(),
                is_flushed: true,
                worked: 0,
                pause: None,
            }),
            Err(error) => {
                tracing::warn!(%error, coding = coding.name(), "no encoder; sending content as it is");
                Err(body)
            }
        }
    }
}

impl Source for Compressed {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        loop {
            let Some(encoder) = &mut self.encoder else { return Poll::Ready(None) };
            if self.input.is_empty() {
                match self.body.poll_chunk(cx) {
                    Poll::Ready(Some(Ok(chunk))) => self.input = chunk,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(None) => {
                        let rest = self.encoder.take().map_or(Ok(Vec::new()), Encoder::finish);
                        return Poll::Ready(Some(rest.map(Bytes::from).map_err(failed)));
                    }
                    Poll::Pending if self.is_flushed => return Poll::Pending,
                    Poll::Pending => {
                        self.is_flushed = true;
                        let flushed = encoder.flush().map(Bytes::from);
                        return Poll::Ready(Some(flushed.map_err(failed)));
                    }
                }
            }
            let slice = self.input.split_to(self.input.len().min(SLICE_BYTES));
            if let Err(error) = encoder.writer().write_all(&slice) {
                return Poll::Ready(Some(Err(failed(error))));
            }
            self.is_flushed &= slice.is_empty();
            let written = encoder.take();
            self.worked += slice.len();
            if self.worked >= SLICE_BYTES {
                self.worked = 0;
                self.pause = Some(Box::pin(tokio::task::yield_now()));
            }
            if !written.is_empty() {
                return Poll::Ready(Some(Ok(Bytes::from(written))));
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
        }
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.body.trailers()
    }
}

impl Encoder {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))),
            Coding::Brotli => {
                let writer = CompressorWriter::new(Vec::new(), BROTLI_BUFFER_BYTES, BROTLI_QUALITY, WINDOW_LOG);
                Self::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
                Self::Zstd(encoder)
            }
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Gzip(encoder) => encoder,
            Self::Brotli(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        }
    }

    /// What was compressed so far.
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        })
    }

    /// All that was written so far, in a form that the other side can decode now.
    fn flush(&mut self) -> io::Result<Vec<u8>> {
        self.writer().flush()?;
        Ok(self.take())
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

fn failed(error: io::Error) -> BodyError {
    BodyError::Source(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_so_many_encoders_and_no_more() {
        let begin = || Compressed::new(Coding::Zstd, Body::from("content"));
        let mut streams: Vec<_> = (0..STREAMS_MAX).map(|_| begin().expect("there is room")).collect();
        let left_alone = begin().err().expect("too many are compressed already");
        assert_eq!(left_alone.exact_len(), Some(7), "sent as it is");
        drop(streams.pop());
        streams.push(begin().expect("one has ended"));
        assert!(begin().is_err());
    }
}
