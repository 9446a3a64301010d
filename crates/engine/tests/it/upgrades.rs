//! Connections that switch to another protocol.

use crate::support::{connect, get, serve, settings};
use engine::{Request, Running, Upgraded};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn echo(mut stream: Upgraded) {
    let mut buffer = [0; 64];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

fn echoing() -> Running {
    serve(settings(), || |request: Request| async move { request.upgrade("echo/1", echo) })
}

const OFFER: &str = "GET /talk HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";

#[test]
fn bytes_sent_with_the_offer_are_not_lost() {
    let server = echoing();
    let mut client = connect(&server);
    client.send(format!("{OFFER}GET early"));
    let response = client.read_response();
    assert_eq!((response.status, response.field("upgrade")), (101, Some("echo/1")));
    assert!(response.field("connection").is_some_and(|options| options.eq_ignore_ascii_case("upgrade")));
    assert_eq!(client.read_exact(9), b"GET early");
    client.send(" and late");
    assert_eq!(client.read_exact(9), b" and late");
    client.half_close();
    client.expect_close();
}

#[test]
fn an_upgrade_follows_other_requests() {
    let server = serve(settings(), || {
        |request: Request| async move {
            if request.head.path() == "/talk" {
                request.upgrade("echo/1", echo)
            } else {
                crate::support::target_of(&request)
            }
        }
    });
    let mut client = connect(&server);
    client.send(get("/first") + OFFER + "hello");
    assert_eq!(client.read_response().text(), "GET /first");
    assert_eq!(client.read_response().status, 101);
    assert_eq!(client.read_exact(5), b"hello");
}

#[test]
fn without_an_offer_the_answer_is_426() {
    let server = echoing();
    let offers = [
        get("/talk"),
        "GET /talk HTTP/1.1\r\nHost: test\r\nUpgrade: echo/1\r\n\r\n".to_owned(), // no Connection: upgrade
        "GET /talk HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n".to_owned(),
    ];
    for offer in offers {
        let mut client = connect(&server);
        client.send(&offer);
        let response = client.read_response();
        assert_eq!((response.status, response.field("upgrade")), (426, Some("echo/1")), "{offer}");
        client.send(&offer);
        assert_eq!(client.read_response().status, 426, "the connection goes on");
    }
    let mut old = connect(&server);
    old.send("GET /talk HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n");
    assert_eq!(old.read_response().status, 426);
}

#[test]
fn an_upgrade_with_unread_content_is_refused() {
    let server = echoing();
    let mut client = connect(&server);
    client.send(OFFER.replace("Host: test", "Host: test\r\nContent-Length: 5") + "hell");
    assert_eq!(client.read_response().status, 500);
    client.expect_close();
}
