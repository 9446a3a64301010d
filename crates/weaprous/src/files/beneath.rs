//! Opens files below a folder, and never anything else: not through `..`, not through a symbolic link that leads out,
//! not through a name that was swapped in between.

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Opens a path of plain segments below `root` for reading. It does not wait for the other end of a FIFO; the caller
/// looks at what kind of file it got.
pub(crate) fn open(root: BorrowedFd<'_>, path: &str) -> io::Result<File> {
    match kernel::open(root, path) {
        // An old kernel, another system, or a sandbox that knows only the old calls.
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => Ok(segment_by_segment(root, path)?.into()),
        other => Ok(other?.into()),
    }
}

/// Never blocks, never becomes the controlling terminal, never survives an exec.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

#[cfg(target_os = "linux")]
mod kernel {
    use super::FLAGS;
    use rustix::fs::{Mode, ResolveFlags, openat2};
    use rustix::io::Errno;
    use std::os::fd::{BorrowedFd, OwnedFd};

    /// The kernel gives up on a race with a rename; a few tries are plenty.
    const TRIES_MAX: usize = 8;

    /// One call in which the kernel itself guarantees the result (`openat2(2)`). Links inside the folder are followed.
    pub(super) fn open(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut outcome = Err(Errno::AGAIN);
        for _ in 0..TRIES_MAX {
            outcome = openat2(root, path, FLAGS, Mode::empty(), resolve);
            if !matches!(outcome, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        outcome
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use rustix::io::Errno;
    use std::os::fd::{BorrowedFd, OwnedFd};

    pub(super) fn open(_: BorrowedFd<'_>, _: &str) -> Result<OwnedFd, Errno> {
        Err(Errno::NOSYS)
    }
}

/// Folder by folder, following no link at all.
fn segment_by_segment(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let mut folder: Option<OwnedFd> = None;
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        if matches!(segment, "" | "." | "..") {
            return Err(Errno::NOENT);
        }
        let flags = FLAGS | OFlags::NOFOLLOW;
        let flags = if segments.peek().is_some() { flags | OFlags::DIRECTORY } else { flags };
        let at = folder.as_ref().map_or(root, AsFd::as_fd);
        folder = Some(openat(at, segment, flags, Mode::empty())?);
    }
    folder.ok_or(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Opens by both ways and says what each read, or nothing.
    fn read(root: &File, path: &str) -> [Option<String>; 2] {
        let text = |opened: io::Result<File>| {
            let mut text = String::new();
            opened.ok().and_then(|mut file| file.read_to_string(&mut text).ok()).map(|_| text)
        };
        [
            text(open(root.as_fd(), path)),
            text(segment_by_segment(root.as_fd(), path).map(File::from).map_err(Into::into)),
        ]
    }

    #[test]
    fn nothing_outside_can_be_opened() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        fs::write(root.join("a/b/file"), "text").unwrap();
        symlink(outer.path(), root.join("out")).unwrap();
        symlink("../secret", root.join("link")).unwrap();
        symlink(outer.path().join("secret"), root.join("absolute")).unwrap();
        symlink("a/b", root.join("inside")).unwrap();
        let root = File::open(root).unwrap();
        let text = || Some("text".to_owned());
        assert_eq!(read(&root, "a/b/file"), [text(), text()]);
        for path in ["../secret", "a/../../secret", "/etc/passwd", "out/secret", "link", "absolute", "", "a/b/none"] {
            assert_eq!(read(&root, path), [None, None], "{path}");
        }
        let through_link = if cfg!(target_os = "linux") { text() } else { None };
        assert_eq!(read(&root, "inside/file"), [through_link, None]);
    }

    /// Says when it is dropped that the others are to end, also when a test fails.
    struct Ends<'a>(&'a AtomicBool);

    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_folder_that_turns_into_a_link_leads_nowhere_else() {
        const OPENED: usize = 3_000;
        const OPENED_MAX: usize = 1_000_000;
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("a")).unwrap();
        fs::create_dir_all(outer.path().join("outside")).unwrap();
        fs::write(root.join("a/file"), "text").unwrap();
        fs::write(outer.path().join("outside/file"), "secret").unwrap();
        symlink("../outside", root.join("b")).unwrap();
        let opened = File::open(&root).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _ends = Ends(&is_over);
            scope.spawn(|| {
                // Folder and link change places, by way of a third name.
                while !is_over.load(Ordering::Relaxed) {
                    for (from, to) in [("a", "c"), ("b", "a"), ("c", "b")] {
                        fs::rename(root.join(from), root.join(to)).unwrap();
                    }
                }
            });
            let (mut inside, mut nowhere) = ([0; 2], [0; 2]);
            for turn in 0..OPENED_MAX {
                // Each way has to have met both the folder and what is none often enough.
                if turn >= OPENED && inside.iter().chain(&nowhere).all(|count| *count >= OPENED / 10) {
                    return;
                }
                for (way, text) in read(&opened, "a/file").into_iter().enumerate() {
                    match text.as_deref() {
                        Some("text") => inside[way] += 1,
                        None => nowhere[way] += 1,
                        Some(other) => panic!("way {way} led to {other:?}"),
                    }
                }
            }
            panic!("inside {inside:?}, nowhere {nowhere:?}: the folder was never swapped, or always");
        });
    }
}
