//! Argon2id (RFC 9106) off the worker threads, a few at a time.

use crate::AccountError;
use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use chat::UserName;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use tokio::sync::Semaphore;

/// Shortest password, in bytes (NIST SP 800-63B §3.1.1.2 asks for at least eight).
pub const PASSWORD_BYTES_MIN: usize = 8;
/// Longest password, in bytes: far above any passphrase, low enough to be no burden.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Hashes computed at once: each takes 19 MiB and a core for some 30 ms.
const HASHES_AT_ONCE: usize = 2;
/// Hashes waiting for their turn; about two seconds' worth. More are refused as busy.
const HASHES_WAITING_MAX: usize = 64;

/// A hash of nothing anybody knows, so that an unknown name takes as long as a known one.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash_now("no account has this password").unwrap_or_default());

/// Refuses what anybody would try first.
pub(crate) fn check_strength(user: &UserName, password: &str) -> Result<(), AccountError> {
    let weak = |reason| Err(AccountError::WeakPassword { reason });
    let mut characters = password.chars();
    let first = characters.next();
    if password.len() < PASSWORD_BYTES_MIN {
        weak("the password is too short")
    } else if password.len() > PASSWORD_BYTES_MAX {
        weak("the password is too long")
    } else if password.eq_ignore_ascii_case(user.as_str()) {
        weak("the password is the name")
    } else if characters.all(|character| Some(character) == first) {
        weak("the password is one character repeated")
    } else {
        Ok(())
    }
}

/// Computes hashes on the blocking pool, a bounded number at a time.
pub(crate) struct Hasher {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(HASHES_AT_ONCE)), waiting: AtomicUsize::new(0) }
    }
}

impl Hasher {
    /// The PHC string of a password, with a fresh salt.
    pub(crate) async fn hash(&self, password: String) -> Result<String, AccountError> {
        self.in_turn(move || hash_now(&password)).await?.ok_or(AccountError::Busy)
    }

    /// Whether the password has this hash. Without a hash it takes as long and says no.
    pub(crate) async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, AccountError> {
        self.in_turn(move || {
            let known = hash.is_some();
            matches(&password, hash.as_ref().unwrap_or(&NOBODY)) && known
        })
        .await
    }

    /// The turn belongs to the work, which goes on when the caller has left: a client that hangs up at once must not
    /// make room for another hash beside its own.
    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, AccountError> {
        let waiting = Waiting::join(&self.waiting)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| AccountError::Busy)?;
        drop(waiting);
        let in_turn = move || {
            let done = work();
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(in_turn).await.map_err(|_| AccountError::Busy)
    }
}

/// A place in the queue, given back when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn join(count: &'a AtomicUsize) -> Result<Self, AccountError> {
        let place = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) >= HASHES_WAITING_MAX {
            return Err(AccountError::Busy);
        }
        Ok(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn hash_now(password: &str) -> Option<String> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).ok()?;
    let mut hash = PasswordHash {
        algorithm: Algorithm::default().ident(),
        version: Some(Version::default().into()),
        params: ParamsString::try_from(Params::default()).ok()?,
        salt: Some(Salt::new(&salt).ok()?),
        hash: None,
    };
    hash.hash = Some(compute(password, &hash)?);
    Some(hash.to_string())
}

fn matches(password: &str, hash: &str) -> bool {
    let compare = |hash: PasswordHash| Some(compute(password, &hash)? == hash.hash?); // in constant time
    PasswordHash::new(hash).ok().and_then(compare).unwrap_or(false)
}

/// What this password comes to with the algorithm, costs and salt of `hash`.
fn compute(password: &str, hash: &PasswordHash) -> Option<Output> {
    let params = Params::try_from(hash).ok()?;
    let mut memory = Vec::with_capacity(BLOCKS_RESERVED.max(params.block_count()));
    memory.resize(params.block_count(), Block::default());
    let output_len = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
    let algorithm = Algorithm::new(hash.algorithm).ok()?;
    let argon2 = Argon2::new(algorithm, hash.version?.try_into().ok()?, params);
    let salt = hash.salt?;
    let mut output = vec![0; output_len];
    argon2.hash_password_into_with_memory(password.as_bytes(), &salt, &mut output, &mut memory).ok()?;
    Output::new(&output).ok()
}

