//! What chat is: ids, envelopes, channels, membership, rosters, timelines and the storage traits.
//!
//! Pure: no clock, no randomness, no file, no socket. Time and secrets come in as arguments. The bytes described here
//! are written down for other implementations in `docs/protocol.md`, and a test keeps the two equal.

pub mod auth;
mod canonical;
mod chain;
pub mod client;
mod delivery;
mod envelope;
mod history;
mod ids;
mod keys;
mod membership;
mod names;
mod order;
mod roster;
mod sealed;
mod store;
pub mod text;
mod timeline;
mod view;

pub use chain::{AppendError, Head, check_chain};
pub use delivery::DeliveryState;
pub use envelope::{
    BODY_DEPTH_MAX, Body, Draft, ENVELOPE_BYTES_MAX, Envelope, EnvelopeError, KIND_BYTES_MAX, LAMPORT_HEEDED_MAX,
    NUMBER_MAX, TEXT_BYTES_MAX, Visibility,
};
pub use history::{Arrival, Entry, History, Inserted, Path};
pub use ids::{DeviceId, EnvelopeId, IdError, Signature, TrackerId};
pub use keys::{BadSignature, DeviceKey, TrackerKey};
pub use membership::{Denied, Membership};
pub use names::{CHANNEL_NAME_BYTES_MAX, ChannelName, NameError, USER_NAME_BYTES_MAX, UserName};
pub use order::OrderKey;
pub use roster::{
    ROSTER_BYTES_MAX, ROSTER_DEVICES_MAX, ROSTER_PREFIX, Roster, RosterDevice, RosterError, RosterMember, SignedRoster,
};
pub use sealed::{ENVELOPE_PREFIX, Sealed, Unverified};
pub use store::{Appended, Closed, Conflict, Expect, KeyValues, Logged, Store, StoreError, Versioned, Watch};
pub use timeline::{Gap, Merged, Timeline};
pub use view::MessageView;

/// A boxed future that may cross threads: what the storage traits return, so that they stay usable as `dyn`.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
