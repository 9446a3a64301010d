//! What goes on beside requests: names are looked up, upstreams asked whether they are well. One task for each, on
//! one worker for all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::{Body, Client, ClientSettings, ClientTls, Fields, Method, OutgoingRequest};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::conf::HealthCheck;
use crate::group::Group;
use crate::proxy::{Base, Live};
use crate::upstream::Upstream;

/// How long one look-up may take; the system's resolver gives up after some seconds itself.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a file with authorities is looked at, as those with certificates are.
const REREAD_PERIOD: Duration = Duration::from_secs(2);

/// How soon a name that was not found at the start is looked up again.
const LOOKUP_AGAIN: Duration = Duration::from_secs(1);

/// Addresses taken from one name. More would be a mistake in the zone.
const ADDRESSES_MAX: usize = 64;

/// Looks up names and checks on upstreams for ever, after a reload those of the new configuration; dropped means
/// stopped. A group that a reload keeps is looked after without a break.
pub(crate) async fn run(live: Arc<Live>) {
    let mut tended: Vec<(Arc<Group>, JoinSet<()>)> = Vec::new(); // owns every task: dropped means aborted
    loop {
        let (_, shared) = live.current();
        tended.retain(|(group, _)| shared.groups.iter().any(|wanted| Arc::ptr_eq(wanted, group)));
        for group in &shared.groups {
            if !tended.iter().any(|(known, _)| Arc::ptr_eq(known, group)) {
                tended.push((Arc::clone(group), tend(shared.base(), group)));
            }
        }
        drop(shared);
        live.changed.notified().await;
    }
}

/// The tasks of one group.
fn tend(base: &Arc<Base>, group: &Arc<Group>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if group.names().next().is_some() {
        tasks.spawn_local(look_up(Arc::clone(base), Arc::clone(group)));
    }
    if group.has_authorities() {
        tasks.spawn_local(reread(Arc::clone(group)));
    }
    if let Some(check) = &group.conf.health_check {
        tasks.spawn_local(watch(Arc::clone(base), Arc::clone(group), check.clone()));
    }
    tasks
}

/// Looks up the names of a group again and again. What was found last stays when a look-up fails.
async fn look_up(base: Arc<Base>, group: Arc<Group>) {
    let mut found: HashMap<(String, u16), Vec<SocketAddr>> = HashMap::new();
    loop {
        let names: Vec<(String, u16)> = group.names().map(|(host, port)| (host.to_owned(), port)).collect();
        for name in names {
            match addresses(&name.0, name.1).await {
                Ok(addresses) => drop(found.insert(name, addresses)),
                Err(problem) => {
                    tracing::warn!(name = name.0, upstream = group.conf.name, problem, "upstream not found by name");
                }
            }
        }
        if group.resolved(&base.registry, &found) {
            tracing::info!(upstream = group.conf.name, members = group.members().len(), "upstream has new addresses");
        }
        let is_empty = group.members().is_empty();
        let pause = if is_empty { LOOKUP_AGAIN.min(group.conf.resolve_interval) } else { group.conf.resolve_interval };
        tokio::time::sleep(pause).await;
    }
}

/// Reads the authorities of a group again whenever their file has changed.
async fn reread(group: Arc<Group>) {
    loop {
        tokio::time::sleep(REREAD_PERIOD).await;
        let group = Arc::clone(&group);
        // A worker that ends takes its blocking work with it: then nobody waits for the answer.
        let _ = tokio::task::spawn_blocking(move || group.reload_authorities()).await;
    }
}

/// The addresses of a name, in an order that only they decide.
async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    match timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let mut addresses: Vec<SocketAddr> = found.collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses.truncate(ADDRESSES_MAX);
            if addresses.is_empty() { Err("no address".to_owned()) } else { Ok(addresses) }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the look-up took too long".to_owned()),
    }
}

/// Checks on all members of a group at a time, once per interval.
async fn watch(base: Arc<Base>, group: Arc<Group>, check: HealthCheck) {
    let client = Client::new(ClientSettings {
        connect_timeout: check.timeout,
        head_timeout: check.timeout,
        // A check is to find out whether a connection can be opened as well.
        pool_idle_max: 0,
        ..ClientSettings::default()
    });
    let mut ticks = interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut checks = JoinSet::new();
        for member in group.members().iter() {
            let (mut client, check, upstream) = (client.clone(), check.clone(), Arc::clone(&member.upstream));
            let host = member.tls.as_ref().and_then(ClientTls::name);
            if let Some(tls) = &member.tls {
                client = client.over_tls(tls.clone());
            }
            if member.http2 {
                client = client.over_http2();
            }
            checks.spawn_local(async move {
                let is_well = is_well(&client, &check, &upstream, host).await;
                (upstream, is_well)
            });
        }
        while let Some(done) = checks.join_next().await {
            let Ok((upstream, is_well)) = done else { continue };
            let Some(is_well) = upstream.health.checked(is_well, &check, base.now_ms()) else { continue };
            group.has_room_again();
            if is_well {
                tracing::info!(upstream = %upstream.address, "upstream passes its checks again");
            } else {
                tracing::warn!(upstream = %upstream.address, "upstream fails its checks");
            }
        }
    }
}

/// Whether an upstream answers as it should, asked by the name in its certificate if there is one.
async fn is_well(client: &Client, check: &HealthCheck, upstream: &Upstream, host: Option<String>) -> bool {
    let mut fields = Fields::new();
    let named = fields
        .append("host", host.unwrap_or_else(|| upstream.address.to_string()))
        .and_then(|()| fields.append("user-agent", "weaprous-health-check"));
    if named.is_err() {
        return false;
    }
    let request = OutgoingRequest { method: Method::Get, target: check.path.clone(), fields, body: Body::Empty };
    match timeout(check.timeout, client.send(upstream.address, request)).await {
        Ok(Ok((head, _))) => (check.status.0..=check.status.1).contains(&head.status().as_u16()),
        Ok(Err(_)) | Err(_) => false,
    }
}
