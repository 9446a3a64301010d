//! Forms with files: what arrives is on disk, what is too much is refused, nothing is left behind.

use crate::support::{self, serve};
use std::fs;
use std::path::PathBuf;
use weaprous::multipart::{Multipart, MultipartError, MultipartLimits};
use weaprous::prelude::*;
use weaprous::testing::{Client, FormPart};
use weaprous::{Body, Route};

/// Stores a form in `folder` and says what there is; files are gone afterwards.
fn app(folder: PathBuf, limits: MultipartLimits) -> App {
    App::new().add_route(
        Route::new("/", [POST], async move |form: Multipart| {
            let form = form.limits(limits.clone()).store_in(&folder).collect().await?;
            let mut said: Vec<String> = form.texts("t").map(str::to_owned).collect();
            for file in form.into_files() {
                assert_eq!(file.path().parent(), Some(folder.as_path()));
                let content = fs::read(file.path()).map_err(MultipartError::Disk)?;
                assert_eq!(content.len() as u64, file.len());
                let sum: u64 = content.iter().map(|byte| u64::from(*byte)).sum();
                said.push(format!("{}={}:{sum}", file.head().file_name.as_deref().unwrap_or("?"), file.len()));
            }
            Ok::<_, MultipartError>(said.join(";"))
        })
        .body_bytes_max(4 * 1024 * 1024),
    )
}

fn client(folder: &tempfile::TempDir, limits: MultipartLimits) -> Client {
    Client::new(app(folder.path().to_owned(), limits))
}

fn is_empty(folder: &tempfile::TempDir) -> bool {
    fs::read_dir(folder.path()).unwrap().next().is_none()
}

#[test]
fn texts_and_files_arrive_whole() {
    let folder = tempfile::tempdir().unwrap();
    let client = client(&folder, MultipartLimits::default());
    let large = vec![3; 2_000_000];
    let parts = [
        FormPart::text("t", "one"),
        FormPart::file("f", "../../etc/passwd", "text/plain", "\r\n--not a boundary\r\n"),
        FormPart::text("t", "two"),
        FormPart::file("f", "", "application/octet-stream", ""),
        FormPart::file("f", "large.bin", "application/octet-stream", large),
    ];
    let response = client.post("/").multipart(parts).send();
    assert_eq!(response.text(), "one;two;../../etc/passwd=20:1502;=0:0;large.bin=2000000:6000000");
    assert!(is_empty(&folder), "files are deleted when they are dropped");
}

/// A small request can hold many files: none of them may hold a descriptor.
#[cfg(target_os = "linux")]
#[test]
fn received_files_are_not_kept_open() {
    let folder = tempfile::tempdir().unwrap();
    let known = folder.path().to_owned();
    let app = App::new().route("/", [POST], async move |form: Multipart| {
        let files = form.store_in(&known).collect().await?.into_files();
        let links = fs::read_dir("/proc/self/fd").map_err(MultipartError::Disk)?;
        let open = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
        let held = open.filter(|path| path.starts_with(&known)).count();
        Ok::<_, MultipartError>(format!("{} files, {held} open", files.len()))
    });
    let parts: Vec<FormPart> = (0..100).map(|n| FormPart::file("f", &n.to_string(), "text/plain", "x")).collect();
    assert_eq!(Client::new(app).post("/").multipart(parts).send().text(), "100 files, 0 open");
}

#[test]
fn too_much_is_refused_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let limits = MultipartLimits { parts_max: 2, name_bytes_max: 10, field_bytes_max: 100, file_bytes_max: 1000 };
    let client = client(&folder, limits);
    let check = |parts: &[FormPart], status: u16, detail: &str| {
        let response = client.post("/").multipart(parts.to_vec()).send();
        assert_eq!(response.status().as_u16(), status, "{}", response.text());
        assert!(response.text().contains(detail), "{}", response.text());
        assert!(is_empty(&folder));
    };
    let file = |len: usize| FormPart::file("f", "f", "a/b", vec![1; len]);
    check(&[FormPart::text("t", &"x".repeat(100)), file(1000)], 200, "f=1000:1000");
    check(&[FormPart::text("t", &"x".repeat(101))], 413, "the part `t` is longer than 100 bytes");
    check(&[file(1001)], 413, "the part `f` is longer than 1000 bytes");
    check(&[file(1), file(1), file(1)], 413, "more than 2 parts");
    check(&[FormPart::text("a name too long", "")], 400, "longer than 10 bytes");
    check(&[FormPart::file("f", "a name too long", "a/b", "")], 400, "longer than 10 bytes");
}

