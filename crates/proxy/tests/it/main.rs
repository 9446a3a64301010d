//! The proxy as its users meet it: configuration files, and requests over real sockets to upstreams that
//! behave well or badly.
#![allow(clippy::unwrap_used)]

mod advice;
mod clients;
mod conf;
mod corpus;
mod crowding;
mod delivery;
mod failure;
mod fields;
mod framing;
mod h2;
mod harness;
mod leaving;
mod passing;
mod reference;
mod routing;
mod rules;
mod splicing;
mod streaming;
mod telling;
mod tls_upstream;
mod upgrade;
mod uploads;
mod upstream_h2;
mod upstreams;
