//! Registering: devices that prove their key, and clients that have none.

use super::Answer;
use crate::caller::{Caller, MaybeCaller, Token};
use crate::limits::Action;
use crate::presence::{ADDRESSES_MAX, Sign, is_dialable};
use crate::tracker::{Tracker, now_ms};
use crate::trouble::Trouble;
use accounts::AccountError;
use chat::auth::challenge_text;
use chat::{DeviceId, Signature, TrackerId, UserName};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use weaprous::prelude::*;

use crate::input::Input;

#[derive(Serialize)]
pub(crate) struct Challenge {
    nonce: String,
    tracker: TrackerId,
}

/// `GET /api/v1/challenge`
pub(crate) async fn challenge(State(tracker): State<Tracker>) -> Answer<impl IntoResponse> {
    let nonce = tracker.challenges.issue().map_err(Problem::internal)?;
    Ok(([("cache-control", "no-store")], Json(Challenge { nonce, tracker: tracker.id() })))
}

/// What a client says of itself.
#[derive(Deserialize)]
pub(crate) struct Registration {
    username: UserName,
    ip: Option<String>,
    #[serde(default, deserialize_with = "port")]
    port: Option<u16>,
    addresses: Option<Vec<String>>,
    device: Option<DeviceId>,
    nonce: Option<String>,
    signature: Option<Signature>,
    password: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Registered {
    user: UserName,
    device: DeviceId,
    hosted: bool,
    token: String,
    lease_ms: u64,
    tracker: TrackerId,
    you: IpAddr,
}

/// `POST /submit-info`
pub(crate) async fn submit_info(
    State(tracker): State<Tracker>,
    ClientAddr(from): ClientAddr,
    MaybeCaller(caller): MaybeCaller,
    Input(registration): Input<Registration>,
) -> Answer<impl IntoResponse> {
    let user = registration.username.clone();
    let addresses = addresses(&registration, from)?;
    let caller = caller.filter(|caller| caller.user == user);
    let entry =
        Entry { tracker: &tracker, user: &user, password: registration.password, from, caller: caller.as_ref() };
    let (device, hosted) = match registration.device {
        Some(device) => {
            let proof = registration.nonce.as_deref().zip(registration.signature);
            (entry.keyed(device, proof).await?, false)
        }
        None => (entry.hosted().await?, true),
    };
    let token = entry.token(device).await?;
    tracker.renew(Sign { user: user.clone(), device, hosted, addresses }).await?;
    tracker.metrics.registrations.add(1);
    let registered = Registered {
        user,
        device,
        hosted,
        token: token.0,
        lease_ms: tracker.lease_ms(),
        tracker: tracker.id(),
        you: from,
    };
    Ok(([("cache-control", "no-store")], Json(registered)))
}

#[derive(Serialize)]
pub(crate) struct Me {
    user: UserName,
    devices: Vec<DeviceView>,
    /// The device that this session speaks for.
    device: Option<DeviceId>,
    tracker: TrackerId,
    position: u64,
}

#[derive(Serialize)]
struct DeviceView {
    device: DeviceId,
    hosted: bool,
    added_ms: u64,
}

/// `GET /api/v1/me`
pub(crate) async fn me(State(tracker): State<Tracker>, caller: Caller) -> Answer<Json<Me>> {
    let devices = tracker.devices.of(tracker.accounts(), &caller.user).await?;
    let view =
        |device: &accounts::Device| DeviceView { device: device.id, hosted: device.hosted, added_ms: device.added_ms };
    Ok(Json(Me {
        devices: devices.iter().map(view).collect(),
        device: tracker.bound_device(&caller).await?,
        tracker: tracker.id(),
        position: tracker.store().last_position().await?,
        user: caller.user,
    }))
}

/// A registration while it is looked at.
struct Entry<'a> {
    tracker: &'a Arc<Tracker>,
    user: &'a UserName,
    password: Option<String>,
    from: IpAddr,
    /// A valid session of this very user.
    caller: Option<&'a Caller>,
}

