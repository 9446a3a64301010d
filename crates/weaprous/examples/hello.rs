//! The smallest application: `cargo run -p weaprous --example hello`, then <http://127.0.0.1:8001/hello/world>.

use weaprous::prelude::*;

async fn hello(Path(name): Path<String>) -> String {
    format!("Hello, {name}!\n")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::new().route("/", [GET], async || Redirect::to("/hello/world")).route("/hello/{name}", [GET], hello);
    let bound = app.prepare_address("127.0.0.1", 8001)?;
    println!("http://{}", bound.local_addr());
    bound.run_until_signal()?;
    Ok(())
}
