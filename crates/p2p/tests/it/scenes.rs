//! Scenes between two or three nodes.
