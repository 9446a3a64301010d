//! What happens, told to every event stream of this process. A listener that falls too far behind is cut off; it comes
//! back with the position it reached and reads the log.

use chat::{ChannelName, DeviceId, Logged, MessageView, UserName};
use std::sync::Arc;
use tokio::sync::broadcast;

use crate::presence::PeerView;

/// News a listener may be behind before it is cut off.
const NEWS_BEHIND_MAX: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// Envelopes came into the log, in the order of their positions.
    Logged(Arc<[Line]>),
    /// A device came, went, or changed its addresses.
    Presence(Arc<PeerView>),
    /// The roster of a channel changed. `gone` can no longer read it, and still has to know.
    Channel { channel: ChannelName, version: u64, gone: Arc<[UserName]> },
    /// A user has read further.
    Read { user: UserName, channel: ChannelName, seq: u64 },
    /// Somebody waits at the relay for this device.
    Relay { to: DeviceId, token: Arc<str>, from: DeviceId },
}

/// An entry of the log as event streams send it, rendered once for all of them.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) position: u64,
    pub(crate) channel: ChannelName,
    /// Whom the entry itself puts out of the channel: they hear of it although they are no longer in.
    pub(crate) puts_out: Option<UserName>,
    /// A [`MessageView`] as JSON.
    pub(crate) json: String,
}

impl Line {
    pub(crate) fn new(logged: &Logged, hosted: bool) -> Self {
        let envelope = logged.sealed.envelope();
        let puts_out = match &envelope.body {
            chat::Body::Remove { user } => Some(user.clone()),
            chat::Body::Leave => Some(envelope.author.clone()),
            _ => None,
        };
        let view = MessageView::new(&logged.sealed, Some(logged.seq), hosted);
        let json = serde_json::to_string(&view).expect("text, numbers and parsed JSON always serialise");
        Self { position: logged.position, channel: envelope.channel.clone(), puts_out, json }
    }
}

/// The way news takes.
#[derive(Debug)]
pub(crate) struct Hub(broadcast::Sender<News>);

impl Hub {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(NEWS_BEHIND_MAX))
    }

    pub(crate) fn tell(&self, news: News) {
        let _ = self.0.send(news); // nobody may be listening
    }

    pub(crate) fn listen(&self) -> broadcast::Receiver<News> {
        self.0.subscribe()
    }
}
