//! Content that lies in a file.

use crate::support::{block_on, connect, get, serve, settings, target_of};
use engine::{Body, BodyError, Request, Response, Running, Settings, StatusCode};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::RawClient;

/// Larger than what a socket takes at once.
const LARGE: usize = 24 * 1024 * 1024;
/// Not a power of two, so that a part that is lost or doubled shows.
const PERIOD: usize = 251;

fn file(size: usize) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    let bytes: Vec<u8> = (0..size).map(|at| (at % PERIOD) as u8).collect();
    file.write_all(&bytes).unwrap();
    Arc::new(file)
}

fn is_part(bytes: &[u8], offset: usize) -> bool {
    bytes.iter().enumerate().all(|(at, &byte)| byte == ((offset + at) % PERIOD) as u8)
}

/// `/OFFSET/LENGTH` answers with that part of a file of `size` bytes; anything else with the target.
fn serve_file(settings: Settings, size: usize) -> Running {
    let file = file(size);
    serve(settings, move || {
        let file = file.clone();
        move |request: Request| {
            let part = request.head.path()[1..]
                .split_once('/')
                .and_then(|(offset, length)| Some((offset.parse().ok()?, length.parse().ok()?)));
            let response = match part {
                Some((offset, length)) => {
                    Response::new(StatusCode::OK).with_body(Body::from_file(file.clone(), offset, length))
                }
                None => target_of(&request),
            };
            std::future::ready(response)
        }
    })
}

#[test]
fn any_part_of_a_file_is_sent() {
    let server = serve_file(settings(), LARGE);
    let mut client = connect(&server);
    for (offset, length) in [(0, 0), (0, 1), (7, 1000), (13, 70_000), (1000, 600_000), (0, LARGE), (LARGE - 3, 3)] {
        client.send(get(&format!("/{offset}/{length}")) + &get("/after"));
        let response = client.read_response();
        assert_eq!(response.field("content-length"), Some(length.to_string().as_str()));
        assert!(response.body.len() == length && is_part(&response.body, offset), "{offset} {length}");
        assert_eq!(client.read_response().text(), "GET /after");
    }
    client.send("HEAD /5/500 HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.read_response_to("HEAD").field("content-length"), Some("500"));
    client.send("GET /5/500000 HTTP/1.0\r\n\r\n");
    assert!(is_part(&client.read_response().body, 5));
    client.expect_close();
}

#[test]
fn pipelined_files_come_in_order() {
    let server = serve_file(settings(), LARGE);
    let mut client = connect(&server);
    let lengths: Vec<usize> = (0..40).map(|number| number * 31_337).collect();
    client.send(lengths.iter().map(|length| get(&format!("/{length}/{length}"))).collect::<String>());
    for length in lengths {
        let body = client.read_response().body;
        assert!(body.len() == length && is_part(&body, length), "{length}");
    }
}

#[test]
fn a_file_shorter_than_promised_breaks_the_connection_off() {
    for size in [10, 3_000_000] {
        let server = serve_file(settings(), size);
        let mut client = connect(&server);
        client.send(get(&format!("/0/{}", size + 1)) + &get("/after"));
        let bytes = client.read_to_end();
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(bytes.len() - head, size, "what there is, and nothing that looks like an end or a next answer");
    }
}

#[test]
fn whoever_reads_slowly_holds_up_nobody_else() {
    let patience = Duration::from_mins(10); // they wait for their turn in this very test
    let server = serve_file(Settings { write_idle_timeout: patience, rate_grace: patience, ..settings() }, LARGE);
    let mut slow: Vec<RawClient> = (0..4).map(|_| connect(&server)).collect();
    for client in &mut slow {
        client.send(get(&format!("/0/{LARGE}")));
    }
    let mut other = connect(&server);
    for number in 0..100 {
        other.send(get(&format!("/{number}")));
        assert_eq!(other.read_response().text(), format!("GET /{number}"));
    }
    for client in &mut slow {
        assert!(is_part(&client.read_response().body, 0));
    }
}

#[test]
fn whoever_takes_nothing_of_a_file_is_dropped() {
    let short = Duration::from_millis(200);
    let server = serve_file(Settings { write_idle_timeout: short, ..settings() }, LARGE);
    let mut client = connect(&server);
    client.send(get(&format!("/0/{LARGE}")));
    client.read_until(b"\r\n\r\n");
    let started = Instant::now();
    // Bytes are taken again only when the server has given up: what was under way is there, the rest never comes.
    let mut probe = connect(&server);
    while started.elapsed() < 4 * short {
        probe.send(get("/probe"));
        probe.read_response();
    }
    assert!(client.read_to_end().len() < LARGE);
}

#[test]
fn a_file_is_read_in_pieces_where_there_is_no_socket() {
    let file = file(200_000);
    let body = Body::from_file(file.clone(), 100, 150_000);
    assert_eq!(body.exact_len(), Some(150_000));
    let bytes = block_on(body.collect(u64::MAX)).unwrap();
    assert!(bytes.len() == 150_000 && is_part(&bytes, 100));
    let error = block_on(Body::from_file(file, 199_999, 2).collect(u64::MAX)).unwrap_err();
    assert!(matches!(error, BodyError::Source(_)), "{error:?}");
}
