//! What every peer has in common: its arguments, the JSON that is echoed, its certificate.

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// What `GET /` answers.
pub const HELLO: &str = "Hello, World!";

/// What `POST /echo` parses and writes again.
#[derive(Debug, Serialize, Deserialize)]
pub struct Echo {
    pub message: String,
    pub n: u64,
}

/// `PROGRAM ADDRESS FOLDER [CERTIFICATE KEY]`
pub struct Args {
    pub addr: SocketAddr,
    pub folder: PathBuf,
    pub tls: Option<ServerConfig>,
}

impl Args {
    pub fn parse() -> Result<Self> {
        let usage = "usage: PROGRAM ADDRESS FOLDER [CERTIFICATE KEY]";
        let mut args = std::env::args().skip(1);
        let addr = args.next().context(usage)?.parse()?;
        let folder = args.next().context(usage)?.into();
        let tls = match args.next() {
            Some(certificate) => Some(tls(&certificate, &args.next().context(usage)?)?),
            None => None,
        };
        Ok(Self { addr, folder, tls })
    }
}

fn tls(certificate: &str, key: &str) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
