//! The authority: made once, kept, and used to sign certificates for this machine.

use crate::{Access, CertError, Name, VALID_DAYS, days, read_file, write_file};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use ring::digest::{SHA256, digest};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// The file devices are to trust.
pub const CERTIFICATE_FILE: &str = "ca.crt";
const KEY_FILE: &str = "ca.key";
/// How long the authority is valid: trusting a new one is work on every device.
pub(crate) const AUTHORITY_DAYS: u64 = 10 * 365;
/// Certificates are valid from a little earlier on, for devices whose clocks are late.
const EARLIER_DAYS: u64 = 1;

/// Signs certificates for this machine, and for nobody else: its key stays in its file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// The authority of a folder; makes one where there is none.
    ///
    /// # Errors
    /// Its files cannot be used, or only one of them is there.
    pub fn open(folder: &Path, now: Duration) -> Result<Self, CertError> {
        let (certificate_file, key_file) = (folder.join(CERTIFICATE_FILE), folder.join(KEY_FILE));
        match (read_file(&certificate_file)?, read_file(&key_file)?) {
            (None, None) => Self::make(&certificate_file, &key_file, now),
            (Some(certificate), Some(key)) => {
                let key = KeyPair::from_pem(&key).map_err(|_| content(&key_file, "holds no private key"))?;
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
                    .map_err(|_| content(&certificate_file, "holds no certificate"))?;
                let authority = Self { issuer: Issuer::new(params(&key, now)?, key), certificate };
                authority.check(&certificate_file, now)?;
                Ok(authority)
            }
            (None, _) => Err(content(&certificate_file, "is missing beside its key")),
            (_, None) => Err(content(&key_file, "is missing beside its certificate")),
        }
    }

    fn make(certificate_file: &Path, key_file: &Path, now: Duration) -> Result<Self, CertError> {
        let key = KeyPair::generate()?;
        let params = params(&key, now)?;
        let certificate = params.self_signed(&key)?;
        write_file(key_file, key.serialize_pem().as_bytes(), Access::Owner)?;
        write_file(certificate_file, certificate.pem().as_bytes(), Access::Everybody)?;
        Ok(Self { certificate: certificate.der().clone(), issuer: Issuer::new(params, key) })
    }

    /// Whether what is signed with the key is believed by those who trust the certificate.
    fn check(&self, certificate_file: &Path, now: Duration) -> Result<(), CertError> {
        let names = [Name::Dns("localhost".to_owned())];
        let (signed, _) = self.sign(&names, now)?;
        let signed =
            CertificateDer::from_pem_slice(signed.as_bytes()).map_err(|_| content(certificate_file, "is unusable"))?;
        let now = UnixTime::since_unix_epoch(now);
        if self.has_expired(now) {
            return Err(content(certificate_file, "has expired"));
        }
        if !self.signed(&signed, &names, now) {
            return Err(content(certificate_file, "is not the certificate of ca.key"));
        }
        Ok(())
    }

    /// Whether devices believe the authority no longer. An anchor has no end for those who verify what it signed, so
    /// the certificate is looked at as if it were a server's: its time is judged before its use is.
    fn has_expired(&self, at: UnixTime) -> bool {
        let (Ok(certificate), Ok(anchor)) =
            (EndEntityCert::try_from(&self.certificate), anchor_from_trusted_cert(&self.certificate))
        else {
            return false;
        };
        let algorithms = default_provider().signature_verification_algorithms;
        let anchors = [anchor];
        let judged =
            certificate.verify_for_usage(algorithms.all, &anchors, &[], at, KeyUsage::server_auth(), None, None);
        matches!(judged, Err(webpki::Error::CertExpired { .. }))
    }

    /// The certificate, as DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the certificate, as devices show it: pairs of digits with colons.
    pub fn fingerprint(&self) -> String {
        hex(digest(&SHA256, &self.certificate).as_ref(), ":")
    }

    /// A certificate for these names and its key, as PEM.
    pub(crate) fn sign(&self, names: &[Name], now: Duration) -> Result<(String, String), CertError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        for name in names {
            params.subject_alt_names.push(match name {
                Name::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
                Name::Ip(ip) => SanType::IpAddress(*ip),
            });
        }
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "WeApRous on this network");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, VALID_DAYS);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Whether the files hold a certificate of this authority with its key, good for all these names at that time.
    pub(crate) fn is_good(&self, chain: &Path, key: &Path, names: &[Name], at: UnixTime) -> bool {
        let (Ok(Some(chain)), Ok(Some(key))) = (read_file(chain), read_file(key)) else { return false };
        let (Ok(chain), Ok(key)) =
            (CertificateDer::from_pem_slice(chain.as_bytes()), PrivateKeyDer::from_pem_slice(key.as_bytes()))
        else {
            return false;
        };
        self.signed(&chain, names, at) && CertifiedKey::from_der(vec![chain], key, &default_provider()).is_ok()
    }

    /// Whether those who trust the authority believe this certificate for all these names at that time.
    fn signed(&self, certificate: &CertificateDer<'_>, names: &[Name], at: UnixTime) -> bool {
        let Ok(anchor) = anchor_from_trusted_cert(&self.certificate) else { return false };
        let Ok(certificate) = EndEntityCert::try_from(certificate) else { return false };
        let algorithms = default_provider().signature_verification_algorithms;
        let usage = KeyUsage::server_auth();
        let is_believed = certificate.verify_for_usage(algorithms.all, &[anchor], &[], at, usage, None, None).is_ok();
        let covers = |name: &Name| {
            name.server_name().is_some_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
        };
        is_believed && names.iter().all(covers)
    }
}

/// The authority's own parameters; they follow from the key, so that they need not be read from the certificate.
fn params(key: &KeyPair, now: Duration) -> Result<CertificateParams, CertError> {
    let mut params = CertificateParams::new(Vec::new())?;
    let mark = hex(&digest(&SHA256, key.public_key_raw()).as_ref()[..4], "");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("WeApRous development CA {mark}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, AUTHORITY_DAYS);
    Ok(params)
}

/// Valid from a little before `now` until this many days after it.
fn set_validity(params: &mut CertificateParams, now: Duration, count: u64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(days(EARLIER_DAYS));
    params.not_after = epoch + now + days(count);
}

fn hex(bytes: &[u8], between: &str) -> String {
    let mut text = String::new();
    for byte in bytes {
        if !text.is_empty() {
            text.push_str(between);
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

fn content(path: &Path, reason: &str) -> CertError {
    CertError::Content { path: path.to_owned(), reason: reason.to_owned() }
}
