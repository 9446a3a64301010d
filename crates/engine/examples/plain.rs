//! What the benchmark measures of the engine alone: thirteen bytes for `GET /`, JSON there and back for `POST /echo`.
//!
//! `plain [ADDRESS] [WORKERS] [CERTIFICATE KEY]`, by default `127.0.0.1:8090` and one worker per core; with a
//! certificate over TLS, HTTP/2 where the client offers it.

use engine::{Method, Request, Response, Server, Settings, StatusCode, Stop, Tls, TlsSettings};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longest JSON that is echoed.
const ECHO_BYTES_MAX: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct Echo {
    message: String,
    n: u64,
}

async fn answer(request: Request) -> Response {
    match (request.head.method(), request.head.target()) {
        (Method::Post, "/echo") => echo(request).await,
        _ => Response::bytes(StatusCode::OK, "text/plain", "Hello, World!"),
    }
}

async fn echo(request: Request) -> Response {
    let Ok(body) = request.body.collect(ECHO_BYTES_MAX).await else { return Response::new(StatusCode::BAD_REQUEST) };
    match serde_json::from_slice::<Echo>(&body).and_then(|echo| serde_json::to_vec(&echo)) {
        Ok(json) => Response::bytes(StatusCode::OK, "application/json", json),
        Err(_) => Response::new(StatusCode::BAD_REQUEST),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().as_deref().unwrap_or("127.0.0.1:8090").parse()?;
    let workers = args.next().map(|count| count.parse()).transpose()?;
    let server = Server::new(Settings { workers, ..Settings::default() });
    let server = match (args.next(), args.next()) {
        (Some(chain), Some(key)) => server.listen_tls(addr, Tls::new(TlsSettings::new(chain, key))?, move || answer)?,
        _ => server.listen(addr, move || answer)?,
    };
    println!("listening on {}", server.local_addrs()[0]);
    server.run(Stop::new(), Duration::from_secs(1))?;
    Ok(())
}
