//! What lies on the disk: files with their codings beside them, folders with or without an index. All of it blocks and
//! runs on the blocking pool.

use super::parts::Content;
use super::resource::{Coding, Found, Resource};
use super::{Rules, beneath};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

/// Longer than any tick of a kernel's clock for files; those are 1 to 10 ms.
const SETTLED: Duration = Duration::from_millis(100);

/// How often a file that changes while it is read is read again.
const READS_MAX: usize = 3;

/// What lies at a path.
pub(crate) enum Entry {
    File(Resource),
    /// The same as before.
    Unchanged,
    /// A folder that has an index.
    Folder,
    /// A folder that has none.
    Bare,
    Nothing,
}

/// Looks at `name`; `known` is what was there the last time.
pub(crate) fn look(root: &File, name: &str, rules: &Rules, known: Option<&Resource>) -> io::Result<Entry> {
    let Some((file, metadata)) = open(root, name)? else { return Ok(Entry::Nothing) };
    if metadata.is_dir() {
        let index = open(root, &format!("{name}/{}", rules.index))?;
        return Ok(if index.is_some_and(|(_, index)| index.is_file()) { Entry::Folder } else { Entry::Bare });
    }
    if !metadata.is_file() {
        return Ok(Entry::Nothing); // a FIFO, a socket, a device
    }
    let mut opened = Vec::with_capacity(1);
    if rules.precompressed {
        opened.extend(
            Coding::BESIDE.iter().filter_map(|coding| Some((*coding, beside(root, name, *coding, &metadata)?))),
        );
    }
    opened.push((Coding::Identity, (file, metadata)));
    let now = now();
    let tags: Vec<String> = opened.iter().map(|(coding, (_, metadata))| tag(*coding, metadata, now).0).collect();
    if known.is_some_and(|known| known.is_made_of(tags.iter().map(String::as_str))) {
        return Ok(Entry::Unchanged);
    }
    let found = opened.into_iter().map(|(coding, (file, metadata))| found(coding, file, metadata, rules));
    Ok(Entry::File(Resource::new(name, rules, found.collect::<io::Result<_>>()?)))
}

/// Opens what lies at a path of plain segments.
pub(crate) fn open(root: &File, name: &str) -> io::Result<Option<(File, Metadata)>> {
    let Some(file) = absent_is_none(beneath::open(root.as_fd(), name))? else { return Ok(None) };
    let metadata = file.metadata()?;
    Ok(Some((file, metadata)))
}

/// The same file in another coding, unless it is older than the file itself: then somebody forgot to make it anew.
fn beside(root: &File, name: &str, coding: Coding, plain: &Metadata) -> Option<(File, Metadata)> {
    let (file, metadata) = open(root, &format!("{name}{}", coding.ending())).ok()??;
    (metadata.is_file() && metadata.mtime() >= plain.mtime()).then_some((file, metadata))
}

/// Reads a short file whole; a long one stays open. A file that grew or shrank while it was read is read again.
fn found(coding: Coding, mut file: File, mut metadata: Metadata, rules: &Rules) -> io::Result<Found> {
    let mut reads = 0;
    while metadata.len() <= rules.cache.file_bytes_max {
        let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
        io::Seek::rewind(&mut file)?;
        (&mut file).take(metadata.len() + 1).read_to_end(&mut bytes)?;
        let (etag, is_settled) = tag(coding, &metadata, now());
        let after = file.metadata()?;
        let is_same = changed(&after) == changed(&metadata) && bytes.len() as u64 == metadata.len();
        reads += 1;
        if is_same || reads == READS_MAX {
            let (len, modified) = (bytes.len() as u64, metadata.modified().ok());
            let content = Content::Bytes(bytes.into());
            return Ok(Found { coding, content, len, etag, modified, is_settled: is_same && is_settled });
        }
        metadata = after;
    }
    let (etag, is_settled) = tag(coding, &metadata, now());
    let (len, modified) = (metadata.len(), metadata.modified().ok());
    Ok(Found { coding, content: Content::File(file.into()), len, etag, modified, is_settled })
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn changed(metadata: &Metadata) -> Duration {
    Duration::new(metadata.ctime().unsigned_abs(), metadata.ctime_nsec() as u32)
}

/// The tag is made of everything the system changes with the content: the time of the last change of status cannot be
/// set back. A file that changed just now may change again within the same tick of that clock, so its tag is of this
/// moment and matches nothing later; the second value tells.
fn tag(coding: Coding, metadata: &Metadata, now: Duration) -> (String, bool) {
    let changed = changed(metadata);
    let is_settled = now.checked_sub(changed).is_some_and(|age| age >= SETTLED);
    let moment = if is_settled { String::new() } else { format!("-{:x}", now.as_nanos()) };
    let coding = if coding == Coding::Identity { "" } else { coding.token() };
    let (inode, len, changed) = (metadata.ino(), metadata.len(), changed.as_nanos());
    (format!("\"{inode:x}-{len:x}-{changed:x}{coding}{moment}\""), is_settled)
}

/// What a stranger may not tell apart: absent, outside, forbidden, a loop of links, a name no file can have.
pub(crate) fn absent_is_none(opened: io::Result<File>) -> io::Result<Option<File>> {
    use rustix::io::Errno;
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(
                Errno::NOENT
                | Errno::NOTDIR
                | Errno::XDEV
                | Errno::LOOP
                | Errno::NAMETOOLONG
                | Errno::ACCESS
                | Errno::NXIO
                | Errno::INVAL
                | Errno::ILSEQ,
            ) => Ok(None),
            _ => Err(error),
        },
    }
}
