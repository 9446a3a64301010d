//! A list of tasks over JSON: `cargo run -p weaprous --example todo`, then
//! `curl 127.0.0.1:8001/tasks -H 'Content-Type: application/json' -d '{"text":"water the plants"}'`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use weaprous::prelude::*;

#[derive(Clone, Serialize, Deserialize)]
struct Task {
    text: String,
    #[serde(default)]
    done: bool,
}

#[derive(Default)]
struct Tasks(Mutex<BTreeMap<u64, Task>>);

impl Tasks {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<u64, Task>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn list(State(tasks): State<Tasks>) -> Json<BTreeMap<u64, Task>> {
    Json(tasks.with(|tasks| tasks.clone()))
}

async fn add(State(tasks): State<Tasks>, Json(task): Json<Task>) -> impl IntoResponse {
    let id = tasks.with(|tasks| {
        let id = tasks.last_key_value().map_or(1, |(last, _)| last + 1);
        tasks.insert(id, task);
        id
    });
    (StatusCode::CREATED, [("location", format!("/tasks/{id}"))], Json(id))
}

async fn show(Path(id): Path<u64>, State(tasks): State<Tasks>) -> Result<Json<Task>, Problem> {
    tasks.with(|tasks| tasks.get(&id).cloned()).map(Json).ok_or_else(|| Problem::not_found(format!("no task {id}")))
}

async fn remove(Path(id): Path<u64>, State(tasks): State<Tasks>) -> StatusCode {
    tasks.with(|tasks| tasks.remove(&id)).map_or(StatusCode::NOT_FOUND, |_| StatusCode::NO_CONTENT)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::new()
        .state(Arc::new(Tasks::default()))
        .route("/tasks", [GET], list)
        .route("/tasks", [POST], add)
        .route("/tasks/{id}", [GET], show)
        .route("/tasks/{id}", [DELETE], remove);
    let bound = app.prepare_address("127.0.0.1", 8001)?;
    println!("http://{}/tasks", bound.local_addr());
    bound.run_until_signal()?;
    Ok(())
}
