//! The local API: lets a program on this machine speak through the running peer, by the old system's names.
//!
//! `POST /connect-peer {"ip", "port"}` · `POST /broadcast-peer {"channel"?, "message"}` · `POST /send-peer {"to", "message"}`
//! · `GET /get-list`. Only on loopback, and only with the token that lies next to the device key, so that neither another
//! user of this machine nor a page in a browser speaks as its owner.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chat::client::{Command, Notice};
use chat::{ChannelName, UserName};
use engine::{Method, Request, Response, Running, Server, StatusCode, Stop};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::PeerError;

/// The file that tells programs of the same user where the API is: its address, then the token, a line each.
pub const API_FILE: &str = "local-api";
/// Longest request content, in bytes: the longest message, escaped.
const BODY_BYTES_MAX: u64 = 128 * 1024;
/// Calls that wait for the core.
const CALLS_AHEAD_MAX: usize = 64;
/// Longest wait for the core.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for answers under way when the peer stops.
const GRACE: Duration = Duration::from_secs(1);

/// A command from the API; what the user interface learns from it goes back too.
pub(crate) struct Call {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Vec<Notice>>,
}

/// The API while it is served. Dropped means stopped, and the file removed; that blocks, so not in async code.
pub(crate) struct Served {
    _file: AddressFile,
    _running: Running,
}

struct AddressFile(std::path::PathBuf);

impl Drop for AddressFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Serves the API at `address` for the peer that lives in `data_dir` and speaks in `channel` unless told otherwise.
///
/// # Errors
/// The address is taken or not a loopback one, or the file cannot be written.
pub(crate) fn serve(
    address: SocketAddr,
    data_dir: &Path,
    channel: ChannelName,
) -> Result<(Served, mpsc::Receiver<Call>), PeerError> {
    let refused = |source| PeerError::Listen { address, source };
    if !address.ip().is_loopback() {
        return Err(refused(io::Error::other("the local API listens on loopback only")));
    }
    let mut token = [0; 16];
    getrandom::fill(&mut token).map_err(|_| PeerError::Start("the system gave no random bytes".to_owned()))?;
    let token = URL_SAFE_NO_PAD.encode(token);
    let (sender, calls) = mpsc::channel(CALLS_AHEAD_MAX);
    let door = Door { token_hash: digest(&SHA256, token.as_bytes()).as_ref().to_vec(), channel, calls: sender };
    let settings = engine::Settings { workers: Some(1), body_bytes_max: BODY_BYTES_MAX, ..engine::Settings::default() };
    let server = Server::new(settings).listen(address, move || {
        let door = door.clone();
        move |request| answer(door.clone(), request)
    });
    let server = server.map_err(|error| refused(io::Error::other(error)))?;
    let running = server.start(Stop::new(), GRACE).map_err(|error| PeerError::Start(error.to_string()))?;
    let bound = running.local_addrs().first().copied().unwrap_or(address);
    let path = data_dir.join(API_FILE);
    write_private(&path, &format!("http://{bound}\n{token}\n")).map_err(refused)?;
    Ok((Served { _file: AddressFile(path), _running: running }, calls))
}

/// Replaces the file an earlier run may have left.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// What every request needs.
#[derive(Clone)]
struct Door {
    token_hash: Vec<u8>,
    channel: ChannelName,
    calls: mpsc::Sender<Call>,
}

/// An answer that is not a success.
struct Refusal(StatusCode, String);

#[derive(Deserialize)]
struct ConnectBody {
    ip: std::net::IpAddr,
    port: u16,
}

#[derive(Deserialize)]
struct SayBody {
    #[serde(default)]
    channel: Option<ChannelName>,
    #[serde(default, alias = "username")]
    to: Option<UserName>,
    #[serde(alias = "text")]
    message: String,
}

async fn answer(door: Door, request: Request) -> Response {
    match respond(&door, request).await {
        Ok((status, json)) => Response::bytes(status, "application/json", json.to_string()),
        Err(Refusal(status, detail)) => {
            let problem = json!({ "status": status.as_u16(), "title": "not done", "detail": detail });
            Response::bytes(status, "application/problem+json", problem.to_string())
        }
    }
}

async fn respond(door: &Door, request: Request) -> Result<(StatusCode, Value), Refusal> {
    if !is_allowed(door, request.head.field_str("authorization")) {
        return Err(Refusal(
            StatusCode::UNAUTHORIZED,
            format!("send the token from the file {API_FILE} as a Bearer token"),
        ));
    }
    let (method, path) = (request.head.method(), request.head.path().to_owned());
    let command = match (method, path.as_str()) {
        (Method::Get, "/get-list") => Command::Peers,
        (Method::Post, "/connect-peer") => {
            let ConnectBody { ip, port } = body(request).await?;
            Command::Connect { address: SocketAddr::new(ip, port) }
        }
        (Method::Post, "/broadcast-peer") => {
            let SayBody { channel, message, .. } = body(request).await?;
            Command::Say { channel: channel.unwrap_or_else(|| door.channel.clone()), text: message }
        }
        (Method::Post, "/send-peer") => {
            let SayBody { to, message, .. } = body(request).await?;
            let to = to.ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, "say to whom: \"to\"".to_owned()))?;
            Command::Message { user: to, text: message }
        }
        (_, "/get-list" | "/connect-peer" | "/broadcast-peer" | "/send-peer") => {
            return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "GET for /get-list, POST for the others".to_owned()));
        }
        _ => return Err(Refusal(StatusCode::NOT_FOUND, "no such thing here".to_owned())),
    };
    let (reply, answer) = oneshot::channel();
    let asked = door.calls.try_send(Call { command, reply }).is_ok();
    match tokio::time::timeout(CALL_TIMEOUT, answer).await {
        Ok(Ok(notices)) if asked => summarize(notices),
        _ => Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, "the peer is stopping or busy".to_owned())),
    }
}

fn is_allowed(door: &Door, authorization: Option<&str>) -> bool {
    let token = authorization.and_then(|value| value.strip_prefix("Bearer "));
    // hashes are compared, so that the time it takes says nothing about the token
    token.is_some_and(|token| digest(&SHA256, token.trim().as_bytes()).as_ref() == door.token_hash)
}

async fn body<T: serde::de::DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let bytes = request.body.collect(BODY_BYTES_MAX).await;
    let bytes = bytes.map_err(|error| Refusal(error.status(), error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.to_string()))
}

/// What a command came to: stored here and on its way, waiting for its channel, or refused.
fn summarize(notices: Vec<Notice>) -> Result<(StatusCode, Value), Refusal> {
    for notice in notices {
        match notice {
            Notice::Message(message) => {
                return Ok((
                    StatusCode::CREATED,
                    json!({ "id": message.id, "channel": message.channel, "state": "queued" }),
                ));
            }
            Notice::Peers(peers) => {
                let peers = peers.into_iter().map(|peer| {
                    let path = peer.path.map(chat::Path::as_str);
                    json!({
                        "username": peer.user, "device": peer.device, "online": peer.online, "hosted": peer.hosted,
                        "address": peer.address, "path": path,
                    })
                });
                return Ok((StatusCode::OK, json!({ "peers": peers.collect::<Vec<_>>() })));
            }
            Notice::Trouble { what, hint } => return Err(Refusal(StatusCode::CONFLICT, format!("{what}: {hint}"))),
            _ => {}
        }
    }
    Ok((StatusCode::ACCEPTED, json!({ "state": "waiting" })))
}
