//! What a worker keeps of the files it serves: small ones whole, larger ones open. No system call and no lock at a hit.
//!
//! ```text
//!   look up ── fresh ──▶ answered from here
//!           ── due ────▶ this request asks the disk; others are served from here meanwhile
//!           ── absent ─▶ this request asks the disk
//! ```

use super::Rules;
use super::resource::Resource;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How files are kept in memory, per worker. All of it has defaults.
///
/// ```
/// use weaprous::files::{FileCache, Files};
///
/// # fn main() -> std::io::Result<()> {
/// let edited_by_hand = Files::dir(".")?.cache(FileCache::OFF);
/// let large = Files::dir(".")?.cache(FileCache { bytes_max: 256 << 20, ..FileCache::default() });
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileCache {
    /// Most bytes of content kept; 0 keeps nothing.
    pub bytes_max: u64,
    /// Longest file kept whole. A longer one is only kept open.
    pub file_bytes_max: u64,
    /// How long a file is taken for unchanged without looking.
    pub check_every: Duration,
}

impl Default for FileCache {
    fn default() -> Self {
        Self { bytes_max: 8 * 1024 * 1024, file_bytes_max: 128 * 1024, check_every: Duration::from_secs(1) }
    }
}

impl FileCache {
    /// Every request looks at the disk.
    pub const OFF: Self = Self { bytes_max: 0, file_bytes_max: 128 * 1024, check_every: Duration::ZERO };
}

/// Files one worker keeps open per tree; a share of the usual limit of 1024.
const OPEN_FILES_MAX: usize = 64;
/// Longest file kept open: a deleted one holds its space on the disk until it is let go.
pub(crate) const OPEN_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What an entry costs beside its content, roughly.
const ENTRY_BYTES: u64 = 1024;

thread_local! {
    static TREES: RefCell<Vec<Tree>> = const { RefCell::new(Vec::new()) };
}

struct Tree {
    /// Its identity: see [`Rules`]. There are few trees, so they are looked through.
    id: u64,
    /// Gone when the last handle on the tree is.
    rules: Weak<Rules>,
    entries: HashMap<Box<str>, Entry>,
    bytes: u64,
    open: usize,
    /// Counts look-ups, so that the entry that was not used for longest is known.
    clock: u64,
}

struct Entry {
    resource: Arc<Resource>,
    checked: Instant,
    used: u64,
}

/// What a path is known to hold, if that was looked at recently enough.
pub(crate) fn find(rules: &Rules, path: &str) -> Option<Arc<Resource>> {
    TREES.with_borrow_mut(|trees| {
        let tree = tree_of(trees, rules)?;
        tree.clock += 1;
        let entry = tree.entries.get_mut(path)?;
        entry.used = tree.clock;
        let is_fresh = entry.checked.elapsed() < rules.cache.check_every;
        is_fresh.then(|| Arc::clone(&entry.resource))
    })
}

/// What a path was last known to hold, to be compared with the disk by the caller: nobody else will for a while.
pub(crate) fn claim(rules: &Rules, path: &str) -> Option<Arc<Resource>> {
    TREES.with_borrow_mut(|trees| {
        let entry = tree_of(trees, rules)?.entries.get_mut(path)?;
        entry.checked = Instant::now();
        Some(Arc::clone(&entry.resource))
    })
}

/// Keeps what the disk says about a path.
pub(crate) fn keep(rules: &Arc<Rules>, path: &str, resource: Arc<Resource>) {
    let (bytes, open) = cost(&resource);
    if bytes > rules.cache.bytes_max || open > OPEN_FILES_MAX {
        return;
    }
    TREES.with_borrow_mut(|trees| {
        if tree_of(trees, rules).is_none() {
            trees.retain(|tree| tree.rules.strong_count() > 0);
            trees.push(Tree::new(rules));
        }
        let Some(tree) = tree_of(trees, rules) else { return };
        tree.remove(path);
        while tree.bytes + bytes > rules.cache.bytes_max || tree.open + open > OPEN_FILES_MAX {
            let oldest = tree.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(path, _)| path.clone());
            let Some(oldest) = oldest else { break };
            tree.remove(&oldest);
        }
        tree.clock += 1;
        tree.bytes += bytes;
        tree.open += open;
        let entry = Entry { resource, checked: Instant::now(), used: tree.clock };
        tree.entries.insert(path.into(), entry);
    });
}

