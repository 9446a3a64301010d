//! Channels: making them, coming in, going, rosters, read marks.

use super::{Answer, channel_name};
use crate::caller::Caller;
use crate::channels::Channel;
use crate::hub::News;
use crate::input::Input;
use crate::limits::Action;
use crate::roster::RosterText;
use crate::tracker::Tracker;
use crate::trouble::Trouble;
use crate::writing::{Hosted, Stored};
use chat::{Body, ChannelName, EnvelopeId, Expect, Head, UserName, Visibility};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use weaprous::prelude::*;

#[derive(Serialize)]
pub(crate) struct ChannelList {
    channels: Vec<ChannelView>,
}

#[derive(Serialize)]
pub(crate) struct ChannelView {
    name: ChannelName,
    visibility: Visibility,
    member: bool,
    /// Whether the caller was invited and has not come in.
    invited: bool,
    /// How many are in it.
    members: usize,
    owner: Option<UserName>,
    last_seq: u64,
    read_seq: u64,
}

/// `GET /api/v1/channels`
pub(crate) async fn list(State(tracker): State<Tracker>, caller: Caller) -> Answer<Json<ChannelList>> {
    let mut channels = Vec::new();
    for (channel, last_seq) in tracker.channels.load_all(tracker.store()).await? {
        let membership = channel.membership();
        let invited = membership.invited().any(|user| *user == caller.user);
        let Some(visibility) = membership.visibility() else { continue };
        if !membership.may_read(&caller.user) && !invited {
            continue;
        }
        channels.push(ChannelView {
            name: channel.name.clone(),
            visibility,
            member: membership.is_member(&caller.user),
            invited,
            members: membership.members().len(),
            owner: membership.owner().cloned(),
            last_seq,
            read_seq: tracker.read_seq(&caller.user, &channel.name).await?,
        });
    }
    Ok(Json(ChannelList { channels }))
}

#[derive(Deserialize)]
pub(crate) struct NewChannel {
    channel: String,
    visibility: Option<Visibility>,
}

/// What was written into the log for a request.
#[derive(Serialize)]
pub(crate) struct Change {
    channel: ChannelName,
    id: EnvelopeId,
    seq: u64,
    state: &'static str,
    hosted: bool,
}

impl Change {
    fn of(stored: &Stored) -> Self {
        let channel = stored.sealed.envelope().channel.clone();
        Self { channel, id: stored.sealed.id(), seq: stored.seq, state: "stored", hosted: true }
    }
}

/// `POST /create-list`, `POST /api/v1/channels`
pub(crate) async fn create(
    State(tracker): State<Tracker>,
    caller: Caller,
    Input(new): Input<NewChannel>,
) -> Answer<impl IntoResponse> {
    let name = channel_name(&new.channel)?;
    tracker.limits.spend(&caller.user, Action::Create, 1)?;
    let body = Body::Create { visibility: new.visibility.unwrap_or(Visibility::Public) };
    let stored = tracker.say(&name, Hosted { user: caller.user, body, once: None }).await?;
    Ok((StatusCode::CREATED, Json(Change::of(&stored))))
}

#[derive(Deserialize)]
pub(crate) struct Joining {
    channel: String,
    /// Somebody else: then it is an invitation.
    #[serde(alias = "user")]
    username: Option<UserName>,
}

/// `POST /join-list`, `POST /add-list`
pub(crate) async fn join_list(
    State(tracker): State<Tracker>,
    caller: Caller,
    Input(joining): Input<Joining>,
) -> Answer<impl IntoResponse> {
    let name = channel_name(&joining.channel)?;
    match joining.username {
        Some(user) if user != caller.user => invite_user(&tracker, caller, &name, user).await,
        _ => come_in(&tracker, caller, &name).await,
    }
}

/// `POST /api/v1/channels/{channel}/join`
pub(crate) async fn join(
    State(tracker): State<Tracker>,
    caller: Caller,
    Path(name): Path<ChannelName>,
) -> Answer<Response> {
    come_in(&tracker, caller, &name).await
}

/// `POST /api/v1/channels/{channel}/leave`
pub(crate) async fn leave(
    State(tracker): State<Tracker>,
    caller: Caller,
    Path(name): Path<ChannelName>,
) -> Answer<Response> {
    write(&tracker, caller, &name, Body::Leave).await
}

/// Whom a change is about.
#[derive(Deserialize)]
pub(crate) struct Whom {
    #[serde(alias = "username")]
    user: UserName,
}

/// `POST /api/v1/channels/{channel}/invite`
pub(crate) async fn invite(
    State(tracker): State<Tracker>,
    caller: Caller,
    Path(name): Path<ChannelName>,
    Json(whom): Json<Whom>,
) -> Answer<Response> {
    invite_user(&tracker, caller, &name, whom.user).await
}

/// `POST /api/v1/channels/{channel}/remove`
pub(crate) async fn remove(
    State(tracker): State<Tracker>,
    caller: Caller,
    Path(name): Path<ChannelName>,
    Json(whom): Json<Whom>,
) -> Answer<Response> {
    write(&tracker, caller, &name, Body::Remove { user: whom.user }).await
}

