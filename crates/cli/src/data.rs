//! Where things are kept, and opening them.

use crate::exit::Failure;
use accounts::Accounts;
use anyhow::Context as _;
use chat::{Body, ChannelName, Draft, Expect, Sealed, Store, UserName, Visibility};
use std::fs::{File, TryLockError};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The demonstration's account. Everybody knows it, hence loopback only.
pub(crate) const DEMO_USER: &str = "admin";
/// Its password.
pub(crate) const DEMO_PASSWORD: &str = "password";
/// Its channel.
const DEMO_CHANNEL: &str = "general";
/// The register's key that marks a data directory as the demonstration's.
const DEMO_MARK: &str = "demo";

/// The folder for a person's own things: `$XDG_DATA_HOME/weaprous` or `~/.local/share/weaprous`.
pub(crate) fn home() -> Result<PathBuf, Failure> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    folder("XDG_DATA_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("weaprous"))
        .ok_or_else(|| Failure::Data("neither HOME nor XDG_DATA_HOME is set; say where with --data-dir DIR".to_owned()))
}

/// Opens the store of a server.
pub(crate) fn open(folder: &Path) -> Result<Arc<dyn Store>, Failure> {
    let store = store::SqliteStore::open(folder).map_err(|error| Failure::Data(error.to_string()))?;
    Ok(Arc::new(store))
}

/// Makes sure that one tracker at most runs on a data directory, for as long as the file is kept: presence and events
/// are in the tracker's memory, so that two would each tell half of the news.
pub(crate) fn only_tracker(folder: &Path) -> Result<File, Failure> {
    let path = folder.join("tracker.lock");
    let file = File::create(&path).map_err(|error| Failure::Data(format!("{}: {error}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::Data(format!(
            "another tracker runs on the data directory {}; stop it, or take another --data-dir",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) => Err(Failure::Data(format!("cannot lock {}: {error}", path.display()))),
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}

/// Runs a future before the servers' own event loops exist.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no event loop")?;
    Ok(runtime.block_on(future))
}

/// Adds the demonstration's account and channel if they are not there yet, and marks the folder.
pub(crate) async fn fill_demo(store: &Arc<dyn Store>, accounts: &Accounts) -> anyhow::Result<()> {
    store.put(DEMO_MARK, b"1".to_vec(), Expect::Any).await?.ok();
    let user: UserName = DEMO_USER.parse().expect("the name follows the rules");
    if accounts.find(&user).await?.is_none() {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        accounts.sign_up(&user, Some(DEMO_PASSWORD.to_owned()), here, now_ms()).await?;
    }
    let channel: ChannelName = DEMO_CHANNEL.parse().expect("the name follows the rules");
    if store.last(&channel).await? > 0 {
        return Ok(());
    }
    let key = accounts.hosted_key(&user, now_ms()).await?;
    let body = Body::Create { visibility: Visibility::Public };
    let draft = Draft { channel, author: user, sent_at_ms: now_ms(), body };
    let created = Sealed::seal(&key, &draft.follow(key.id(), None, 0))?;
    for appended in store.append(vec![created]).await? {
        appended?;
    }
    Ok(())
}

/// Refuses to serve a network from a folder that has the demonstration's account.
pub(crate) async fn refuse_demo_on_network(store: &Arc<dyn Store>, ip: IpAddr) -> Result<(), Failure> {
    let marked = store.get(DEMO_MARK).await.context("cannot read the data directory")?.is_some();
    if marked && !ip.is_loopback() {
        return Err(Failure::Usage(format!(
            "this data directory was filled by --demo and has an account whose password everybody knows; it is not \
             served at {ip}: take another --data-dir"
        )));
    }
    Ok(())
}
