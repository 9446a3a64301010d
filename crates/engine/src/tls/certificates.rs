//! Certificates by name: exact names, wildcards, and a default.

use super::{CertificateFiles, TlsError, read, read_certificates};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// All certificates of a listener.
#[derive(Debug)]
pub(super) struct Certificates {
    /// At least one; the first is the default.
    all: Vec<Certificate>,
    /// Names in lower case to places in `all`; a wildcard is kept as what follows its first label: `.example.org`.
    names: HashMap<String, usize>,
}

/// One certificate with its key.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
}

impl Certificates {
    pub(super) fn load(files: &[CertificateFiles], provider: &CryptoProvider) -> Result<Self, TlsError> {
        let mut certificates = Self { all: Vec::new(), names: HashMap::new() };
        for CertificateFiles { chain, key } in files {
            let place = certificates.all.len();
            let pair = read_pair(chain, key, provider)?;
            for name in dns_names(&pair, chain)? {
                // The first certificate of a name wins, as the first of all is the default.
                certificates.names.entry(name).or_insert(place);
            }
            certificates.all.push(Certificate { key: Arc::new(pair) });
        }
        if certificates.all.is_empty() { Err(TlsError::NoCertificate) } else { Ok(certificates) }
    }

    /// What is presented to a client that asks for this name: its own certificate, that of a wildcard for exactly one
    /// more label, or the default (RFC 6066 §3, RFC 9525 §6.3).
    pub(super) fn for_name(&self, name: Option<&str>) -> &Certificate {
        let place = name.and_then(|name| self.find(&name.to_ascii_lowercase())).unwrap_or(0);
        &self.all[place]
    }

    /// Whether another certificate than this one is for the name or address.
    pub(super) fn has_another_for(&self, name: &ServerName<'_>, presented: &Certificate) -> bool {
        self.all.iter().any(|other| !Arc::ptr_eq(&other.key, &presented.key) && other.covers(name))
    }

    fn find(&self, name: &str) -> Option<usize> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let wildcard = || self.names.get(&name[name.find('.')?..]);
        self.names.get(name).or_else(wildcard).copied()
    }
}

impl Certificate {
    /// Whether the certificate is for this name or address.
    pub(super) fn covers(&self, name: &ServerName<'_>) -> bool {
        let Some(end_entity) = self.key.cert.first() else { return false };
        webpki::EndEntityCert::try_from(end_entity)
            .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(name).is_ok())
    }
}

pub(super) fn read_pair(chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let certificates: Vec<CertificateDer<'static>> = read_certificates(chain)?;
    let text = read(key)?;
    let private =
        PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::content(key, "holds no private key in PEM form"))?;
    CertifiedKey::from_der(certificates, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::content(key, format_args!("is not the key of the certificate in {}", chain.display()))
        }
        error => TlsError::content(chain, error),
    })
}

/// The names of the certificate, wildcards without their star.
fn dns_names(pair: &CertifiedKey, chain: &Path) -> Result<Vec<String>, TlsError> {
    let end_entity = pair.cert.first().ok_or_else(|| TlsError::content(chain, "holds no certificate"))?;
    let certificate = webpki::EndEntityCert::try_from(end_entity).map_err(|error| TlsError::content(chain, error))?;
    let plain = |name: &str| name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase();
    Ok(certificate.valid_dns_names().map(plain).collect())
}
