//! What the compiler says about a handler or layer of the wrong shape: the sentence that helps, at the right place.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{env, fs};

/// The library this test was linked with: the newest, since it was built just before.
fn library(deps: &Path) -> PathBuf {
    let is_library = |path: &PathBuf| {
        let is_ours = path.file_stem().is_some_and(|stem| stem.as_encoded_bytes().starts_with(b"libweaprous-"));
        is_ours && path.extension().is_some_and(|extension| extension == "rlib")
    };
    let files = fs::read_dir(deps).unwrap().filter_map(|entry| Some(entry.ok()?.path())).filter(is_library);
    let age = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    files.max_by_key(age).expect("the library lies beside its tests")
}

/// Compiles a function body that uses the crate; what the compiler says.
fn compile(body: &str) -> Result<(), String> {
    let deps = env::current_exe().unwrap().parent().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("it.rs");
    fs::write(&source, format!("#![allow(unused)]\nuse weaprous::prelude::*;\npub fn it() {{\n{body}\n}}\n")).unwrap();
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "-L"])
        .arg(format!("dependency={}", deps.display()))
        .arg("--extern")
        .arg(format!("weaprous={}", library(&deps).display()))
        .arg("--out-dir")
        .arg(folder.path())
        .arg(&source)
        .output()
        .expect("the compiler runs");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn check(body: &str, expect: &[&str]) {
    let said = compile(body).expect_err(body);
    for sentence in expect {
        assert!(said.contains(sentence), "{sentence:?} is not in what the compiler says of {body}:\n{said}");
    }
    assert!(said.lines().count() < 60, "nobody reads that much:\n{said}");
}

const HANDLER: &str = "a handler is an `async fn` of up to eight extractors";

#[test]
fn proper_handlers_and_layers_compile() {
    compile("App::new().route(\"/\", [GET], async |name: Path<String>, text: String| (StatusCode::OK, text));")
        .unwrap();
    compile("App::new().layer(async |request: Request, next: Next| next.run(request).await);").unwrap();
}

#[test]
fn a_function_that_is_not_async_is_named() {
    check("App::new().route(\"/\", [GET], || \"text\");", &["async"]);
}

#[test]
fn content_must_come_last() {
    let body = "async fn late(text: String, Path(id): Path<u64>) {}\nApp::new().route(\"/\", [POST], late);";
    check(body, &["this is not a handler", HANDLER, "only the last one may read the content"]);
}

#[test]
fn an_argument_must_be_an_extractor() {
    check("async fn odd(number: u64) {}\nApp::new().route(\"/\", [POST], odd);", &["this is not a handler", HANDLER]);
}

#[test]
fn a_result_must_be_a_response() {
    let body = "async fn odd() -> u64 { 7 }\nApp::new().route(\"/\", [GET], odd);";
    check(body, &["this is not a handler", "whose result implements `IntoResponse`"]);
}

#[test]
fn what_serde_must_know_is_named() {
    let as_result = "struct User { id: u64 }\nasync fn one() -> Json<User> { Json(User { id: 1 }) }";
    let as_argument = "struct New { name: String }\nasync fn one(Json(new): Json<New>) {}";
    for types in [as_result, as_argument] {
        let body = format!("{types}\nApp::new().route(\"/\", [POST], one);");
        check(&body, &["this is not a handler", "needs `serde::Deserialize`", "as the result `serde::Serialize`"]);
    }
}

#[test]
fn an_error_of_somebody_else_is_to_be_turned_into_a_problem() {
    let body =
        "async fn odd() -> Result<String, std::io::Error> { Ok(String::new()) }\nApp::new().route(\"/\", [GET], odd);";
    check(body, &["this is not a handler", "`.map_err(Problem::internal)`"]);
}

#[test]
fn a_handler_owns_what_it_is_given() {
    for argument in ["request: &Request", "name: &str"] {
        let body = format!("async fn odd({argument}) {{}}\nApp::new().route(\"/\", [GET], odd);");
        check(&body, &["this is not a handler", HANDLER, "owns its arguments"]);
    }
}

#[test]
fn what_is_in_nobody_s_way_is_not_listed() {
    // Other values that are handlers are no advice to who has written a function.
    let said = compile("async fn odd() -> u64 { 7 }\nApp::new().route(\"/\", [GET], odd);").unwrap_err();
    assert!(!said.contains("Tower<S>") && !said.contains("ServesFiles"), "{said}");
    assert!(said.lines().count() < 35, "nobody reads that much:\n{said}");
}

#[test]
fn a_value_in_a_page_must_be_text() {
    check("struct Odd;\nweaprous::html!(\"{}\", Odd);", &["`Odd` cannot stand in a page", "take `.to_string()`"]);
    check("let name = 7;\nweaprous::html!(\"{name}\");", &["there is no argument named `name`"]);
}

#[test]
fn a_part_of_a_tuple_must_be_one() {
    check(
        "fn is_one(odd: impl IntoResponse) {}\nis_one((7, \"text\"));",
        &["`{integer}` cannot stand before the content of a response", "parts are `StatusCode`"],
    );
}

#[test]
fn a_layer_takes_a_request_and_what_lies_inside() {
    check("App::new().layer(\"odd\");", &["this is not a layer", "a layer is an `async fn(Request, Next)"]);
    check("async fn odd(request: Request) {}\nApp::new().layer(odd);", &["expected to take 2 arguments"]);
}
