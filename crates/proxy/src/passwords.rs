//! Names and passwords of `basic_auth` (RFC 7617): a file with lines of `name:hash`, hashes by argon2 as PHC
//! strings (`$argon2id$…`).
//!
//! The file is read anew whenever a hash is to be compared, so a change needs no reload. A password that was
//! right is remembered for [`REMEMBERED_FOR`] as a keyed MAC, since browsers send it with every request and a
//! hash takes tens of milliseconds on purpose. Nothing here is ever logged.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a right password counts without being compared again; so long a removed one still works.
const REMEMBERED_FOR: Duration = Duration::from_mins(1);
/// Right passwords remembered at a time.
const REMEMBERED_MAX: usize = 4096;
/// Hashes computed at once: each takes megabytes and a core for tens of milliseconds.
const HASHES_AT_ONCE: usize = 2;
/// Requests waiting for a hash; about two seconds' worth. More are refused as busy.
const WAITING_MAX: usize = 64;
/// Of one client: whoever guesses is not to keep others from being let in.
const WAITING_PER_CLIENT_MAX: u32 = 4;
/// Longest password file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest `name:password`, in bytes.
const PAIR_BYTES_MAX: usize = 1024;

static HASHING: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(HASHES_AT_ONCE)));
static WAITING: Semaphore = Semaphore::const_new(WAITING_MAX);
/// How many of them are of which client; no more entries than [`WAITING_MAX`].
static CLIENTS: Mutex<BTreeMap<[u8; 8], u32>> = Mutex::new(BTreeMap::new());

/// A place among those who wait for a hash.
struct Waiting {
    client: [u8; 8],
    _one_of_all: SemaphorePermit<'static>,
}

impl Waiting {
    fn take(client: [u8; 8]) -> Option<Self> {
        let one_of_all = WAITING.try_acquire().ok()?;
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = clients.entry(client).or_default();
        if *waiting >= WAITING_PER_CLIENT_MAX {
            return None;
        }
        *waiting += 1;
        Some(Self { client, _one_of_all: one_of_all })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = clients.get_mut(&self.client) {
            *waiting -= 1;
            if *waiting == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// What a look at somebody's password brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    /// Too many others are being looked at.
    Busy,
    /// The file cannot be read: nobody gets in.
    Broken,
}

/// One password file at work.
pub(crate) struct Passwords {
    file: PathBuf,
    key: hmac::Key,
    /// The MAC of a right pair → until when it counts.
    remembered: Mutex<HashMap<Vec<u8>, Instant>>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Passwords {
    pub(crate) fn new(file: &Path) -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.expect("the system has randomness, without which nothing here can be kept secret");
        Self { file: file.to_owned(), key, remembered: Mutex::default() }
    }

    /// Whether an `Authorization` field is that of somebody in the file. `client` is what [`client_key`] makes of its
    /// address.
    ///
    /// [`client_key`]: crate::rate::client_key
    pub(crate) async fn verify(&self, authorization: Option<&str>, client: [u8; 8]) -> Verdict {
        let Some((user, password)) = authorization.and_then(pair) else { return Verdict::Wrong };
        let mark = hmac::sign(&self.key, format!("{}:{user}:{password}", user.len()).as_bytes()).as_ref().to_vec();
        if self.is_remembered(&mark) {
            return Verdict::Right;
        }
        let Some(_place) = Waiting::take(client) else { return Verdict::Busy };
        let Ok(turn) = Arc::clone(&HASHING).acquire_owned().await else { return Verdict::Busy };
        let file = self.file.clone();
        let looked_up = tokio::task::spawn_blocking(move || {
            let verdict = look_up(&file, &user, &password);
            drop(turn); // belongs to the work, which goes on when the client has left
            verdict
        });
        let verdict = looked_up.await.unwrap_or(Verdict::Broken);
        if verdict == Verdict::Right {
            self.remember(mark);
        }
        verdict
    }

    fn is_remembered(&self, mark: &[u8]) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(mark).is_some_and(|until| Instant::now() < *until)
    }

    fn remember(&self, mark: Vec<u8>) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, until| now < *until);
        }
        if remembered.len() < REMEMBERED_MAX {
            remembered.insert(mark, now + REMEMBERED_FOR);
        }
    }
}

