//! TLS as the programs offer it: certificates from files, or the one for this network, with the page that explains how
//! to trust it.

use crate::args::{Cert, TlsFiles};
use crate::data;
use crate::exit::Failure;
use crate::say::say;
use certs::{CertError, LanCertificate, Name, RENEW_DAYS, lan_certificate, names_of_this_host};
use engine::{CertificateFiles, ClientAuth, Method, Request, Response, Service, StatusCode, Tls, TlsSettings};
use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a running server looks whether its certificate for this network is still good: an address that has changed
/// is noticed before people have found out why the page does not open.
const RENEWAL_PERIOD: Duration = Duration::from_mins(5);
/// Where the trust page lies.
const TRUST_PATH: &str = "/trust";
const AUTHORITY_PATH: &str = "/trust/ca.crt";
const AUTHORITY_PEM_PATH: &str = "/trust/ca.pem";
/// What devices install as an authority (RFC 5280 in DER has no registered type; all of them know this one).
const AUTHORITY_TYPE: &str = "application/x-x509-ca-cert";
const PEM_TYPE: &str = "application/x-pem-file";

/// `weaprous cert`.
pub(crate) fn cert(args: &Cert) -> Result<(), Failure> {
    let folder = folder(args.data_dir.as_deref())?;
    let made = lan(&folder, &args.name)?;
    say(report(&made, &folder));
    Ok(())
}

/// Where the certificate for this network is kept: in the data directory that was named, or beside the default ones.
pub(crate) fn folder(data_dir: Option<&Path>) -> Result<PathBuf, Failure> {
    Ok(match data_dir {
        Some(folder) => folder.join("tls"),
        None => data::home()?.join("tls"),
    })
}

/// The certificate for all names and addresses of this machine, and further ones.
pub(crate) fn lan(folder: &Path, further: &[Name]) -> Result<LanCertificate, Failure> {
    renew(folder, further).map_err(|error| Failure::Data(error.to_string()))
}

fn renew(folder: &Path, further: &[Name]) -> Result<LanCertificate, CertError> {
    lan_certificate(folder, names_of_this_host(), further, Duration::from_millis(data::now_ms()))
}

/// TLS with the certificate for this network.
pub(crate) fn with_lan(certificate: &LanCertificate) -> Result<Tls, Failure> {
    load(TlsSettings::new(&certificate.chain, &certificate.key))
}

/// TLS with certificates from files, if any were named.
pub(crate) fn with_files(args: &TlsFiles) -> Result<Option<Tls>, Failure> {
    if args.tls_cert.len() != args.tls_key.len() {
        return Err(Failure::Usage("every --tls-cert needs its --tls-key, in the same order".to_owned()));
    }
    if args.tls_cert.is_empty() {
        return Ok(None);
    }
    let pairs = args.tls_cert.iter().zip(&args.tls_key);
    let files = pairs.map(|(chain, key)| CertificateFiles { chain: chain.clone(), key: key.clone() });
    let mut settings = TlsSettings::many(files.collect());
    settings.client_auth = match (&args.tls_client_ca, args.tls_client_optional) {
        (None, _) => ClientAuth::None,
        (Some(authorities), true) => ClientAuth::Optional { authorities: authorities.clone() },
        (Some(authorities), false) => ClientAuth::Required { authorities: authorities.clone() },
    };
    load(settings).map(Some)
}

fn load(settings: TlsSettings) -> Result<Tls, Failure> {
    Tls::new(settings).map_err(|error| Failure::Usage(format!("cannot speak TLS: {error}")))
}

/// Keeps the certificate good while a server runs; the server notices the new files by itself.
pub(crate) async fn keep_renewed(folder: PathBuf) {
    loop {
        tokio::time::sleep(RENEWAL_PERIOD).await;
        let folder = folder.clone();
        match tokio::task::spawn_blocking(move || renew(&folder, &[])).await {
            Ok(Ok(made)) if made.is_new => tracing::info!("the certificate for this network was renewed"),
            Ok(Err(error)) => tracing::error!(%error, "the certificate for this network cannot be renewed"),
            _ => {}
        }
    }
}

/// What is served without encryption beside an encrypted port: how to trust the certificate, if it is our own, and the
/// way to the other port.
pub(crate) fn beside(
    certificate: Option<LanCertificate>,
    tls_port: u16,
) -> impl Fn() -> Beside + Send + Sync + 'static {
    let certificate = certificate.map(Arc::new);
    move || Beside { certificate: certificate.clone(), tls_port }
}

/// See [`beside`].
pub(crate) struct Beside {
    certificate: Option<Arc<LanCertificate>>,
    tls_port: u16,
}

impl Service for Beside {
    fn call(&self, request: Request) -> impl Future<Output = Response> + use<> + 'static {
        ready(self.answer(&request))
    }
}

impl Beside {
    fn answer(&self, request: &Request) -> Response {
        let is_read = matches!(request.head.method(), Method::Get | Method::Head);
        match (&self.certificate, request.head.path()) {
            (Some(certificate), TRUST_PATH) if is_read => {
                let page = certificate.trust_page(AUTHORITY_PATH, AUTHORITY_PEM_PATH);
                plain(Response::bytes(StatusCode::OK, "text/html; charset=utf-8", page))
            }
            (Some(certificate), AUTHORITY_PATH) if is_read => {
                let file = Response::bytes(StatusCode::OK, AUTHORITY_TYPE, certificate.authority_der.clone());
                plain(file.field("content-disposition", "attachment; filename=\"ca.crt\""))
            }
            (Some(certificate), AUTHORITY_PEM_PATH) if is_read => {
                let file = Response::bytes(StatusCode::OK, PEM_TYPE, certificate.authority_pem.clone());
                plain(file.field("content-disposition", "attachment; filename=\"ca.pem\""))
            }
            _ => self.redirect(request),
        }
    }

    fn redirect(&self, request: &Request) -> Response {
        let host = request.head.host_name();
        if host.is_empty() {
            return Response::text(StatusCode::BAD_REQUEST, "this port leads to https; say which host\n");
        }
        let query = request.head.query().map_or_else(String::new, |query| format!("?{query}"));
        let location = format!("https://{host}:{}{}{query}", self.tls_port, request.head.path());
        let response = Response::text(StatusCode::PERMANENT_REDIRECT, format!("{location}\n"));
        // Not for ever: tomorrow the port may serve something else.
        response.field("location", location).field("cache-control", "no-store")
    }
}

fn plain(response: Response) -> Response {
    response.field("x-content-type-options", "nosniff").field("cache-control", "no-store")
}

/// What was made, and what to do now.
fn report(made: &LanCertificate, folder: &Path) -> String {
    let names: Vec<String> = made.names.iter().map(Name::to_string).collect();
    let done = if made.is_new { "made" } else { "still good" };
    format!(
        "Certificate {done}: {} days left, renewed {RENEW_DAYS} days before its end when this is run again.\n  \
         for          {}\n  files        {}\n               {}\n  trust this   {}\n  SHA-256      {}\n\n\
         Start with it:   weaprous up --tls --server-ip 0.0.0.0\n\
         On each device:  open http://ADDRESS:8080/trust, or {}\n\
         Keep {} to yourself: its key can sign for any site.\n",
        made.days_left,
        names.join(", "),
        made.chain.display(),
        made.key.display(),
        made.authority.display(),
        made.fingerprint,
        made.page.display(),
        folder.display(),
    )
}
