//! The peer protocol as a state machine, with its seeded simulator.