impl Entry<'_> {
    /// Lets a device in that proves its key: as one of its user's, as a new one of a user who proves themselves, or as
    /// the first one of a new user.
    async fn keyed(&self, device: DeviceId, proof: Option<(&str, Signature)>) -> Answer<DeviceId> {
        let (nonce, signature) = proof.ok_or_else(|| {
            Problem::unprocessable("a device registers with `nonce` (from /api/v1/challenge) and `signature`")
        })?;
        let text = challenge_text(&self.tracker.id(), nonce, self.user, &device);
        if device.verify(&text, &signature).is_err() {
            return Err(
                Problem::unauthorized("the signature does not match the device, user, nonce and tracker").into()
            );
        }
        let taken = self.tracker.challenges.take(nonce);
        taken.map_err(|bad| Problem::unauthorized(bad.to_string()))?;
        if self.tracker.device(self.user, &device).await?.is_some() {
            return Ok(device);
        }
        self.prove().await?;
        self.tracker.accounts().add_device(self.user, device, false, now_ms()).await?;
        self.tracker.devices_changed(self.user).await?;
        Ok(device)
    }

    /// Lets a client without a key in.
    async fn hosted(&self) -> Answer<DeviceId> {
        self.prove().await?;
        Ok(self.tracker.hosted_key(self.user).await?.id())
    }

    /// The user is who they say: logged in, with the right password, or the first of that name.
    async fn prove(&self) -> Answer<()> {
        if self.caller.is_some() {
            return Ok(());
        }
        let accounts = self.tracker.accounts();
        if accounts.find(self.user).await?.is_none() {
            match accounts.sign_up(self.user, self.password.clone(), self.from, now_ms()).await {
                Err(AccountError::NameTaken) => {} // by somebody a moment faster
                other => return Ok(other.map(drop)?),
            }
        }
        let Some(password) = self.password.clone() else {
            let detail = format!("the name {} is taken; send its password, or choose another name", self.user);
            return Err(Problem::unauthorized(detail).into());
        };
        Ok(accounts.check_password(self.user, password, self.from, now_ms()).await.map(drop)?)
    }

    /// The session that speaks for the device from now on: the one that came with the request, or a new one.
    async fn token(&self, device: DeviceId) -> Answer<Token> {
        let store = self.tracker.store();
        if let Some(caller) = self.caller {
            self.tracker.bindings.bind(store, caller.token.hash(), device, caller.expires_ms).await?;
            return Ok(caller.token.clone());
        }
        self.tracker.limits.spend(self.user, Action::Register, 1)?;
        let sessions = &self.tracker.settings.sessions;
        let token = Token(sessions.create(self.user.as_str()).await.map_err(Problem::internal)?.token);
        let session = sessions.check(&token.0).await.map_err(Problem::internal)?;
        let expires_ms = session.map_or(0, |session| session.expires_ms);
        self.tracker.bindings.bind(store, token.hash(), device, expires_ms).await?;
        Ok(token)
    }
}

impl Tracker {
    pub(crate) fn lease_ms(&self) -> u64 {
        self.settings.lease.as_millis() as u64
    }

    /// The key with which the tracker signs for a user, known to all rosters.
    pub(crate) async fn hosted_key(self: &Arc<Self>, user: &UserName) -> Result<chat::DeviceKey, Trouble> {
        let key = self.accounts().hosted_key(user, now_ms()).await?;
        if self.device(user, &key.id()).await?.is_none() {
            self.devices_changed(user).await?;
        }
        Ok(key)
    }
}

/// Where the device can be dialled. What the client calls its own address comes first; the address it is seen at comes
/// in where it says no better one.
fn addresses(registration: &Registration, from: IpAddr) -> Answer<Vec<SocketAddr>> {
    let mut found = parse_addresses(registration.addresses.as_deref().unwrap_or_default())?;
    let own_ip = registration.ip.as_deref().map(parse_ip).transpose()?;
    let own_ip = own_ip.filter(|ip| !ip.is_unspecified());
    match (own_ip, registration.port) {
        (Some(ip), Some(port)) => found.insert(0, dialable(SocketAddr::new(ip, port))?),
        (None, Some(port)) => found.push(dialable(SocketAddr::new(from, port))?),
        (_, None) => {}
    }
    let mut unique = Vec::with_capacity(found.len());
    for address in found {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    Ok(unique)
}

/// Addresses as clients write them.
pub(super) fn parse_addresses(texts: &[String]) -> Answer<Vec<SocketAddr>> {
    if texts.len() > ADDRESSES_MAX {
        return Err(Problem::unprocessable(format!("addresses: at most {ADDRESSES_MAX}")).into());
    }
    let parse = |text: &String| {
        let address = text.parse::<SocketAddr>();
        let address = address.map_err(|_| Problem::unprocessable("addresses: each is written as ip:port"))?;
        dialable(address)
    };
    texts.iter().map(parse).collect()
}

fn parse_ip(text: &str) -> Answer<IpAddr> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        _ => text.parse().map_err(|_| Problem::unprocessable("ip: not an IP address").into()),
    }
}

fn dialable(address: SocketAddr) -> Answer<SocketAddr> {
    if is_dialable(&address) {
        Ok(address)
    } else {
        Err(Problem::unprocessable(format!("nobody can be reached at {address}")).into())
    }
}

/// A port as a number, or as the text that forms and some clients send.
fn port<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Port {
        Number(u16),
        Text(String),
    }
    let port = Option::<Port>::deserialize(deserializer).map_err(|_| serde::de::Error::custom(NO_PORT))?;
    match port {
        None => Ok(None),
        Some(Port::Number(port)) => Ok(Some(port)),
        Some(Port::Text(text)) if text.is_empty() => Ok(None),
        Some(Port::Text(text)) => text.parse().map(Some).map_err(|_| serde::de::Error::custom(NO_PORT)),
    }
}

const NO_PORT: &str = "port: a number from 1 to 65535";
