//! actix-web with `actix-files`: one worker.

use actix_web::{App, HttpServer, web};
use anyhow::Result;
use peers::{Args, Echo, HELLO};
use std::time::Duration;

#[actix_web::main]
async fn main() -> Result<()> {
    let args = Args::parse()?;
    let folder = args.folder;
    let server = HttpServer::new(move || {
        App::new()
            .route("/", web::get().to(|| async { HELLO }))
            .route("/echo", web::post().to(|echo: web::Json<Echo>| async { echo }))
            .service(actix_files::Files::new("/files", &folder))
    })
    .workers(1)
    .keep_alive(Duration::from_secs(3600))
    .tcp_nodelay(true);
    let server = match args.tls {
        None => server.bind(args.addr)?,
        Some(config) => server.bind_rustls_0_23(args.addr, config)?,
    };
    Ok(server.run().await?)
}