#[test]
fn the_whole_is_limited_by_the_route() {
    let folder = tempfile::tempdir().unwrap();
    let client = client(&folder, MultipartLimits::default());
    let parts = [FormPart::file("f", "f", "a/b", vec![1; 4 * 1024 * 1024])];
    assert_eq!(client.post("/").multipart(parts).send().status(), StatusCode::CONTENT_TOO_LARGE);
    assert!(is_empty(&folder));
}

#[test]
fn what_is_no_form_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let client = client(&folder, MultipartLimits::default());
    let check = |content_type: &str, content: &'static str, status: u16| {
        let response = client.post("/").field("content-type", content_type).body(content).send();
        assert_eq!(response.status().as_u16(), status, "{}", response.text());
        response.field("accept").map(str::to_owned)
    };
    assert_eq!(check("application/json", "{}", 415).as_deref(), Some("multipart/form-data"));
    check("multipart/mixed; boundary=x", "--x--", 415);
    check("multipart/form-data", "--x--", 400);
    check("multipart/form-data; boundary=x", "--x--", 200);
    check("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=t\r\n\r\ncut", 400);
    check("multipart/form-data; boundary=x", "--x\r\n\r\n\r\n--x--", 400);
    let text =
        "--x\r\nContent-Disposition: form-data; name=t\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n--x--";
    check("multipart/form-data; boundary=x", text, 415);
    assert!(is_empty(&folder));
}

#[test]
fn text_must_be_text() {
    let folder = tempfile::tempdir().unwrap();
    let client = client(&folder, MultipartLimits::default());
    let content = b"--x\r\nContent-Disposition: form-data; name=t\r\n\r\n\xff\r\n--x--".to_vec();
    let response = client.post("/").field("content-type", "multipart/form-data; boundary=x").body(content).send();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[test]
fn a_file_can_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let place = kept.clone();
    let app = App::new().route("/", [POST], async move |mut form: Multipart| {
        let part = form.next_part().await?.ok_or(MultipartError::Missing("f"))?;
        part.save().await?.keep_at(&place).map_err(MultipartError::Disk)
    });
    let client = Client::new(app.body_bytes_max(1000));
    let parts = || [FormPart::file("f", "f", "a/b", "content")];
    // The system's folder for temporary files may be another file system; then nothing is kept and it is a 500.
    let status = client.post("/").multipart(parts()).send().status();
    assert_eq!(fs::read(&kept).is_ok_and(|content| content == b"content"), status.is_success());
    fs::write(&kept, "somebody else's").unwrap();
    assert!(client.post("/").multipart(parts()).send().status().is_server_error());
    assert_eq!(fs::read(&kept).unwrap(), b"somebody else's");
}

#[test]
fn a_client_sends_no_faster_than_parts_are_taken() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let app = App::new().route("/", [POST], async move |mut form: Multipart| {
        let mut part = form.next_part().await?.ok_or(MultipartError::Missing("f"))?;
        while let Some(chunk) = part.chunk().await? {
            counter.fetch_add(chunk.len(), Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
        Ok::<_, MultipartError>(())
    });
    let client = Client::new(app.body_bytes_max(u64::MAX));
    let (sender, body) = Body::channel();
    let counter = Arc::clone(&taken);
    let sending = std::thread::spawn(move || {
        sender.blocking_send("--x\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n").unwrap();
        for sent in 1..=1000 {
            sender.blocking_send(vec![0; 10_000]).unwrap();
            let ahead = sent * 10_000 - counter.load(Ordering::SeqCst);
            assert!(ahead < 30 * 10_000, "{ahead} bytes ahead");
        }
        sender.blocking_send("\r\n--x--").unwrap();
    });
    let request = client.post("/").field("content-type", "multipart/form-data; boundary=x").body(body);
    assert_eq!(request.send().status(), StatusCode::NO_CONTENT);
    sending.join().unwrap();
    assert_eq!(taken.load(Ordering::SeqCst), 10_000_000);
}

#[test]
fn a_client_that_leaves_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(app(folder.path().to_owned(), MultipartLimits::default()));
    let mut client = support::connect(&server);
    client.send(
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 999999\r\n\r\n\
         --x\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n",
    );
    client.send("x".repeat(600_000));
    let made = std::iter::repeat_with(|| is_empty(&folder)).take(100_000_000).position(|is_empty| !is_empty);
    assert!(made.is_some(), "the file was begun");
    drop(client);
    drop(server);
    assert!(is_empty(&folder));
}
