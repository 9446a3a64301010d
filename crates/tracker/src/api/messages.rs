//! Messages: written by hosted devices, uploaded by keyed ones, and read.

use super::{Answer, channel_name};
use crate::caller::Caller;
use crate::input::Input;
use crate::limits::Action;
use crate::tracker::Tracker;
use crate::trouble::Refusal;
use crate::writing::{Hosted, Stored};
use chat::{AppendError, Body, ChannelName, EnvelopeId, MessageView, Sealed, Signature, UserName};
use serde::{Deserialize, Serialize};
use weaprous::prelude::*;

/// Envelopes taken in one request.
const ENVELOPES_MAX: usize = 256;
/// Bytes of such a request: as many envelopes of the usual size, or a hundred of the largest.
pub(crate) const ENVELOPES_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Signatures checked on the worker; more would hold up its other connections, and go to the blocking pool.
const SIGNATURES_AT_ONCE_MAX: usize = 8;
/// Messages on one page.
const PAGE_MAX: usize = 200;
/// Messages on a page when the client does not say.
const PAGE: usize = 50;
/// Length of a message's key.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 8..=64;

/// A text to be written by the caller's hosted device.
#[derive(Deserialize)]
pub(crate) struct Writing {
    channel: Option<String>,
    /// A direct message instead.
    to: Option<UserName>,
    #[serde(alias = "message")]
    text: String,
    key: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Written {
    channel: ChannelName,
    id: EnvelopeId,
    seq: u64,
    state: &'static str,
    hosted: bool,
}

/// `POST /send-message`
pub(crate) async fn send(
    State(tracker): State<Tracker>,
    caller: Caller,
    Input(writing): Input<Writing>,
) -> Answer<impl IntoResponse> {
    let name = match (&writing.channel, &writing.to) {
        (Some(channel), None) => channel_name(channel)?,
        (None, Some(to)) => {
            ChannelName::direct(&caller.user, to).map_err(|error| Problem::unprocessable(format!("to: {error}")))?
        }
        _ => return Err(Problem::unprocessable("say either `channel` or `to`").into()),
    };
    if let Some(key) = &writing.key
        && !(KEY_LENGTH.contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)))
    {
        return Err(Problem::unprocessable("key: 8 to 64 characters of A-Z a-z 0-9 - _").into());
    }
    tracker.limits.spend(&caller.user, Action::Write, 1)?;
    let hosted = Hosted { user: caller.user, body: Body::Text { text: writing.text }, once: writing.key };
    let Stored { sealed, seq } = tracker.say(&name, hosted).await?;
    Ok((StatusCode::CREATED, Json(Written { channel: name, id: sealed.id(), seq, state: "stored", hosted: true })))
}

/// A part of a channel's log.
#[derive(Deserialize)]
pub(crate) struct Part {
    channel: String,
    after: Option<u64>,
    before: Option<u64>,
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(crate) struct Page {
    channel: ChannelName,
    messages: Vec<MessageView>,
    last: u64,
}

/// `GET /get-messages`
pub(crate) async fn get(
    State(tracker): State<Tracker>,
    caller: Caller,
    Query(part): Query<Part>,
) -> Answer<Json<Page>> {
    let name = channel_name(&part.channel)?;
    tracker.readable(&name, &caller.user).await?;
    let limit = part.limit.unwrap_or(PAGE).min(PAGE_MAX);
    let store = tracker.store();
    let entries = match (part.after, part.before) {
        (Some(after), None) => store.read(&name, after, limit).await?,
        (None, before) => store.read_before(&name, before.unwrap_or(u64::MAX), limit).await?,
        (Some(_), Some(_)) => return Err(Problem::bad_request("say either `after` or `before`").into()),
    };
    let mut messages = Vec::with_capacity(entries.len());
    for entry in &entries {
        messages.push(MessageView::new(&entry.sealed, Some(entry.seq), tracker.is_hosted(entry).await?));
    }
    let last = store.last(&name).await?;
    Ok(Json(Page { channel: name, messages, last }))
}

/// Envelopes of anybody, brought by a member, or by their author.
#[derive(Deserialize)]
pub(crate) struct Upload {
    envelopes: Vec<SignedText>,
}

#[derive(Deserialize)]
pub(crate) struct SignedText {
    envelope: String,
    /// As text: a bad one is this envelope's error, not the request's.
    signature: String,
}

#[derive(Serialize)]
pub(crate) struct Uploaded {
    results: Vec<Outcome>,
}

/// What became of one envelope.
#[derive(Serialize)]
pub(crate) struct Outcome {
    id: EnvelopeId,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_n: Option<u64>,
}

impl Outcome {
    fn stored(stored: &Stored) -> Self {
        let (seq, state) = (Some(stored.seq), Some("stored"));
        Self { id: stored.sealed.id(), seq, state, error: None, detail: None, expected_n: None }
    }

