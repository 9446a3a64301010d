//! What is done with bytes of strangers, one target per reader. A target panics where something is wrong; it never
//! opens a socket.
//!
//! `cargo xtask fuzz TARGET` runs one of them for long, `cargo xtask fuzz --smoke` all of them for seconds. An input
//! that was found goes into `cases/TARGET/`, where the ordinary tests of this crate, and every run, begin with it.

mod targets;

use std::path::Path;
use std::{fs, io};
use targets::{chat_bytes, http, proxy_conf, web};

/// One reader of foreign bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on the command line, and of its folder under `cases`.
    pub name: &'static str,
    /// Reads one input; panics if the reader is wrong.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    Target { name: "request_head", run: http::request_head, seeds: http::request_seeds },
    Target { name: "response_head", run: http::response_head, seeds: http::response_seeds },
    Target { name: "chunked", run: http::chunked, seeds: http::chunked_seeds },
    Target { name: "connection", run: http::connection, seeds: http::connection_seeds },
    Target { name: "proxy_conf", run: proxy_conf::read, seeds: proxy_conf::seeds },
    Target { name: "cookies", run: web::cookies, seeds: web::cookie_seeds },
    Target { name: "ranges", run: web::ranges, seeds: web::range_seeds },
    Target { name: "multipart", run: web::multipart, seeds: web::multipart_seeds },
    Target { name: "resume_ids", run: web::resume_ids, seeds: web::resume_seeds },
    Target { name: "frames", run: chat_bytes::frames, seeds: chat_bytes::frame_seeds },
    Target { name: "envelopes", run: chat_bytes::envelopes, seeds: chat_bytes::envelope_seeds },
];

/// Writes a target's seeds into a folder, one file each.
///
/// # Errors
/// The folder or a file cannot be made.
pub fn write_seeds(target: &Target, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (index, seed) in (target.seeds)().into_iter().enumerate() {
        fs::write(folder.join(format!("seed-{index}")), seed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every input that was ever found, and every seed.
    #[test]
    fn kept_inputs_and_seeds_are_read_without_fault() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{} begins with nothing", target.name);
            seeds.iter().for_each(|seed| (target.run)(seed));
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases").join(target.name);
            for file in fs::read_dir(folder).into_iter().flatten() {
                (target.run)(&fs::read(file.unwrap().path()).unwrap());
            }
        }
    }
}
