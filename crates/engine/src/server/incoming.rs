//! The body of a received request, read from the socket as it is asked for.

use crate::{BodyError, Fields};
use bytes::Bytes;
use std::task::{Context, Poll};

/// What is still to come of a request's body.
pub(crate) struct Incoming {}

impl Incoming {
    pub(crate) fn poll_chunk(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        todo!()
    }

    pub(crate) fn exact_len(&self) -> Option<u64> {
        todo!()
    }

    pub(crate) fn trailers(&mut self) -> Option<Fields> {
        todo!()
    }

    pub(crate) fn set_limit(&mut self, _max: u64) {
        todo!()
    }
}
