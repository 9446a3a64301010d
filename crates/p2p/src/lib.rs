//! The peer protocol as a state machine, with its seeded simulator.
//!
//! Pure: bytes, values and the time come in through `handle_*`; what is to be done comes out of `poll_*`. The protocol is
//! written down in `docs/protocol.md`. It runs over any stream that keeps order and proves who is at its other end.
//!
//! ```text
//! link up ──hello out──▶ Greeting ──hello in──▶ Open ──bye, garbage, silence, limit──▶ closed
//!                            └──no hello in time, wrong device──────────────────────────▲
//! per channel, once both sides have said `open` and the roster here allows the other device:
//!   marks both ways ──▶ whoever is behind wants ──▶ deliver … given ──▶ acknowledge once durable
//!   news: pushed to those who are level, announced by marks to the others
//! ```
//!
//! What makes a broken link harmless: nothing is acknowledged before [`Node::handle_stored`] says that it is durable, and
//! every link starts by telling what is durable on both sides.

pub mod frame;
pub mod limits;
mod link;
mod node;
mod output;

pub use limits::Limits;
pub use node::Node;
pub use output::{Arrived, LinkId, Output, Reason};
