//! What chat is: ids, envelopes, channels, membership, rosters, timelines and the storage traits.
