//! The binary `weaprous`.
fn main() {}
