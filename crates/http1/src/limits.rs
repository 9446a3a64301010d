//! How much of everything a decoder accepts before it refuses.

/// Limits of one decoder. Every one of them has a status of its own when it is exceeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest head, start line included, in bytes: beyond it 431. Values above
    /// [`Limits::HEAD_BYTES_CEILING`] are treated as that.
    pub head_bytes_max: usize,
    /// Most fields in a head or a trailer section: beyond it 431.
    pub fields_max: usize,
    /// Longest request target in bytes: beyond it 414.
    pub target_bytes_max: usize,
    /// Longest chunk-size line with its extensions, without CRLF, in bytes: beyond it 400.
    pub chunk_line_max: usize,
    /// Longest trailer section in bytes: beyond it 431.
    pub trailer_bytes_max: usize,
    /// Longest body in bytes, declared or counted: beyond it 413.
    pub body_bytes_max: u64,
}

impl Limits {
    /// No head is ever longer than this: offsets into a head are 16 bits wide.
    pub const HEAD_BYTES_CEILING: usize = u16::MAX as usize;

    pub(crate) fn head_bytes(&self) -> usize {
        self.head_bytes_max.min(Self::HEAD_BYTES_CEILING)
    }

    pub(crate) fn trailer_bytes(&self) -> usize {
        self.trailer_bytes_max.min(Self::HEAD_BYTES_CEILING)
    }
}

impl Default for Limits {
    /// 32 KiB of head, 100 fields, 8 KiB of target, 4 KiB per chunk line, 8 KiB of trailers, and no
    /// limit on the body: that one belongs to the route.
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            fields_max: 100,
            target_bytes_max: 8 * 1024,
            chunk_line_max: 4 * 1024,
            trailer_bytes_max: 8 * 1024,
            body_bytes_max: u64::MAX,
        }
    }
}
