//! What a hostile other side may try.
