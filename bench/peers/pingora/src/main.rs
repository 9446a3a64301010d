//! Pingora as a reverse proxy: one thread, one upstream, kept connections on both sides.
//!
//! `pingora-peer ADDRESS UPSTREAM [CERTIFICATE KEY]`

use async_trait::async_trait;
use pingora_core::prelude::{HttpPeer, Server};
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// Idle upstream connections kept: at least as many as there are clients.
const POOL_SIZE: usize = 4096;

struct Relay {
    upstream: String,
}

#[async_trait]
impl ProxyHttp for Relay {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut Self::CTX) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream.as_str(), false, String::new())))
    }
}

fn main() -> pingora_core::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: pingora-peer ADDRESS UPSTREAM [CERTIFICATE KEY]";
    let (addr, upstream) = (args.next().expect(usage), args.next().expect(usage));
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: POOL_SIZE, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Relay { upstream });
    match (args.next(), args.next()) {
        (Some(certificate), Some(key)) => service.add_tls(&addr, &certificate, &key)?,
        _ => service.add_tcp(&addr),
    }
    server.add_service(service);
    server.run_forever()
}
