//! A certificate authority of one's own, for a network without a public name: browsers need https before they give a
//! page a key store, a camera or notifications, and no public authority signs `192.168.1.7`.
//!
//! Everything lies in one folder: `ca.crt` is what devices are told to trust, `ca.key` (0600) signs and never leaves,
//! `lan.crt` and `lan.key` (0600) are the server's, `trust.html` explains what to do on each device. The certificate is
//! short-lived; asking again renews it when it runs out or when this machine has got other names or addresses. Names that
//! were once asked for beside those stand in `names.txt`, so that they outlive a renewal.
//!
//! Knows no server and no socket: see `engine::Tls` for who presents the certificate.

mod authority;
mod further;
mod names;
mod page;

pub use authority::{Authority, CERTIFICATE_FILE as AUTHORITY_FILE};
pub use names::{Name, names_of_this_host};

use rustls::pki_types::UnixTime;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a certificate is valid: short, because nothing revokes it. Apple's limit is 825 days.
pub const VALID_DAYS: u64 = 60;
/// A certificate with less than this left is renewed.
pub const RENEW_DAYS: u64 = 30;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertError {
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A file is not what it was made as.
    #[error("{}: {reason}; move the folder away to begin anew (every device then needs the new ca.crt)", path.display())]
    Content {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The list of further names holds something else.
    #[error("{}: {reason}", path.display())]
    Names {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Making(#[from] rcgen::Error),
}

/// A certificate for this machine.
#[derive(Debug, Clone)]
pub struct LanCertificate {
    /// The certificate, as PEM.
    pub chain: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
    /// The authority's certificate, as PEM: what devices are to trust.
    pub authority: PathBuf,
    /// The same in bytes, as DER: for download by telephones and browsers.
    pub authority_der: Vec<u8>,
    /// The same as PEM: what the lists of a Linux system are made of.
    pub authority_pem: String,
    /// SHA-256 of the authority's certificate, as devices show it.
    pub fingerprint: String,
    /// The page that explains how to trust it.
    pub page: PathBuf,
    /// What it is for.
    pub names: Vec<Name>,
    /// Whole days for which it is still valid.
    pub days_left: u64,
    /// Whether it was made just now.
    pub is_new: bool,
}

/// Gives the certificate in `folder` for these names, for those in `further`, and for all that were given as `further`
/// before; makes or renews it, and its authority, where that is needed. `now` is the time since 1970.
///
/// # Errors
/// The folder cannot be written, or what is in it was changed by somebody else.
pub fn lan_certificate(
    folder: &Path,
    mut names: Vec<Name>,
    further: &[Name],
    now: Duration,
) -> Result<LanCertificate, CertError> {
    make_folder(folder)?;
    for name in further::kept(folder, further)? {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let authority = Authority::open(folder, now)?;
    let (chain, key) = (folder.join("lan.crt"), folder.join("lan.key"));
    let soon = now + days(RENEW_DAYS);
    let is_new = !authority.is_good(&chain, &key, &names, UnixTime::since_unix_epoch(soon));
    if is_new {
        let (certificate, private) = authority.sign(&names, now)?;
        write_file(&key, private.as_bytes(), Access::Owner)?;
        write_file(&chain, certificate.as_bytes(), Access::Everybody)?;
    }
    let is_good_in = |left: u64| authority.is_good(&chain, &key, &names, UnixTime::since_unix_epoch(now + days(left)));
    let days_left = (0..=VALID_DAYS).take_while(|&left| is_good_in(left)).last().unwrap_or(0);
    let page = folder.join("trust.html");
    let beside = page::trust(&authority.fingerprint(), &names, AUTHORITY_FILE, AUTHORITY_FILE);
    write_file(&page, beside.as_bytes(), Access::Everybody)?;
    let authority_file = folder.join(AUTHORITY_FILE);
    let authority_pem = read_file(&authority_file)?.unwrap_or_default();
    Ok(LanCertificate {
        chain,
        key,
        authority: authority_file,
        authority_der: authority.certificate().to_vec(),
        authority_pem,
        fingerprint: authority.fingerprint(),
        page,
        names,
        days_left,
        is_new,
    })
}

impl LanCertificate {
    /// The page that explains how to trust the authority, with links to its certificate: as DER or PEM for most devices,
    /// and as PEM.
    pub fn trust_page(&self, download: &str, pem: &str) -> String {
        page::trust(&self.fingerprint, &self.names, download, pem)
    }
}

fn days(count: u64) -> Duration {
    Duration::from_hours(24 * count)
}

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Owner,
    Everybody,
}

/// Longest file read here, in bytes; a certificate has about a thousand.
const FILE_BYTES_MAX: u64 = 64 * 1024;

fn make_folder(folder: &Path) -> Result<(), CertError> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder).map_err(|error| file_error(folder, error))
}

fn read_file(path: &Path) -> Result<Option<String>, CertError> {
    use io::Read as _;
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(path, error)),
    }
}

