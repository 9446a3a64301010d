//! Sessions in the store: found by their token's hash, gone after their time.

use accounts::StoreSessions;
use chat::Store;
use std::sync::Arc;
use std::time::Duration;
use store::MemoryStore;
use weaprous::session::{SessionRecord, SessionStorage, Sessions};

fn record(created_ms: u64, expires_ms: u64) -> SessionRecord {
    SessionRecord { user: "alice".to_owned(), created_ms, expires_ms }
}

#[tokio::test]
async fn a_session_is_found_until_it_is_ended_and_its_token_is_not_stored() {
    let store = Arc::new(MemoryStore::new());
    let sessions = Sessions::new(Arc::new(StoreSessions::new(store.clone())), Duration::from_mins(1));
    let new = sessions.create("alice").await.unwrap();
    let session = sessions.check(&new.token).await.unwrap().expect("the session is there");
    assert_eq!(session.user, "alice");

    for (key, value) in store.list("", None, 100).await.unwrap() {
        let stored = format!("{key} {}", String::from_utf8_lossy(&value.value));
        assert!(!stored.contains(&new.token), "{stored}");
    }
    sessions.end(&session).await.unwrap();
    assert_eq!(sessions.check(&new.token).await.unwrap(), None);
}

#[tokio::test]
async fn expired_sessions_are_swept_as_new_ones_come() {
    let store = Arc::new(MemoryStore::new());
    let sessions = StoreSessions::new(store.clone());
    for i in 0..=255_u8 {
        sessions.save([i; 32], record(10, 20)).await.unwrap();
    }
    for i in 0..=255_u8 {
        let mut hash = [i; 32];
        hash[31] ^= 1;
        sessions.save(hash, record(1000, 5000)).await.unwrap();
    }
    let left = store.list("session/", None, 1000).await.unwrap();
    assert!(left.len() < 300, "{} sessions are left, 256 of them live", left.len());
    assert!(sessions.load([255; 32]).await.unwrap().is_none_or(|record| record.expires_ms == 20));
}
