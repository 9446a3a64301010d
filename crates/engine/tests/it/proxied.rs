//! Behind a proxy that speaks the PROXY protocol: whose connections are counted.

use crate::support::settings;
use engine::{Request, Response, Running, Server, Settings, StatusCode, Stop, TrustedProxies};
use std::future::ready;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use testkit::RawClient;

fn serve() -> (Running, SocketAddr) {
    let limited = Settings { workers: Some(1), connections_per_address_max: 1, counts_loopback: true, ..settings() };
    let sockets = engine::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let addr = sockets[0].local_addr().unwrap();
    let trusted = TrustedProxies::new(|ip| ip.is_loopback());
    let service = || |request: Request| ready(Response::text(StatusCode::OK, request.peer().addr.ip().to_string()));
    let server = Server::new(limited).listen_behind_on(sockets, trusted, None, service).unwrap();
    (server.start(Stop::new(), Duration::from_secs(1)).unwrap(), addr)
}

/// A connection of the proxy for this client, or for nobody.
fn announced(addr: SocketAddr, client: Option<&str>) -> RawClient {
    let mut proxy = RawClient::connect(addr);
    let line = client.map_or("PROXY UNKNOWN\r\n".to_owned(), |ip| format!("PROXY TCP4 {ip} 192.0.2.1 4711 80\r\n"));
    let _ = proxy.try_send(format!("{line}GET / HTTP/1.1\r\nHost: a\r\n\r\n")); // who is too many may be gone already
    proxy
}

#[test]
fn the_announced_client_is_counted_and_the_proxy_is_not() {
    let (_server, addr) = serve();
    let mut clients = Vec::new();
    for ip in ["192.0.2.7", "192.0.2.8", "192.0.2.9"] {
        let mut client = announced(addr, Some(ip));
        assert_eq!(client.read_response().text(), ip);
        clients.push(client);
    }
    for _ in 0..3 {
        let mut own = announced(addr, None);
        assert_eq!(own.read_response().text(), "127.0.0.1", "the proxy's own connections have no limit");
        clients.push(own);
    }
    announced(addr, Some("192.0.2.8")).expect_close();
    clients.remove(1);
    let admitted = (0..500).any(|_| {
        let mut socket = TcpStream::connect(addr).unwrap();
        let _ = socket.write_all(b"PROXY TCP4 192.0.2.8 192.0.2.1 4711 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut start = [0; 12];
        socket.read_exact(&mut start).is_ok() && start == *b"HTTP/1.1 200"
    });
    assert!(admitted, "the place of a closed connection is free again");
}
