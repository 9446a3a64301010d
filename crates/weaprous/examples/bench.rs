//! What the benchmark measures of the framework: text, JSON there and back, files.
//!
//! `bench ADDRESS FOLDER [CERTIFICATE KEY]`; with a certificate over TLS, HTTP/2 where the client offers it.

use engine::{Server, Settings, Tls, TlsSettings};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use weaprous::{Files, prelude::*};

#[derive(Serialize, Deserialize)]
struct Echo {
    message: String,
    n: u64,
}

async fn hello() -> &'static str {
    "Hello, World!"
}

async fn echo(Json(echo): Json<Echo>) -> Json<Echo> {
    Json(echo)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().ok_or("usage: bench ADDRESS FOLDER")?.parse()?;
    let folder = args.next().ok_or("usage: bench ADDRESS FOLDER")?;
    let app = App::new().route("/", [GET], hello).route("/echo", [POST], echo).route(
        "/files/{path..}",
        [GET],
        Files::dir(folder)?,
    );
    let (server, app) = (Server::new(Settings::default()), app.into_service()?);
    let server = match (args.next(), args.next()) {
        (Some(chain), Some(key)) => server.listen_tls(addr, Tls::new(TlsSettings::new(chain, key))?, app)?,
        _ => server.listen(addr, app)?,
    };
    server.run(Stop::new(), Duration::from_secs(1))?;
    Ok(())
}