/// Writes a file as a whole: it has its mode before it has its content, and nobody sees half of it.
fn write_file(path: &Path, content: &[u8], access: Access) -> Result<(), CertError> {
    let fresh = path.with_extension("new");
    let write = || {
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, if access == Access::Owner { 0o600 } else { 0o644 });
        let mut file = options.open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(|error| file_error(path, error))
}

fn file_error(path: &Path, error: io::Error) -> CertError {
    CertError::File { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    const NOW: Duration = Duration::from_secs(1_790_000_000);

    fn names(of: &[&str]) -> Vec<Name> {
        of.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_certificate_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = names(&["localhost", "127.0.0.1", "::1"]);
        let first = lan_certificate(folder.path(), wanted.clone(), &[], NOW).unwrap();
        assert!(first.is_new);
        assert_eq!(first.days_left, VALID_DAYS);
        let text = fs::read_to_string(&first.chain).unwrap();
        let again = lan_certificate(folder.path(), wanted, &[], NOW + days(1)).unwrap();
        assert!(!again.is_new);
        assert_eq!(again.days_left, VALID_DAYS - 1);
        assert_eq!(fs::read_to_string(&again.chain).unwrap(), text);
        assert_eq!(again.fingerprint, first.fingerprint);
    }

    #[test]
    fn it_is_renewed_when_it_runs_out_and_when_names_change() {
        let folder = tempfile::tempdir().unwrap();
        let one = lan_certificate(folder.path(), names(&["localhost"]), &[], NOW).unwrap();
        let same = |now, of: &[&str]| lan_certificate(folder.path(), names(of), &[], now).unwrap();
        assert!(!same(NOW + days(VALID_DAYS - RENEW_DAYS - 1), &["localhost"]).is_new);
        let renewed = same(NOW + days(VALID_DAYS - RENEW_DAYS + 1), &["localhost"]);
        assert!(renewed.is_new);
        assert_eq!(renewed.fingerprint, one.fingerprint, "the authority stays");
        assert!(same(NOW, &["localhost", "192.168.1.7"]).is_new);
        assert!(!same(NOW, &["192.168.1.7"]).is_new, "a name less is no reason");
        assert!(same(NOW, &["192.168.1.8"]).is_new);
    }

    #[test]
    fn an_authority_that_has_expired_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let ask = |now| lan_certificate(folder.path(), names(&["localhost"]), &[], now);
        let begun = ask(NOW).unwrap();
        let late = ask(NOW + days(authority::AUTHORITY_DAYS - 1)).unwrap();
        assert_eq!(late.fingerprint, begun.fingerprint);
        assert!(!ask(NOW + days(authority::AUTHORITY_DAYS - 1)).unwrap().is_new, "made once, not at every look");
        let error = ask(NOW + days(authority::AUTHORITY_DAYS + 1)).unwrap_err().to_string();
        assert!(error.contains("has expired") && error.contains("move the folder away"), "{error}");
    }

    #[test]
    fn names_that_were_asked_for_outlive_a_renewal() {
        let folder = tempfile::tempdir().unwrap();
        let ask = |further: &[&str], now| {
            lan_certificate(folder.path(), names(&["localhost", "nas"]), &names(further), now).unwrap()
        };
        assert_eq!(ask(&["nas", "nas.home.arpa"], NOW).names, names(&["localhost", "nas", "nas.home.arpa"]));
        assert_eq!(fs::read_to_string(folder.path().join("names.txt")).unwrap().lines().last(), Some("nas.home.arpa"));
        let renewed = ask(&[], NOW + days(VALID_DAYS));
        assert!(renewed.is_new);
        assert_eq!(renewed.names, names(&["localhost", "nas", "nas.home.arpa"]));
        let authority = Authority::open(folder.path(), NOW).unwrap();
        let at = UnixTime::since_unix_epoch(NOW + days(VALID_DAYS));
        assert!(authority.is_good(&renewed.chain, &renewed.key, &names(&["nas.home.arpa"]), at));
        assert_eq!(ask(&["10.9.8.7"], NOW).names, names(&["localhost", "nas", "nas.home.arpa", "10.9.8.7"]));
    }

    #[test]
    fn the_list_of_names_is_the_owner_s_to_change() {
        let folder = tempfile::tempdir().unwrap();
        let ask = |further: &[Name]| lan_certificate(folder.path(), names(&["localhost"]), further, NOW);
        ask(&names(&["nas.home.arpa"])).unwrap();
        let list = folder.path().join("names.txt");
        fs::write(&list, "# mine\n\n other.home.arpa \n").unwrap();
        assert_eq!(ask(&[]).unwrap().names, names(&["localhost", "other.home.arpa"]));
        fs::write(&list, "other.home.arpa\nno name\n").unwrap();
        let error = ask(&[]).unwrap_err().to_string();
        assert!(error.contains("names.txt: line 2") && !error.contains("ca.crt"), "{error}");
        fs::write(&list, "one-of-too-many\n".repeat(further::FURTHER_MAX + 1)).unwrap();
        assert!(ask(&[]).is_err(), "there are only so many");
    }

    #[test]
    #[cfg(unix)]
    fn keys_are_their_owner_s_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let made = lan_certificate(&folder.path().join("tls"), names(&["localhost"]), &[], NOW).unwrap();
        let permissions = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(permissions(&made.key), 0o600);
        assert_eq!(permissions(&folder.path().join("tls/ca.key")), 0o600);
        assert_eq!(permissions(&folder.path().join("tls")), 0o700);
        assert_eq!(permissions(&made.authority), 0o644);
    }

    #[test]
    fn what_somebody_changed_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let made = lan_certificate(folder.path(), names(&["localhost"]), &[], NOW).unwrap();
        fs::write(&made.key, "nonsense").unwrap();
        assert!(
            lan_certificate(folder.path(), names(&["localhost"]), &[], NOW).unwrap().is_new,
            "the key is not its key"
        );
        let other = tempfile::tempdir().unwrap();
        lan_certificate(other.path(), names(&["localhost"]), &[], NOW).unwrap();
        fs::copy(other.path().join("ca.key"), folder.path().join("ca.key")).unwrap();
        let error = lan_certificate(folder.path(), names(&["localhost"]), &[], NOW).unwrap_err();
        assert!(error.to_string().contains("ca.crt"), "{error}");
        fs::write(folder.path().join("ca.key"), "nonsense").unwrap();
        let error = lan_certificate(folder.path(), names(&["localhost"]), &[], NOW).unwrap_err();
        assert!(error.to_string().contains("ca.key"), "{error}");
        fs::remove_file(folder.path().join("ca.key")).unwrap();
        assert!(lan_certificate(folder.path(), names(&["localhost"]), &[], NOW).is_err(), "half an authority is none");
    }

    #[test]
    fn the_page_names_the_authority_and_every_device() {
        let folder = tempfile::tempdir().unwrap();
        let made = lan_certificate(folder.path(), names(&["laptop.local"]), &[], NOW).unwrap();
        let page = made.trust_page("/trust/ca.crt", "/trust/ca.pem");
        for part in
            ["Android", "iPhone", "macOS", "Windows", "Linux", "Firefox", "href=\"/trust/ca.crt\"", "laptop.local"]
        {
            assert!(page.contains(part), "{part}");
        }
        assert!(page.contains(&made.fingerprint));
        let beside = fs::read_to_string(&made.page).unwrap();
        assert!(beside.contains("href=\"ca.crt\""));
        // Linux makes its lists of PEM files and takes no others; the page's commands name the file that it links to.
        assert!(page.contains("href=\"/trust/ca.pem\"") && page.contains("sudo cp ca.pem /usr/local/"), "{page}");
        assert!(beside.contains("sudo cp ca.crt /usr/local/") && !beside.contains("ca.pem"), "{beside}");
        assert!(made.authority_pem.starts_with("-----BEGIN CERTIFICATE-----"));
        assert_eq!(CertificateDer::from_pem_slice(made.authority_pem.as_bytes()).unwrap().as_ref(), made.authority_der);
    }
}
