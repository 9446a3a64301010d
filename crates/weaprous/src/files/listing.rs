//! What a folder holds: as a page for people that needs no script, or as JSON for programs.
//!
//! Names are text from whoever made the files: every one is escaped, and one that no address can mean is shown without
//! a link. What lies outside the root by a symbolic link, hidden files, FIFOs and devices are not shown.

use super::address::is_plain;
use super::{Rules, disk};
use crate::accept;
use crate::percent;
use crate::problem::escape_html;
use crate::request::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{Response, StatusCode};
use ring::digest;
use rustix::fs::{AtFlags, Dir, FileType, statat};
use serde::Serialize;
use std::cmp::Ordering;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::LazyLock;

/// Most entries of one folder that are shown; a longer page is of no use to anybody.
pub(crate) const ENTRIES_MAX: usize = 10_000;

/// What is shown of a folder.
#[derive(Debug, Serialize)]
pub(crate) struct Listing {
    entries: Vec<Entry>,
    /// Whether there are more than [`ENTRIES_MAX`].
    truncated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Entry {
    name: String,
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// RFC 3339, UTC.
    modified: String,
    /// Whether an address can mean it.
    #[serde(skip)]
    is_reachable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Folder,
    File,
}

/// Reads the folder at `path`, which is empty or ends in a slash; `None` if there is none. Blocks.
pub(crate) fn read(root: &File, path: &str, rules: &Rules) -> io::Result<Option<Listing>> {
    let folder = path.trim_end_matches('/');
    let opened = disk::open(root, if folder.is_empty() { "." } else { folder })?;
    let Some((folder, _)) = opened.filter(|(_, metadata)| metadata.is_dir()) else { return Ok(None) };
    let depth = path.matches('/').count();
    let mut listing = Listing { entries: Vec::new(), truncated: false };
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let bytes = name.to_bytes();
        if matches!(bytes, b"." | b"..") || bytes.starts_with(b".") && !is_shown(bytes, depth, rules) {
            continue;
        }
        let Some((kind, size, modified_s)) = describe(root, &folder, path, name) else { continue };
        if listing.entries.len() == ENTRIES_MAX {
            listing.truncated = true;
            break;
        }
        let is_reachable = name.to_str().is_ok_and(|name| is_plain(name, depth, rules));
        let name = name.to_string_lossy().into_owned();
        let size = (kind == Kind::File).then_some(size);
        listing.entries.push(Entry { name, kind, size, modified: rfc3339(modified_s), is_reachable });
    }
    Ok(Some(listing))
}

fn is_shown(name: &[u8], depth: usize, rules: &Rules) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| is_plain(name, depth, rules))
}

/// Kind, size and time of what a stranger would get at this name. A link is followed as far as the root allows.
fn describe(root: &File, folder: &File, path: &str, name: &std::ffi::CStr) -> Option<(Kind, u64, i64)> {
    let stat = statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Some((Kind::Folder, 0, stat.st_mtime)),
        FileType::RegularFile => Some((Kind::File, stat.st_size.unsigned_abs(), stat.st_mtime)),
        FileType::Symlink => {
            let (_, metadata) = disk::open(root, &format!("{path}{}", name.to_str().ok()?)).ok()??;
            let kind = if metadata.is_dir() { Kind::Folder } else { Kind::File };
            (metadata.is_dir() || metadata.is_file()).then_some((kind, metadata.len(), metadata.mtime()))
        }
        _ => None,
    }
}

/// How a request wants a listing: `?sort=name|size|modified`, `&order=asc|desc`, JSON by `Accept`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    order: Order,
    is_json: bool,
    has_upload: bool,
}

impl View {
    pub(crate) fn of(request: &Request, has_upload: bool) -> Self {
        let is_json = request.field("accept").is_some_and(accept::prefers_json);
        Self { order: Order::of(request.query()), is_json, has_upload }
    }

    /// The content of the answer. Thousands of names take long to sort and to write: not the work of a worker.
    pub(crate) fn write(self, mut listing: Listing, path: &str) -> Vec<u8> {
        self.order.sort(&mut listing.entries);
        if self.is_json {
            serde_json::to_vec(&listing).expect("plain values are JSON")
        } else {
            page(&listing, path, self.order, self.has_upload).into_bytes()
        }
    }

