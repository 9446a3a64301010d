//! `may_minihttp`: coroutines on one worker. It knows no `Connection: close`, no files and no TLS.

use anyhow::Result;
use may_minihttp::{HttpServer, HttpService, Request, Response};
use peers::{Args, Echo, HELLO};
use std::io;

#[derive(Clone)]
struct Service;

impl HttpService for Service {
    fn call(&mut self, request: Request<'_, '_, '_>, response: &mut Response<'_>) -> io::Result<()> {
        match (request.method(), request.path()) {
            ("GET", "/") => {
                response.header("Content-Type: text/plain").body(HELLO);
            }
            ("POST", "/echo") => {
                let echo: Echo = serde_json::from_reader(request.body())?;
                response.header("Content-Type: application/json").body_vec(serde_json::to_vec(&echo)?);
            }
            _ => {
                response.status_code(404, "Not Found");
            }
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let args = Args::parse()?;
    may::config().set_workers(1).set_stack_size(0x2000);
    let server = HttpServer(Service).start(args.addr)?;
    server.join().map_err(|_| anyhow::anyhow!("the server's coroutine panicked"))
}
