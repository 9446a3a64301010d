//! axum on hyper, with `tower-http`'s `ServeDir` for files: one thread.

use anyhow::Result;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use peers::{Args, Echo, HELLO};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower_http::services::ServeDir;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse()?;
    let app = Router::new()
        .route("/", get(|| async { HELLO }))
        .route("/echo", post(|Json(echo): Json<Echo>| async { Json(echo) }))
        .nest_service("/files", ServeDir::new(args.folder));
    let listener = TcpListener::bind(args.addr).await?;
    let Some(config) = args.tls else {
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true); // only a socket that is gone refuses it
        });
        return Ok(axum::serve(listener, app).await?);
    };
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(app.clone()));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