    pub(crate) fn respond(self, content: Vec<u8>) -> Response {
        let response = if self.is_json {
            Response::bytes(StatusCode::OK, "application/json", content)
        } else {
            Response::bytes(StatusCode::OK, "text/html; charset=utf-8", content)
                .field("content-security-policy", CONTENT_SECURITY_POLICY.as_str())
        };
        response.field("vary", "Accept").field("cache-control", "no-cache").field("x-content-type-options", "nosniff")
    }
}

const STYLE: &str = include_str!("listing.css");

/// The page has this one style and may do nothing else but send its own form.
static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
});

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Name,
    Size,
    Modified,
}

impl Key {
    const ALL: [(Self, &str, &str, &str); 3] = [
        (Self::Name, "name", "Name", ""),
        (Self::Size, "size", "Size", " class=\"size\""),
        (Self::Modified, "modified", "Modified (UTC)", " class=\"time\""),
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    key: Key,
    is_descending: bool,
}

impl Order {
    /// Anything not understood means the default: by name, ascending.
    fn of(query: &str) -> Self {
        let value =
            |wanted: &str| query.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == wanted);
        let key = match value("sort") {
            Some((_, "size")) => Key::Size,
            Some((_, "modified")) => Key::Modified,
            _ => Key::Name,
        };
        Self { key, is_descending: value("order").is_some_and(|(_, order)| order == "desc") }
    }

    /// Folders stand first, whatever the order.
    fn sort(self, entries: &mut [Entry]) {
        entries.sort_by(|a, b| {
            let by_key = match self.key {
                Key::Name => natural(&a.name, &b.name),
                Key::Size => a.size.cmp(&b.size),
                Key::Modified => a.modified.cmp(&b.modified),
            };
            let by_key = if self.is_descending { by_key.reverse() } else { by_key };
            a.kind.cmp(&b.kind).then(by_key).then_with(|| natural(&a.name, &b.name))
        });
    }
}

/// As people sort: without regard to case, and `2` before `10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.chars().peekable(), b.chars().peekable());
    loop {
        let (Some(x), Some(y)) = (left.peek().copied(), right.peek().copied()) else {
            return left.peek().is_some().cmp(&right.peek().is_some()).then_with(|| a.cmp(b));
        };
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let number = |digits: &mut std::iter::Peekable<std::str::Chars<'_>>| {
                let text: String = std::iter::from_fn(|| digits.next_if(char::is_ascii_digit)).collect();
                let text = text.trim_start_matches('0').to_owned();
                (text.len(), text)
            };
            number(&mut left).cmp(&number(&mut right))
        } else {
            left.next();
            right.next();
            x.to_lowercase().cmp(y.to_lowercase())
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn page(listing: &Listing, path: &str, order: Order, has_upload: bool) -> String {
    let mut page = String::with_capacity(4096 + listing.entries.len() * 256);
    let title = if path.is_empty() { "Files".to_owned() } else { escape_html(path) };
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>{STYLE}</style>\n<main>\n"
    );
    push_path(&mut page, path);
    if has_upload {
        page.push_str(
            "<form method=\"post\" enctype=\"multipart/form-data\"><label for=\"file\">Add files</label>\
             <input id=\"file\" type=\"file\" name=\"file\" multiple required><button>Upload</button></form>\n",
        );
    }
    push_table(&mut page, listing, path, order);
    push_count(&mut page, listing);
    page.push_str("</main>\n</html>\n");
    page
}

/// Where we are: every folder on the way is a link. Relative, so that the tree may hang anywhere.
fn push_path(page: &mut String, path: &str) {
    let folders: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    page.push_str("<h1>");
    let mut place = folders.len();
    for name in std::iter::once(&"Files").chain(&folders) {
        let name = escape_html(name);
        if place == 0 {
            let _ = write!(page, "<span aria-current=\"page\">{name}</span>");
        } else {
            let _ = write!(page, "<a href=\"{}\">{name}</a><span class=\"sep\">/</span>", "../".repeat(place));
            place -= 1;
        }
    }
    page.push_str("</h1>\n");
}

