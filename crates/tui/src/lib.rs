//! The terminal client: chat notices to a screen, keys to commands.
