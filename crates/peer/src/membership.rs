//! Coming into channels and changing who is in them.
//!
//! Whether a change is allowed is the tracker's to say, and a change that it refuses must never stand in this device's
//! chain: everything after it would be refused too. So a change is sealed, kept aside, handed over, and only then made
//! part of the history. If the tracker goes away in the middle, the same envelope is handed over again later; until
//! then nothing else is said in that channel.

use std::rc::Rc;
use std::time::Duration;

use chat::{Body, ChannelName, Sealed, SignedRoster, UserName, Visibility};
use tokio::time::sleep;

use crate::event::{Event, Outcome};
use crate::sync::{Context, SyncError};
use crate::tracker::{TrackerError, is_final};
use crate::wire::UploadResult;

/// How often a change is sealed anew because this device's chain had grown elsewhere.
const TRIES_MAX: usize = 3;
/// How often a change is handed over while the tracker is there but does not say what became of it.
const HAND_OVER_TRIES_MAX: usize = 30;
/// Pause between two of these.
const HAND_OVER_PAUSE: Duration = Duration::from_secs(1);

/// What the user wants of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Intent {
    /// To be in it; `create` says how to make it if nobody has.
    Join { create: Option<Visibility> },
    /// To make it.
    Create(Visibility),
    /// Anything a member may do to it.
    Change(Body),
}

/// Why it did not come to be, in words for a person.
struct Obstacle {
    what: String,
    hint: String,
    /// Whether trying again would come to the same.
    hopeless: bool,
}

impl Obstacle {
    fn refusal(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into(), hopeless: true }
    }
}

impl From<SyncError> for Obstacle {
    fn from(error: SyncError) -> Self {
        Self { what: error.to_string(), hint: "it is tried again when the tracker is back".to_owned(), hopeless: false }
    }
}

impl From<TrackerError> for Obstacle {
    fn from(error: TrackerError) -> Self {
        SyncError::from(error).into()
    }
}

/// Carries an intent out and reports to the core.
pub(crate) async fn carry_out(context: Rc<Context>, me: UserName, channel: ChannelName, intent: Intent) {
    let done = match intent {
        Intent::Join { create } => join(&context, &me, &channel, create).await,
        Intent::Create(visibility) => create(&context, &channel, visibility).await,
        Intent::Change(body) => change(&context, &channel, body).await,
    };
    let hopeless = done.as_ref().is_err_and(|obstacle| obstacle.hopeless);
    if let Err(Obstacle { what, hint, .. }) = done {
        let _ = context.tell(Event::Trouble { what: format!("{channel}: {what}"), hint }).await;
    }
    let _ = context.tell(Event::ChangeEnded { channel, hopeless }).await;
}

/// Hands a change over whose way is not known since an earlier run or an earlier try.
pub(crate) async fn resume(context: Rc<Context>, channel: ChannelName, sealed: Sealed) {
    if let Ok(Outcome::Accepted(_)) = hand_over(&context, &channel, sealed).await {
        let _ = refresh_roster(&context, &channel).await;
    }
    let _ = context.tell(Event::ChangeEnded { channel, hopeless: false }).await;
}