/// Forgets a path that is not there any more.
pub(crate) fn forget(rules: &Rules, path: &str) {
    TREES.with_borrow_mut(|trees| {
        if let Some(tree) = tree_of(trees, rules) {
            tree.remove(path);
        }
    });
}

fn tree_of<'a>(trees: &'a mut [Tree], rules: &Rules) -> Option<&'a mut Tree> {
    trees.iter_mut().find(|tree| tree.id == rules.id)
}

impl Tree {
    fn new(rules: &Arc<Rules>) -> Self {
        Self { id: rules.id, rules: Arc::downgrade(rules), entries: HashMap::new(), bytes: 0, open: 0, clock: 0 }
    }

    fn remove(&mut self, path: &str) {
        if let Some(entry) = self.entries.remove(path) {
            let (bytes, open) = cost(&entry.resource);
            self.bytes -= bytes;
            self.open -= open;
        }
    }
}

fn cost(resource: &Resource) -> (u64, usize) {
    (resource.bytes_in_memory() + ENTRY_BYTES, resource.open_files())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep_all(rules: &Arc<Rules>, names: &[&str], len: usize) {
        for name in names {
            keep(rules, name, Arc::new(Resource::of_bytes(name, vec![0; len])));
        }
    }

    fn held(rules: &Rules, names: &[&str]) -> Vec<bool> {
        names.iter().map(|name| find(rules, name).is_some()).collect()
    }

    #[test]
    fn the_one_not_used_for_longest_makes_room() {
        let cache = FileCache { bytes_max: 3 * (ENTRY_BYTES + 100), ..FileCache::default() };
        let rules = Arc::new(Rules { cache, ..Rules::default() });
        keep_all(&rules, &["a", "b", "c"], 100);
        assert!(find(&rules, "a").is_some());
        keep_all(&rules, &["d"], 100);
        assert_eq!(held(&rules, &["a", "b", "c", "d"]), [true, false, true, true]);
        keep_all(&rules, &["too long"], 10_000);
        assert_eq!(held(&rules, &["too long", "a"]), [false, true]);
    }

    #[test]
    fn what_is_due_is_handed_to_one_asker() {
        let rules = Arc::new(Rules::default());
        keep_all(&rules, &["a"], 1);
        assert!(find(&rules, "a").is_some());
        let cache = FileCache { check_every: Duration::ZERO, ..FileCache::default() };
        let hasty = Rules { cache, id: rules.id, ..Rules::default() };
        assert!(find(&hasty, "a").is_none() && claim(&hasty, "a").is_some());
        let long_ago = Instant::now().checked_sub(Duration::from_mins(1)).expect("the machine is up for longer");
        TREES.with_borrow_mut(|trees| {
            let tree = tree_of(trees, &rules).expect("kept above");
            tree.entries.get_mut("a").expect("kept above").checked = long_ago;
        });
        assert!(find(&rules, "a").is_none(), "due");
        assert!(claim(&rules, "a").is_some());
        assert!(find(&rules, "a").is_some(), "claimed, so served from memory meanwhile");
        forget(&rules, "a");
        assert!(find(&rules, "a").is_none() && claim(&rules, "a").is_none());
    }

    #[test]
    fn a_tree_that_is_gone_is_forgotten() {
        let gone = Arc::new(Rules::default());
        keep_all(&gone, &["a"], 1);
        let id = gone.id;
        drop(gone);
        let other = Arc::new(Rules::default());
        keep_all(&other, &["a"], 1);
        assert!(TREES.with_borrow(|trees| {
            let holds = |id| trees.iter().any(|tree| tree.id == id);
            !holds(id) && holds(other.id)
        }));
    }
}
