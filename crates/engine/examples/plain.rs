//! Answers every request with thirteen bytes: what the benchmark measures.
//!
//! `plain [ADDRESS] [WORKERS]`, by default `127.0.0.1:8090` and one worker per core.

use engine::{Request, Response, Server, Settings, StatusCode, Stop};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().as_deref().unwrap_or("127.0.0.1:8090").parse()?;
    let workers = args.next().map(|count| count.parse()).transpose()?;
    let hello = |_: Request| async { Response::new(StatusCode::OK).with_body("Hello, World!") };
    let server = Server::new(Settings { workers, ..Settings::default() }).listen(addr, move || hello)?;
    println!("http://{}", server.local_addrs()[0]);
    server.run(Stop::new(), Duration::from_secs(1))?;
    Ok(())
}