    fn failed(id: EnvelopeId, error: &'static str, detail: String) -> Self {
        Self { id, seq: None, state: None, error: Some(error), detail: Some(detail), expected_n: None }
    }

    fn refused(id: EnvelopeId, refusal: Refusal) -> Self {
        let expected_n = match refusal {
            Refusal::Chain(AppendError::Gap { expected_n }) => Some(expected_n),
            _ => None,
        };
        Self { expected_n, ..Self::failed(id, refusal.code(), refusal.to_string()) }
    }
}

/// `POST /api/v1/channels/{channel}/envelopes`
pub(crate) async fn upload(
    State(tracker): State<Tracker>,
    caller: Caller,
    Path(name): Path<ChannelName>,
    Json(upload): Json<Upload>,
) -> Answer<Json<Uploaded>> {
    if upload.envelopes.len() > ENVELOPES_MAX {
        return Err(Problem::unprocessable(format!("envelopes: at most {ENVELOPES_MAX} at a time")).into());
    }
    tracker.limits.spend(&caller.user, Action::Write, upload.envelopes.len())?;
    let opened = open_all(upload.envelopes).await?;
    let membership = tracker.channel(&name).await?.membership();
    let is_own = |sealed: &Sealed| sealed.envelope().author == caller.user;
    if !membership.is_member(&caller.user) && !opened.iter().flatten().all(is_own) {
        let denied = if membership.exists() { chat::Denied::NotMember } else { chat::Denied::NoSuchChannel };
        return Err(denied.into());
    }
    let whole: Vec<Sealed> = opened.iter().flatten().cloned().collect();
    let mut written = if whole.is_empty() { Vec::new() } else { tracker.upload(&name, whole).await? }.into_iter();
    let results = opened.into_iter().map(|opened| match opened {
        Err(failed) => failed,
        Ok(sealed) => match written.next().expect("one result for each whole envelope") {
            Ok(stored) => Outcome::stored(&stored),
            Err(refusal) => Outcome::refused(sealed.id(), refusal),
        },
    });
    Ok(Json(Uploaded { results: results.collect() }))
}

/// Parses and verifies; off the worker where it would take long.
async fn open_all(envelopes: Vec<SignedText>) -> Answer<Vec<Result<Sealed, Outcome>>> {
    if envelopes.len() <= SIGNATURES_AT_ONCE_MAX {
        return Ok(envelopes.iter().map(open).collect());
    }
    let opened = tokio::task::spawn_blocking(move || envelopes.iter().map(open).collect());
    Ok(opened.await.map_err(Problem::internal)?)
}

fn open(text: &SignedText) -> Result<Sealed, Outcome> {
    let id = EnvelopeId::of(text.envelope.as_bytes());
    let signature: Signature =
        text.signature.parse().map_err(|error| Outcome::failed(id, "malformed", format!("signature: {error}")))?;
    Sealed::open(text.envelope.as_bytes(), signature).map_err(|error| {
        let kind = if matches!(error, chat::EnvelopeError::Forged(_)) { "forged" } else { "malformed" };
        Outcome::failed(id, kind, error.to_string())
    })
}
