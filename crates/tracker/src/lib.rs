//! The tracker: accounts' devices, presence, channels, messages and events over HTTP, and the relay for peers.
