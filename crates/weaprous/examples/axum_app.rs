//! An axum router on this engine: `cargo run -p weaprous --features tower --example axum_app`, then
//! `curl http://127.0.0.1:8000/hello/you`.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use weaprous::engine::{Server, Settings};
use weaprous::interop::{Connection, Tower};

#[derive(Deserialize)]
struct Style {
    #[serde(default)]
    loud: bool,
}

#[derive(Serialize, Deserialize)]
struct Numbers {
    values: Vec<i64>,
}

#[derive(Default)]
struct Counter {
    hellos: AtomicU64,
}

async fn hello(State(counter): State<Arc<Counter>>, Path(name): Path<String>, Query(style): Query<Style>) -> String {
    let number = counter.hellos.fetch_add(1, Ordering::Relaxed) + 1;
    let text = format!("Hello, {name}! You are number {number}.\n");
    if style.loud { text.to_uppercase() } else { text }
}

async fn sum(Json(numbers): Json<Numbers>) -> Result<Json<i64>, (StatusCode, &'static str)> {
    let sum = numbers.values.iter().try_fold(0_i64, |sum, value| sum.checked_add(*value));
    sum.map(Json).ok_or((StatusCode::UNPROCESSABLE_ENTITY, "the sum is too large\n"))
}

async fn who(Extension(connection): Extension<Connection>) -> String {
    format!("{}\n", connection.addr.ip())
}

pub(crate) fn router() -> Router {
    Router::new()
        .route("/hello/{name}", get(hello))
        .route("/sum", post(sum))
        .route("/who", get(who))
        .with_state(Arc::new(Counter::default()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let tower = Tower::new(router());
    let server = Server::new(Settings::default()).listen("127.0.0.1:8000".parse()?, move || tower.clone())?;
    println!("http://{}/hello/you", server.local_addrs()[0]);
    server.run(weaprous::stop_at_signals()?, weaprous::GRACE)?;
    Ok(())
}
