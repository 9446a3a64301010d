//! The reverse proxy: configuration, routing, balancing, relay.
