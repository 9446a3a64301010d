//! A running chat node: dials, listens, keeps its history, talks to peers and to the tracker.