/// Random bytes of a salt (RFC 9106 §3.1 recommends 16).
const SALT_BYTES: usize = 16;
/// Blocks of 1 KiB asked of the system for one hash, though fewer are touched. What is smaller than 32 MiB, the
/// allocator of glibc keeps once it was freed, for each thread that ever hashed: a gigabyte in the end.
const BLOCKS_RESERVED: usize = 33 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::{PasswordHasher, PasswordVerifier};

    #[test]
    fn what_anybody_would_try_first_is_refused() {
        let user: UserName = "longname".parse().unwrap();
        let cases = ["", "short", "aaaaaaaaaaaa", "LongName"].map(str::to_owned);
        for password in cases.into_iter().chain(["x".repeat(PASSWORD_BYTES_MAX + 1)]) {
            let refused = check_strength(&user, &password);
            assert!(matches!(refused, Err(AccountError::WeakPassword { .. })), "{password:.20}");
        }
        assert_eq!(check_strength(&user, "four words of mine"), Ok(()));
    }

    #[tokio::test]
    async fn a_hash_is_argon2id_with_its_own_salt_and_matches_its_password_only() {
        let hasher = Hasher::default();
        let hash = hasher.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, hasher.hash("correct horse".to_owned()).await.unwrap());
        assert_eq!(hasher.verify("correct horse".to_owned(), Some(hash.clone())).await, Ok(true));
        assert_eq!(hasher.verify("correct horsf".to_owned(), Some(hash)).await, Ok(false));
        assert_eq!(hasher.verify("no account has this password".to_owned(), None).await, Ok(false));
    }

    #[test]
    fn the_queue_has_an_end() {
        let count = AtomicUsize::new(0);
        let places: Vec<_> = (0..HASHES_WAITING_MAX).map(|_| Waiting::join(&count).unwrap()).collect();
        assert!(Waiting::join(&count).is_err());
        drop(places);
        assert!(Waiting::join(&count).is_ok());
    }

    #[tokio::test]
    async fn a_caller_who_leaves_does_not_end_the_turn_of_the_work() {
        let hasher = Hasher::default();
        let mut works = Vec::new();
        for _ in 0..HASHES_AT_ONCE {
            let (started, has_started) = tokio::sync::oneshot::channel();
            let (finish, is_to_finish) = std::sync::mpsc::channel::<()>();
            let work = move || {
                let _ = started.send(());
                let _ = is_to_finish.recv();
            };
            tokio::select! {
                _ = hasher.in_turn(work) => panic!("the work waits"),
                _ = has_started => {} // and the caller leaves
            }
            works.push(finish);
        }
        assert_eq!(hasher.turns.available_permits(), 0, "the work goes on");
        drop(works);
        let all = hasher.turns.acquire_many(HASHES_AT_ONCE as u32).await;
        assert!(all.is_ok(), "each gives its turn back at its end");
    }

    #[test]
    fn hashes_are_those_of_the_library() {
        let theirs = Argon2::default().hash_password(b"correct horse").unwrap().to_string();
        assert!(matches("correct horse", &theirs));
        assert!(!matches("correct horsf", &theirs));
        let ours = PasswordHash::new(&hash_now("correct horse").unwrap()).unwrap();
        assert!(Argon2::default().verify_password(b"correct horse", &ours).is_ok());
        for broken in ["", "no hash", "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw"] {
            assert!(!matches("correct horse", broken), "{broken:?}");
        }
    }

    /// Megabytes of memory this process uses.
    #[cfg(target_os = "linux")]
    fn resident_mib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim_end_matches("kB").trim().parse::<u64>().unwrap() / 1024
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_that_have_hashed_keep_no_memory() {
        let threads: Vec<_> = (0..12)
            .map(|_| {
                let (done, is_done) = std::sync::mpsc::channel();
                let (finish, is_to_finish) = std::sync::mpsc::channel::<()>();
                let thread = std::thread::spawn(move || {
                    done.send(hash_now("correct horse").is_some()).unwrap();
                    let _ = is_to_finish.recv(); // idle, as in a pool
                });
                assert!(is_done.recv().unwrap());
                (finish, thread)
            })
            .collect();
        // Other tests hash meanwhile; what they use is given back soon.
        let started = std::time::Instant::now();
        while resident_mib() > 100 && started.elapsed().as_secs() < 10 {
            std::thread::yield_now();
        }
        assert!(resident_mib() <= 100, "{} MiB", resident_mib());
        for (finish, thread) in threads {
            drop(finish);
            thread.join().unwrap();
        }
    }
}