fn push_table(page: &mut String, listing: &Listing, path: &str, order: Order) {
    page.push_str("<table>\n<thead><tr>");
    for (key, name, label, class) in Key::ALL {
        let is_chosen = order.key == key;
        let next = if is_chosen && !order.is_descending { "desc" } else { "asc" };
        let sorted = match (is_chosen, order.is_descending) {
            (false, _) => "",
            (true, false) => " aria-sort=\"ascending\"",
            (true, true) => " aria-sort=\"descending\"",
        };
        let _ =
            write!(page, "<th scope=\"col\"{class}{sorted}><a href=\"?sort={name}&amp;order={next}\">{label}</a></th>");
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    if !path.is_empty() {
        page.push_str("<tr><td class=\"folder\"><a href=\"../\">../</a></td><td class=\"size\"></td><td class=\"time\"></td></tr>\n");
    }
    listing.entries.iter().for_each(|entry| push_row(page, entry));
    page.push_str("</tbody>\n</table>\n");
}

fn push_row(page: &mut String, entry: &Entry) {
    let slash = if entry.kind == Kind::Folder { "/" } else { "" };
    let name = escape_html(&visible(&entry.name));
    let class = if entry.kind == Kind::Folder { " class=\"folder\"" } else { "" };
    let _ = if entry.is_reachable {
        write!(page, "<tr><td{class}><a href=\"{}{slash}\">{name}{slash}</a></td>", percent::encode(&entry.name))
    } else {
        write!(page, "<tr><td class=\"none\" title=\"No address can mean this name\">{name}{slash}</td>")
    };
    let size = entry.size.map(human).unwrap_or_default();
    let exact = entry.size.map(|size| format!(" title=\"{size} bytes\"")).unwrap_or_default();
    let minutes = entry.modified.get(..16).unwrap_or_default().replace('T', " ");
    let _ = writeln!(
        page,
        "<td class=\"size\"{exact}>{size}</td><td class=\"time\"><time datetime=\"{}\">{minutes}</time></td></tr>",
        entry.modified
    );
}

fn push_count(page: &mut String, listing: &Listing) {
    let files = listing.entries.iter().filter(|entry| entry.kind == Kind::File).count();
    let folders = listing.entries.len() - files;
    let bytes = listing.entries.iter().filter_map(|entry| entry.size).sum();
    let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let _ = write!(page, "<footer>{}, {}", plural(folders, "folder"), plural(files, "file"));
    if files > 0 {
        let _ = write!(page, ", {}", human(bytes));
    }
    if listing.truncated {
        let _ = write!(page, "; only the first {ENTRIES_MAX} are shown");
    }
    page.push_str("</footer>\n");
}

/// Control characters, and those that turn the direction of text, as something that can be seen.
fn visible(name: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    name.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}

fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Seconds since 1970 as `2026-11-22T18:57:00Z`.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March have their leap day at the end, which makes the months regular.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let check = |seconds, expect: &str| assert_eq!(rfc3339(seconds), expect);
        check(0, "1970-01-01T00:00:00Z");
        check(-1, "1969-12-31T23:59:59Z");
        check(784_111_777, "1994-11-06T08:49:37Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_709_164_799, "2024-02-28T23:59:59Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
    }

    #[test]
    fn names_are_sorted_as_people_do() {
        let mut names = ["b", "a10", "A2", "a1", "B1", "a02", "", "é"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["", "a1", "A2", "a02", "a10", "b", "B1", "é"]);
    }

    #[test]
    fn sizes_are_rounded_to_what_people_read() {
        let check = |bytes, expect: &str| assert_eq!(human(bytes), expect);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1_048_575, "1.0 MiB");
        check(1_500_000_000, "1.4 GiB");
        check(u64::MAX, "16384.0 PiB");
    }

    #[test]
    fn orders_that_make_no_sense_mean_the_usual_one() {
        let check = |query, key, is_descending| assert_eq!(Order::of(query), Order { key, is_descending }, "{query}");
        check("", Key::Name, false);
        check("sort=size&order=desc", Key::Size, true);
        check("order=asc&sort=modified", Key::Modified, false);
        check("sort=<script>&order=1", Key::Name, false);
    }
}