async fn join(
    context: &Context,
    me: &UserName,
    channel: &ChannelName,
    create: Option<Visibility>,
) -> Result<(), Obstacle> {
    match roster(context, channel).await {
        Ok(roster) if is_member(&roster, me) => return Ok(context.tell(Event::Roster(roster)).await?),
        Err(TrackerError::Refused { status: 404, .. }) if channel.is_direct() => {
            return Err(Obstacle::refusal("there is no such user", "see /peers"));
        }
        Err(TrackerError::Refused { status: 404, .. }) if create.is_some() => {
            let visibility = create.unwrap_or(Visibility::Public);
            if submit(context, channel, Body::Create { visibility }).await?.is_ok() {
                return refresh_roster(context, channel).await;
            } // somebody else was faster: it exists now
        }
        Ok(_) | Err(TrackerError::Refused { status: 403 | 404, .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match submit(context, channel, Body::Join).await? {
        Ok(()) => refresh_roster(context, channel).await,
        Err(why) => {
            let hint = format!("/create {channel} makes it if it does not exist; a private one needs an /invite");
            Err(Obstacle::refusal(format!("cannot come in: {why}"), hint))
        }
    }
}

async fn create(context: &Context, channel: &ChannelName, visibility: Visibility) -> Result<(), Obstacle> {
    match submit(context, channel, Body::Create { visibility }).await? {
        Ok(()) => refresh_roster(context, channel).await,
        Err(why) => Err(Obstacle::refusal(format!("cannot be made: {why}"), format!("perhaps /join {channel}"))),
    }
}

async fn change(context: &Context, channel: &ChannelName, body: Body) -> Result<(), Obstacle> {
    let is_leave = body == Body::Leave;
    match submit(context, channel, body).await? {
        Ok(()) if is_leave => Ok(()),
        Ok(()) => refresh_roster(context, channel).await,
        Err(what) => Err(Obstacle::refusal(what, "see /channels and /peers")),
    }
}

/// Seals a change and hands it over. Gives the tracker's words if it refuses.
async fn submit(context: &Context, channel: &ChannelName, body: Body) -> Result<Result<(), String>, Obstacle> {
    let mut refusal = Refusal::default();
    for _ in 0..TRIES_MAX {
        match context.hand_over(channel).await {
            Ok(()) | Err(SyncError::Tracker(TrackerError::Refused { .. })) => {}
            Err(error) => return Err(error.into()),
        }
        let asked = context.ask(|reply| Event::Seal { channel: channel.clone(), body: body.clone(), reply });
        let sealed =
            asked.await.map_err(|_| Obstacle::refusal("another change is under way", "try again in a moment"))?;
        let device = sealed.envelope().device;
        match hand_over_saying_why(context, channel, sealed).await? {
            (Outcome::Accepted(_), _) => return Ok(Ok(())),
            (Outcome::Unknown, _) => {
                return Err(SyncError::Tracker(TrackerError::Away("the tracker went away".to_owned())).into());
            }
            (Outcome::Denied, why) => refusal = why,
        }
        // what is missing there may have been refused once and be welcome now; what is too much there was lost here
        if let Some(from_n) = refusal.expected_n {
            if let Some(why) = context.hand_over_chain(channel, &device, from_n).await? {
                return Ok(Err(why));
            }
        } else if !refusal.is_fork || context.fetch(channel).await.is_err() {
            break;
        }
    }
    Ok(Err(refusal.why))
}

/// The tracker's words.
#[derive(Default)]
struct Refusal {
    why: String,
    /// Whether the tracker holds another envelope at this place of the chain.
    is_fork: bool,
    /// From where on the tracker lacks the chain, if that was in the way.
    expected_n: Option<u64>,
}

async fn hand_over(context: &Context, channel: &ChannelName, sealed: Sealed) -> Result<Outcome, SyncError> {
    hand_over_saying_why(context, channel, sealed).await.map(|(outcome, _)| outcome)
}

/// Hands a change over until the tracker has answered or is away.
async fn hand_over_saying_why(
    context: &Context,
    channel: &ChannelName,
    sealed: Sealed,
) -> Result<(Outcome, Refusal), SyncError> {
    let mut answer = hand_over_once(context, channel, &sealed).await;
    let mut tries = 1;
    while answer.0 == Outcome::Unknown && context.online.get() && tries < HAND_OVER_TRIES_MAX {
        sleep(HAND_OVER_PAUSE).await;
        answer = hand_over_once(context, channel, &sealed).await;
        tries += 1;
    }
    let (outcome, refusal) = answer;
    let told = outcome.clone();
    context.ask(|reply| Event::Changed { channel: channel.clone(), sealed, outcome: told, reply }).await?;
    Ok((outcome, refusal))
}

async fn hand_over_once(context: &Context, channel: &ChannelName, sealed: &Sealed) -> (Outcome, Refusal) {
    match context.tracker.upload(channel, std::slice::from_ref(sealed)).await {
        Ok(results) => match results.into_iter().next() {
            Some(UploadResult { seq: Some(seq), .. }) => (Outcome::Accepted(seq), Refusal::default()),
            Some(result) => {
                let is_fork = result.error.as_deref() == Some("fork");
                (Outcome::Denied, Refusal { why: result.why(), is_fork, expected_n: result.expected_n })
            }
            None => (Outcome::Unknown, Refusal::default()),
        },
        Err(TrackerError::Refused { status, detail }) if is_final(status) => {
            (Outcome::Denied, Refusal { why: detail, ..Refusal::default() })
        }
        Err(_) => (Outcome::Unknown, Refusal::default()),
    }
}

/// Fetches a channel's roster and gives it to the core.
pub(crate) async fn fetch_roster(context: Rc<Context>, channel: ChannelName) {
    match roster(&context, &channel).await {
        Ok(roster) => drop(context.tell(Event::Roster(roster)).await),
        Err(TrackerError::Refused { status: 403 | 404, .. }) => drop(context.tell(Event::ShutOut { channel }).await),
        Err(error) => tracing::debug!(%channel, %error, "no roster"),
    }
}

async fn refresh_roster(context: &Context, channel: &ChannelName) -> Result<(), Obstacle> {
    let roster = roster(context, channel).await?;
    Ok(context.tell(Event::Roster(roster)).await?)
}

async fn roster(context: &Context, channel: &ChannelName) -> Result<SignedRoster, TrackerError> {
    let id = context.tracker_id.get().ok_or_else(|| TrackerError::Away("the tracker was not met yet".to_owned()))?;
    context.tracker.roster(channel, &id).await
}

/// Whether a roster has the user in it.
pub(crate) fn is_member(roster: &SignedRoster, user: &UserName) -> bool {
    roster.roster().members.iter().any(|member| member.user == *user)
}