/// The name and the password in an `Authorization` field.
fn pair(authorization: &str) -> Option<(String, String)> {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let (scheme, token) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || token.len() > PAIR_BYTES_MAX * 2 {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(token.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    (text.len() <= PAIR_BYTES_MAX).then(|| (user.to_owned(), password.to_owned()))
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The lines that say something, with their numbers from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    numbered.filter(|(_, line)| !line.starts_with('#'))
}

/// The numbers of the lines of a password file that let nobody in, although they say something.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn unusable_lines(file: &Path) -> io::Result<Vec<usize>> {
    let is_usable = |line: &str| line.split_once(':').is_some_and(|(_, hash)| PasswordHash::new(hash).is_ok());
    let text = read(file)?;
    let unusable = lines(&text).filter(|(_, line)| !line.is_empty() && !is_usable(line));
    Ok(unusable.map(|(number, _)| number).collect())
}

fn look_up(file: &Path, user: &str, password: &str) -> Verdict {
    let text = match read(file) {
        Ok(text) => text,
        Err(error) => {
            tracing::error!(file = %file.display(), %error, "the password file cannot be read: everybody is refused");
            return Verdict::Broken;
        }
    };
    let hashes = || lines(&text).filter_map(|(_, line)| line.split_once(':'));
    let own = hashes().find(|(name, _)| *name == user).map(|(_, hash)| hash);
    // Without a hash of their own somebody else's is compared, so that an unknown name takes as long.
    let Some(hash) = own.or_else(|| hashes().next().map(|(_, hash)| hash)) else { return Verdict::Wrong };
    if is_password_of(hash, password) && own.is_some() { Verdict::Right } else { Verdict::Wrong }
}

fn is_password_of(hash: &str, password: &str) -> bool {
    let hash = match PasswordHash::new(hash) {
        Ok(hash) => hash,
        Err(error) => {
            tracing::error!(%error, "a line of a password file holds no argon2 hash");
            return false;
        }
    };
    Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;

    /// `argon2 saltsalt -id -t 1 -m 8` of `right horse`.
    fn hash_of(password: &str) -> String {
        use argon2::password_hash::PasswordHasher as _;
        let params = argon2::Params::new(64, 1, 1, None).unwrap();
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        argon2.hash_password(password.as_bytes()).unwrap().to_string()
    }

    fn basic(pair: &str) -> String {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }

    fn file(lines: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(lines.as_bytes()).unwrap();
        file
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
    }

    #[test]
    fn only_the_right_password_of_a_known_name_gets_in() {
        let hash = hash_of("right: horse");
        let file = file(&format!("# people\nalice:{hash}\nbob:plain text\n"));
        let passwords = Passwords::new(file.path());
        let check = |authorization: Option<&str>, expect| {
            assert_eq!(run(passwords.verify(authorization, [1; 8])), expect, "{authorization:?}");
        };
        for round in 0..2 {
            check(Some(&basic("alice:right: horse")), Verdict::Right);
            assert_eq!(passwords.remembered.lock().unwrap().len(), 1, "round {round}");
        }
        check(Some(&basic("alice:wrong")), Verdict::Wrong);
        check(Some(&basic("carol:right: horse")), Verdict::Wrong);
        check(Some(&basic("bob:plain text")), Verdict::Wrong);
        check(Some(&basic("alice")), Verdict::Wrong);
        check(Some("Basic !!!"), Verdict::Wrong);
        check(Some("Bearer x"), Verdict::Wrong);
        check(None, Verdict::Wrong);
        check(Some(&basic(&format!("alice:{}", "x".repeat(5000)))), Verdict::Wrong);
    }

    #[test]
    fn without_its_file_nobody_gets_in() {
        let passwords = Passwords::new(Path::new("no/such/file"));
        assert_eq!(run(passwords.verify(Some(&basic("a:b")), [2; 8])), Verdict::Broken);
        let empty = file("");
        assert_eq!(run(Passwords::new(empty.path()).verify(Some(&basic("a:b")), [2; 8])), Verdict::Wrong);
    }

    #[test]
    fn whoever_guesses_keeps_nobody_else_out() {
        let file = file(&format!("alice:{}\n", hash_of("secret")));
        let passwords = Passwords::new(file.path());
        let guesses: Vec<Waiting> = (0..WAITING_PER_CLIENT_MAX).map(|_| Waiting::take([7; 8]).unwrap()).collect();
        assert_eq!(run(passwords.verify(Some(&basic("alice:guess")), [7; 8])), Verdict::Busy);
        assert_eq!(run(passwords.verify(Some(&basic("alice:secret")), [8; 8])), Verdict::Right);
        drop(guesses);
        assert_eq!(run(passwords.verify(Some(&basic("alice:guess")), [7; 8])), Verdict::Wrong);
        assert!(!CLIENTS.lock().unwrap().contains_key(&[7; 8]), "nothing is kept of those who have left");
    }
}
