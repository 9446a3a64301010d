//! hyper alone: one thread, one task per connection, answers to pipelined requests flushed together.

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use peers::{Args, Echo, HELLO};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

type Answer = Result<Response<Full<Bytes>>, hyper::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse()?;
    let listener = TcpListener::bind(args.addr).await?;
    let acceptor = args.tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        match acceptor.clone() {
            None => drop(tokio::spawn(plain(stream))),
            Some(acceptor) => drop(tokio::spawn(tls(stream, acceptor))),
        }
    }
}

async fn plain(stream: TcpStream) {
    let mut builder = http1::Builder::new();
    builder.pipeline_flush(true);
    // A client that leaves is no event here.
    let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

async fn tls(stream: TcpStream, acceptor: TlsAcceptor) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let builder = auto::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

async fn answer(request: Request<Incoming>) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => Ok(with(StatusCode::OK, "text/plain", Bytes::from_static(HELLO.as_bytes()))),
        (&Method::POST, "/echo") => {
            let body = request.into_body().collect().await?.to_bytes();
            Ok(match serde_json::from_slice::<Echo>(&body).and_then(|echo| serde_json::to_vec(&echo)) {
                Ok(json) => with(StatusCode::OK, "application/json", json.into()),
                Err(_) => with(StatusCode::BAD_REQUEST, "text/plain", Bytes::new()),
            })
        }
        _ => Ok(with(StatusCode::NOT_FOUND, "text/plain", Bytes::new())),
    }
}

fn with(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
