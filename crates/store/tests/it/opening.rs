//! What is refused at opening says what is wrong and what to do; what is opened is private.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chat::{History, Store};
use rusqlite::Connection;
use store::{OpenError, SqliteHistory, SqliteStore};

use crate::fixture::Chain;

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The refusal's text, which must name the directory and say how to go on.
fn refusal(directory: &Path) -> String {
    let text = SqliteStore::open(directory).err().expect("it must be refused").to_string();
    assert!(text.contains(&directory.display().to_string()), "{text} does not say where");
    assert!(text.contains("; "), "{text} does not say what to do");
    text
}

#[tokio::test]
async fn a_missing_directory_is_made_for_this_user_alone() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("some/where");
    let store = SqliteStore::open(&directory).unwrap();
    store.append(vec![Chain::new(1, "general").say("a")]).await.unwrap();
    assert_eq!(mode(root.path().join("some")), 0o700);
    assert_eq!(mode(&directory), 0o700);
    for file in ["store.db", "store.db-wal", "store.db-shm"] {
        assert_eq!(mode(directory.join(file)), 0o600, "{file}");
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut alice = Chain::new(1, "general");
    let first = SqliteStore::open(directory.path()).unwrap();
    first.append(alice.say_many(3)).await.unwrap();
    first.put("k", b"v".to_vec(), chat::Expect::Any).await.unwrap().unwrap();
    drop(first);
    assert!(!directory.path().join("store.db-wal").exists(), "closing moves the log into the file");
    let second = SqliteStore::open(directory.path()).unwrap();
    assert_eq!(second.last(alice.channel()).await.unwrap(), 3);
    assert_eq!(second.get("k").await.unwrap().unwrap().value, b"v");
    let mut watch = second.watch();
    second.append(alice.say_many(1)).await.unwrap();
    assert_eq!(watch.changed().await, Ok(4));
}

#[test]
fn a_file_that_others_can_read_is_tightened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    drop(SqliteStore::open(directory.path()).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(SqliteStore::open(directory.path()).unwrap());
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("data"), "").unwrap();
    assert!(refusal(&root.path().join("data")).contains("cannot create the data directory"));
}

#[test]
fn a_directory_in_place_of_the_file_is_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("store.db")).unwrap();
    assert!(refusal(root.path()).contains("not a regular file"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_where_nobody_may_write_is_refused() {
    assert!(refusal(Path::new("/proc/weaprous")).contains("cannot create the data directory"));
    assert!(refusal(Path::new("/proc")).contains("for reading and writing"));
}

#[test]
fn garbage_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let garbage = b"not a database at all, but quite long enough to look like one. ".repeat(40);
    fs::write(&path, &garbage).unwrap();
    assert!(refusal(directory.path()).contains("not a store of weaprous"));
    assert_eq!(fs::read(&path).unwrap(), garbage);
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = fs::read(&path).unwrap();
    assert!(refusal(directory.path()).contains("another program's database"));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_history_is_no_store_and_a_store_no_history() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(SqliteStore::open(one.path()).unwrap());
    drop(SqliteHistory::open(other.path()).unwrap());
    fs::rename(one.path().join("store.db"), one.path().join("history.db")).unwrap();
    fs::rename(other.path().join("history.db"), other.path().join("store.db")).unwrap();
    assert!(refusal(other.path()).contains("it is a history"));
    let refused = SqliteHistory::open(one.path()).err().unwrap();
    assert!(matches!(refused, OpenError::Foreign { kind: "history", .. }), "{refused}");
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    drop(SqliteStore::open(directory.path()).unwrap());
    let raw = Connection::open(&path).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    let text = refusal(directory.path());
    assert!(text.contains("schema 99") && text.contains("run that version"), "{text}");
    let raw = Connection::open(&path).unwrap();
    let version: i64 = raw.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[tokio::test]
async fn a_history_of_schema_1_is_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let mut alice = Chain::new(1, "general");
    let history = SqliteHistory::open(directory.path()).unwrap();
    let said = alice.say_many(3);
    let arrival = |sealed| chat::Arrival { sealed, path: chat::Path::Own, received_at_ms: 0 };
    history.insert(said.iter().cloned().map(arrival).collect()).await.unwrap();
    history.sequence(alice.channel(), vec![(said[0].id(), 1), (said[1].id(), 3)]).await.unwrap();
    drop(history);
    let raw = Connection::open(directory.path().join("history.db")).unwrap();
    raw.execute_batch("DROP TABLE passed; PRAGMA user_version = 1").unwrap(); // what version 1 made
    drop(raw);
    let history = SqliteHistory::open(directory.path()).unwrap();
    assert_eq!(history.cursor(alice.channel()).await.unwrap(), 1);
    history.pass_over(alice.channel(), vec![2, 5]).await.unwrap();
    assert_eq!(history.cursor(alice.channel()).await.unwrap(), 3);
    drop(history);
    let history = SqliteHistory::open(directory.path()).unwrap();
    history.sequence(alice.channel(), vec![(said[2].id(), 4)]).await.unwrap();
    assert_eq!(history.cursor(alice.channel()).await.unwrap(), 5, "what was passed over is kept on disk");
    let raw = Connection::open(directory.path().join("history.db")).unwrap();
    let rows: i64 = raw.query_row("SELECT count(*) FROM passed", [], |row| row.get(0)).unwrap();
    let version: i64 = raw.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!((rows, version), (0, 2), "numbers that the cursor has crossed take no space");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(directory.path()).unwrap();
    store.append(Chain::new(1, "general").say_many(300)).await.unwrap();
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let text = refusal(directory.path());
    assert!(text.contains("damaged") && text.contains("backup"), "{text}");
}

#[test]
fn a_file_that_another_process_keeps_locked_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    assert!(refusal(directory.path()).contains("locked by another process"));
}

#[tokio::test]
async fn damage_found_later_is_an_error_and_not_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let history = SqliteHistory::open(directory.path()).unwrap();
    let mut alice = Chain::new(1, "general");
    let arrival = chat::Arrival { sealed: alice.say("a"), path: chat::Path::Own, received_at_ms: 0 };
    history.insert(vec![arrival]).await.unwrap().remove(0).unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.execute("UPDATE entry SET bytes = x'7b7d'", []).unwrap();
    let read = history.timeline(alice.channel(), None, 10).await;
    assert!(matches!(read, Err(chat::StoreError::Damaged(_))), "{read:?}");
    assert!(history.channels().await.is_ok(), "what is whole can still be read");
}
