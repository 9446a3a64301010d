//! Puts the site into the binary: lists `www/` and `static/`, compresses each file once where that pays.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// A file is kept compressed too if that saves at least a tenth.
const WORTH_PERCENT: usize = 90;

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo tells where to write"));
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo tells where the crate is"));
    let root = manifest.join("../..").canonicalize()?;
    let mut source = String::new();
    for (name, folder) in [("WWW", "www"), ("STATIC", "static")] {
        let folder = root.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut files = Vec::new();
        list(&folder, &mut files)?;
        files.sort();
        embed(name, &folder, &files, &out, &mut source)?;
    }
    fs::write(out.join("site.rs"), source)
}

/// All files below a folder, without those whose name begins with a dot.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn embed(name: &str, folder: &Path, files: &[PathBuf], out: &Path, source: &mut String) -> io::Result<()> {
    let _ = writeln!(source, "static {name}: &[EmbeddedFile] = &[");
    for (number, file) in files.iter().enumerate() {
        let path = file.strip_prefix(folder).expect("listed below the folder").to_string_lossy().replace('\\', "/");
        let bytes = fs::read(file)?;
        let packed = gzip(&bytes)?;
        let packed = if packed.len() * 100 <= bytes.len() * WORTH_PERCENT {
            let target = out.join(format!("{name}-{number}.gz"));
            fs::write(&target, packed)?;
            format!("Some(include_bytes!({:?}))", target.display().to_string())
        } else {
            "None".to_owned()
        };
        let file = file.display().to_string();
        let _ =
            writeln!(source, "    EmbeddedFile {{ path: {path:?}, bytes: include_bytes!({file:?}), gzip: {packed} }},");
    }
    source.push_str("];\n");
    Ok(())
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}
