//! Upstreams behind `https://`: believed for a reason, named when not, and their connections kept.

use std::net::SocketAddr;
use std::path::Path;

use engine::{Request, Response, Running, Server, StatusCode, Stop, Tls, TlsSettings};

use crate::harness::*;

/// An upstream with a certificate for these names, and the file with that certificate.
fn secure(folder: &Path, names: &[&str]) -> (Running, String) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let file = names.join("-");
    let signed = rcgen::generate_simple_self_signed(names).unwrap();
    let (chain, key) = (folder.join(format!("{file}.crt")), folder.join(format!("{file}.key")));
    std::fs::write(&chain, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let tls = Tls::new(TlsSettings::new(&chain, key)).unwrap();
    let server = Server::new(one_worker()).listen_tls(([127, 0, 0, 1], 0).into(), tls, || {
        |request: Request| async move {
            let name = request.peer().tls.as_ref().and_then(|tls| tls.server_name.clone()).unwrap_or_default();
            Response::text(StatusCode::OK, format!("{name} {}", request.peer_addr()))
        }
    });
    let running = server.unwrap().start(Stop::new(), DEADLINE).unwrap();
    (running, chain.display().to_string())
}

fn front_to(upstream: SocketAddr, lines: &str) -> Front {
    front(&format!("host default {{ proxy_pass https://{upstream}; {lines} }}"))
}

#[test]
fn a_backend_with_a_good_certificate_answers_and_its_connection_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ca) = secure(folder.path(), &["127.0.0.1"]);
    let front = front_to(address(&backend), &format!("upstream_tls_ca {ca};"));
    let mut client = front.connect();
    let mut answers = Vec::new();
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        let response = client.read_response();
        assert_eq!(response.status, 200, "{}", response.text());
        answers.push(response.text().to_owned());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "one connection carries all: {answers:?}");
}

#[test]
fn authorities_that_have_changed_count_without_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, right) = secure(folder.path(), &["127.0.0.1"]);
    let (_stranger, wrong) = secure(folder.path(), &["127.0.0.1", "other.example"]);
    let ca = folder.path().join("ca.crt");
    std::fs::copy(wrong, &ca).unwrap();
    let front = front_to(address(&backend), &format!("upstream_tls_ca {};", ca.display()));
    assert_eq!(front.get("127.0.0.1").status, 503);
    std::fs::write(&ca, "nothing of the kind").unwrap();
    assert_eq!(front.get("127.0.0.1").status, 503, "a bad file changes nothing");
    std::fs::copy(right, &ca).unwrap();
    let end = std::time::Instant::now() + DEADLINE;
    while front.get("127.0.0.1").status != 200 {
        assert!(std::time::Instant::now() < end, "the new authorities are not believed");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_name_is_sent_and_insisted_on() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ca) = secure(folder.path(), &["inner.example"]);
    let good = front_to(address(&backend), &format!("upstream_tls_ca {ca}; upstream_tls_name inner.example;"));
    let response = good.get("inner.example");
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.text().starts_with("inner.example "), "{}", response.text());
    let bad = front_to(address(&backend), &format!("upstream_tls_ca {ca}; upstream_tls_name other.example;"));
    let response = bad.get("inner.example");
    assert_eq!(response.status, 503);
    assert!(response.text().contains("The upstream of default cannot be talked to over TLS."), "{}", response.text());
    assert!(!response.text().contains("other.example"), "why is for the log: {}", response.text());
}

#[test]
fn a_stranger_is_refused_unless_everybody_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, _) = secure(folder.path(), &["127.0.0.1"]);
    let response = front_to(address(&backend), "").get("127.0.0.1");
    assert_eq!(response.status, 503);
    assert!(response.text().contains("cannot be talked to over TLS"), "{}", response.text());
    let response = front_to(address(&backend), "upstream_tls_verify off;").get("127.0.0.1");
    assert_eq!(response.status, 200, "{}", response.text());
}

#[test]
fn one_bad_certificate_among_several_backends_is_not_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (good, ca) = secure(folder.path(), &["127.0.0.1"]);
    let (bad, _) = secure(folder.path(), &["other.example"]);
    let config = format!(
        "upstream app {{ server {}; server {}; upstream_tls_ca {ca}; }} host default {{ proxy_pass https://app; }}",
        address(&bad),
        address(&good)
    );
    let front = front(&config);
    for _ in 0..6 {
        assert_eq!(front.get("127.0.0.1").status, 200);
    }
}

#[test]
fn checks_and_the_program_that_decides_speak_tls_too() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ca) = secure(folder.path(), &["127.0.0.1"]);
    let config = format!(
        "upstream app {{ server {}; upstream_tls_ca {ca}; health_check / interval=50ms rise=1 fall=1; }}
         host default {{ forward_auth https://app/verify; proxy_pass https://app; }}",
        address(&backend)
    );
    let front = front(&config);
    assert_eq!(front.get("127.0.0.1").status, 200);
    let checked = front.get("127.0.0.1");
    assert_eq!(checked.status, 200, "checks over TLS succeed: {}", checked.text());
}

#[test]
fn authorities_that_cannot_be_read_are_named_at_the_start() {
    let config = "host default { proxy_pass https://10.0.0.1; upstream_tls_ca /nowhere/ca.crt; }";
    let config = proxy::Config::parse("test", config).unwrap();
    let error = proxy::Proxy::open(&config).expect_err("there is no such file");
    assert!(error.to_string().contains("/nowhere/ca.crt"), "{error}");
}
