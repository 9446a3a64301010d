//! A certificate authority of one's own.
