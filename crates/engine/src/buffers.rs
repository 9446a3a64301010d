//! Spare buffers, so that an idle connection holds none and a busy one allocates none.

use bytes::BytesMut;
use std::cell::{RefCell, RefMut};

/// Bytes read at a time where a head is expected. Browsers send about 1 KiB.
pub(crate) const HEAD_READ_BYTES: usize = 8 * 1024;
/// Bytes read at a time inside a body.
pub(crate) const BODY_READ_BYTES: usize = 64 * 1024;
/// Spare buffers kept of each kind; more than a worker uses in one turn of its loop.
const SPARE_MAX: usize = 64;
/// An output buffer that has grown beyond this is given back to the system.
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// Buffers nobody uses at the moment.
pub(crate) struct Buffers {
    inputs: RefCell<Vec<BytesMut>>,
    outputs: RefCell<Vec<Vec<u8>>>,
    /// What is received at a time where a head is expected, before it is copied to where it belongs.
    scratch: RefCell<Box<[u8]>>,
}

impl Default for Buffers {
    fn default() -> Self {
        let scratch = RefCell::new(vec![0; HEAD_READ_BYTES].into());
        Self { inputs: RefCell::default(), outputs: RefCell::default(), scratch }
    }
}

impl Buffers {
    /// Room to receive into, for a moment.
    pub(crate) fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// An empty buffer with room for a head.
    pub(crate) fn input(&self) -> BytesMut {
        if let Some(mut spare) = self.inputs.borrow_mut().pop()
            && spare.try_reclaim(HEAD_READ_BYTES)
        {
            return spare;
        }
        BytesMut::with_capacity(HEAD_READ_BYTES)
    }

    /// Takes back an input buffer; what was split off it may still be in use.
    pub(crate) fn put_input(&self, mut spare: BytesMut) {
        spare.clear();
        let mut inputs = self.inputs.borrow_mut();
        if inputs.len() < SPARE_MAX && spare.capacity() <= SPARE_BYTES_MAX {
            inputs.push(spare);
        }
    }

    /// An empty buffer to write to.
    pub(crate) fn output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back an output buffer.
    pub(crate) fn put_output(&self, mut spare: Vec<u8>) {
        spare.clear();
        let mut outputs = self.outputs.borrow_mut();
        if outputs.len() < SPARE_MAX && spare.capacity() <= SPARE_BYTES_MAX {
            outputs.push(spare);
        }
    }
}