async fn come_in(tracker: &Arc<Tracker>, caller: Caller, name: &ChannelName) -> Answer<Response> {
    let channel = tracker.channel(name).await?;
    if channel.membership().is_member(&caller.user) {
        return Ok(already(&channel));
    }
    write(tracker, caller, name, Body::Join).await
}

async fn invite_user(tracker: &Arc<Tracker>, caller: Caller, name: &ChannelName, user: UserName) -> Answer<Response> {
    let channel = tracker.readable(name, &caller.user).await?;
    let membership = channel.membership();
    if membership.is_member(&caller.user) {
        if tracker.accounts().find(&user).await?.is_none() {
            return Err(Problem::not_found(format!("nobody is called {user}")).into());
        }
        if membership.is_member(&user) || membership.invited().any(|invited| *invited == user) {
            return Ok(already(&channel));
        }
    }
    write(tracker, caller, name, Body::Invite { user }).await
}

async fn write(tracker: &Arc<Tracker>, caller: Caller, name: &ChannelName, body: Body) -> Answer<Response> {
    tracker.limits.spend(&caller.user, Action::Write, 1)?;
    let stored = tracker.say(name, Hosted { user: caller.user, body, once: None }).await?;
    Ok((StatusCode::CREATED, Json(Change::of(&stored))).into_response())
}

/// It is so already: nothing is written.
fn already(channel: &Channel) -> Response {
    #[derive(Serialize)]
    struct Unchanged<'a> {
        channel: &'a ChannelName,
        state: &'static str,
    }
    Json(Unchanged { channel: &channel.name, state: "unchanged" }).into_response()
}

/// `GET /api/v1/channels/{channel}/roster`
pub(crate) async fn roster(
    State(tracker): State<Tracker>,
    caller: Caller,
    Path(name): Path<ChannelName>,
) -> Answer<Json<RosterText>> {
    let channel = tracker.readable(&name, &caller.user).await?;
    Ok(Json(RosterText::from(&tracker.roster(&channel).await?)))
}

#[derive(Serialize)]
pub(crate) struct ChannelHeads {
    channel: ChannelName,
    heads: Vec<Head>,
    last: u64,
}

/// `GET /api/v1/channels/{channel}/heads`
pub(crate) async fn heads(
    State(tracker): State<Tracker>,
    caller: Caller,
    Path(name): Path<ChannelName>,
) -> Answer<Json<ChannelHeads>> {
    tracker.readable(&name, &caller.user).await?;
    let heads = tracker.store().heads(&name).await?;
    Ok(Json(ChannelHeads { heads, last: tracker.store().last(&name).await?, channel: name }))
}

/// A read mark, as it is sent and as it lies in the register.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadMark {
    seq: u64,
}

/// `PUT /api/v1/channels/{channel}/read`
pub(crate) async fn read(
    State(tracker): State<Tracker>,
    caller: Caller,
    Path(name): Path<ChannelName>,
    Json(mark): Json<ReadMark>,
) -> Answer<Json<ReadMark>> {
    tracker.readable(&name, &caller.user).await?;
    let last = tracker.store().last(&name).await?;
    if mark.seq > last {
        return Err(Problem::unprocessable(format!("the log of {name} ends at {last}")).into());
    }
    let seq = tracker.mark_read(&caller.user, &name, mark.seq).await?;
    Ok(Json(ReadMark { seq }))
}

/// How often a read mark is written anew because another device of the user wrote one meanwhile.
const READ_TRIES_MAX: usize = 8;

impl Tracker {
    pub(crate) async fn read_seq(&self, user: &UserName, channel: &ChannelName) -> Result<u64, Trouble> {
        Ok(self.read_mark(user, channel).await?.0)
    }

    async fn read_mark(&self, user: &UserName, channel: &ChannelName) -> Result<(u64, Expect), Trouble> {
        let Some(found) = self.store().get(&read_key(user, channel)).await? else { return Ok((0, Expect::Absent)) };
        let mark: ReadMark = serde_json::from_slice(&found.value)
            .map_err(|error| chat::StoreError::Damaged(format!("a read mark: {error}")))?;
        Ok((mark.seq, Expect::Version(found.version)))
    }

    /// Moves a user's read mark forward, never back; gives where it stands.
    async fn mark_read(&self, user: &UserName, channel: &ChannelName, seq: u64) -> Result<u64, Trouble> {
        for _ in 0..READ_TRIES_MAX {
            let (known, expect) = self.read_mark(user, channel).await?;
            if seq <= known {
                return Ok(known);
            }
            let value = serde_json::to_vec(&ReadMark { seq }).map_err(Problem::internal)?;
            if self.store().put(&read_key(user, channel), value, expect).await?.is_ok() {
                self.hub.tell(News::Read { user: user.clone(), channel: channel.clone(), seq });
                return Ok(seq);
            }
        }
        Err(chat::StoreError::Busy.into())
    }
}

fn read_key(user: &UserName, channel: &ChannelName) -> String {
    format!("read/{user}/{channel}")
}
