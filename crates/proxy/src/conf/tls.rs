//! TLS on both sides: what `listen … tls { … }` presents to clients, and how backends behind `https://` are believed.

use std::path::PathBuf;

use engine::{CertificateFiles, ClientAuth, Trust};

use super::build::{Builder, Words};
use super::error::Flaw;
use super::table::Place;
use super::tree::Statement;
use super::{ListenTls, UpstreamTls, value};

/// The schemes of `proxy_pass` and `forward_auth`: which upstreams are spoken to by this one, wherever that is said.
pub(super) fn names_with(scheme: &str, statements: &[Statement], names: &mut Vec<String>) {
    for statement in statements {
        if matches!(statement.name.text.as_str(), "proxy_pass" | "forward_auth")
            && let Some((_, rest)) = statement
                .words
                .first()
                .and_then(|word| word.text.split_once("://"))
                .filter(|(found, _)| *found == scheme)
        {
            names.push(rest.split('/').next().unwrap_or_default().to_owned());
        }
        if let Some(block) = &statement.block {
            names_with(scheme, block, names);
        }
    }
}

/// What a block says about the certificates of its backends.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    authorities: Option<PathBuf>,
    name: Option<String>,
    is_verified: Option<bool>,
    /// Where the first of it stands.
    pub(super) at: Option<usize>,
}

impl Draft {
    /// Takes a directive, if it is one of these.
    pub(super) fn directive(&mut self, builder: &mut Builder<'_>, statement: &Statement) -> bool {
        match statement.name.text.as_str() {
            "upstream_tls_ca" => {
                self.authorities = builder.single(statement, "a file with authorities (PEM)", value::file);
            }
            "upstream_tls_name" => {
                let expected = "the name or address in the backends' certificate";
                self.name = builder.single(statement, expected, value::certificate_name);
            }
            "upstream_tls_verify" => self.is_verified = on_off(builder, statement),
            _ => return false,
        }
        self.at.get_or_insert(statement.name.start);
        if self.authorities.is_some() && self.is_verified == Some(false) {
            let hint = "where nobody is verified, authorities have nothing to say";
            builder.flaw_at(&statement.name, "one of `upstream_tls_ca` and `upstream_tls_verify off`", hint);
        }
        true
    }

    /// Takes from the host what the block does not say itself.
    pub(super) fn inherit(&mut self, host: &Self) {
        if self.authorities.is_none() && self.is_verified.is_none() {
            self.authorities.clone_from(&host.authorities);
            self.is_verified = host.is_verified;
        }
        if self.name.is_none() {
            self.name.clone_from(&host.name);
        }
    }

    /// What it comes to for backends that are spoken to over TLS.
    pub(super) fn finish(self) -> UpstreamTls {
        let trust = match (self.is_verified, self.authorities) {
            (Some(false), _) => Trust::Anybody,
            (_, Some(file)) => Trust::File(file),
            (_, None) => Trust::Public,
        };
        UpstreamTls { trust, name: self.name }
    }
}

/// The block of a `listen … tls`.
pub(super) fn listen(builder: &mut Builder<'_>, statement: &Statement, at: usize) -> Option<ListenTls> {
    let Some(block) = &statement.block else {
        let flaw = Flaw::new(at, "`tls` and a block with a `certificate`", "`tls` alone");
        builder.note(flaw.hint("write `listen 443 tls { certificate site.crt key site.key; }`"));
        return None;
    };
    builder.check_places(block, Place::Listen);
    let mut tls = ListenTls { certificates: Vec::new(), client_auth: ClientAuth::None, http2: true };
    let mut tries_certificate = false;
    for line in block {
        match line.name.text.as_str() {
            "certificate" => {
                tries_certificate = true;
                tls.certificates.extend(certificate(builder, line));
            }
            "client_ca" => tls.client_auth = client_auth(builder, line).unwrap_or_default(),
            "http2" => tls.http2 = on_off(builder, line).unwrap_or(true),
            _ => {}
        }
    }
    if tls.certificates.is_empty() && !tries_certificate {
        let flaw = Flaw::new(at, "a `tls` block with a `certificate`", "one without");
        builder.note(flaw.hint("add `certificate site.crt key site.key;` inside the block"));
    }
    (!tls.certificates.is_empty()).then_some(tls)
}

fn certificate(builder: &mut Builder<'_>, statement: &Statement) -> Option<CertificateFiles> {
    let mut words = Words::of(statement);
    let chain = builder.value(&mut words, "a file with a certificate and its chain (PEM)", value::file)?;
    builder.value(&mut words, "`key` and the file with the private key", |text| {
        (text == "key").then_some(()).ok_or("write `certificate site.crt key site.key;`")
    })?;
    let key = builder.value(&mut words, "the file with the private key (PEM)", value::file)?;
    builder.end(&mut words);
    Some(CertificateFiles { chain, key })
}

fn client_auth(builder: &mut Builder<'_>, statement: &Statement) -> Option<ClientAuth> {
    let mut words = Words::of(statement);
    let authorities = builder.value(&mut words, "a file with authorities (PEM)", value::file)?;
    let mut is_optional = false;
    builder.options(&mut words, |_, text| {
        is_optional = text.is_empty();
        if is_optional { Ok(()) } else { Err(("`optional` alone", String::new())) }
    });
    Some(if is_optional { ClientAuth::Optional { authorities } } else { ClientAuth::Required { authorities } })
}

/// `on` or `off`.
pub(super) fn on_off(builder: &mut Builder<'_>, statement: &Statement) -> Option<bool> {
    builder.single(statement, "`on` or `off`", |text| match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(""),
    })
}
