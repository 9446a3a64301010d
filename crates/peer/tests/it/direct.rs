//! Peers among themselves, no tracker anywhere.

use chat::client::{Command, Notice};
use chat::{Path, TrackerKey};

use crate::stage::{Actor, Running, channel, held, roster, roster_of, user};

fn tracker() -> TrackerKey {
    TrackerKey::from_seed([200; 32])
}

/// Runs actors who are all in `general`; each knows the addresses of those before it.
async fn run_all(actors: &[&Actor]) -> Vec<Running> {
    let roster = roster(&tracker(), 1, actors);
    let mut running: Vec<Running> = Vec::new();
    for actor in actors {
        actor.believe(&tracker(), &roster).await;
        for other in &running {
            actor.know_address(other.device, other.listening).await;
        }
        running.push(actor.run().await);
    }
    running
}

#[tokio::test]
async fn two_peers_talk_directly() {
    let (alice, bob) = (Actor::new("alice"), Actor::new("bob"));
    let [mut a, mut b] = run_all(&[&alice, &bob]).await.try_into().ok().unwrap();
    assert_eq!(a.links_with(b.device).await, Path::Direct);
    assert_eq!(b.links_with(a.device).await, Path::Direct);
    a.say("hello bob").await;
    let heard = b.hears("hello bob").await;
    assert_eq!((heard.author, heard.path, heard.mine, heard.hosted), (user("alice"), Path::Direct, false, false));
    a.delivers("hello bob", b.device).await;
    b.say("hello alice").await;
    assert_eq!(a.hears("hello alice").await.path, Path::Direct);
    assert_eq!(held(&alice.history, "general").await, held(&bob.history, "general").await);
}

#[tokio::test]
async fn three_peers_reach_each_other_and_agree_on_the_order() {
    let (alice, bob, carol) = (Actor::new("alice"), Actor::on_disk("bob"), Actor::new("carol"));
    let mut all = run_all(&[&alice, &bob, &carol]).await;
    for round in 0..20 {
        for speaker in &mut all {
            let text = format!("{} {round}", speaker.name);
            speaker.say(&text).await;
        }
    }
    for listener in &mut all {
        for name in ["alice", "bob", "carol"] {
            for round in 0..20 {
                listener.hears(&format!("{name} {round}")).await;
            }
        }
        let mut texts = listener.texts();
        let count = texts.len();
        texts.sort();
        texts.dedup();
        assert_eq!((count, texts.len()), (60, 60), "everything once");
    }
    let order = held(&alice.history, "general").await;
    assert_eq!(order.len(), 60);
    assert_eq!(held(&bob.history, "general").await, order);
    assert_eq!(held(&carol.history, "general").await, order);
}

#[tokio::test]
async fn who_was_away_catches_up_also_on_what_others_said() {
    let (alice, bob, carol) = (Actor::new("alice"), Actor::new("bob"), Actor::new("carol"));
    let all = [&alice, &bob, &carol];
    for actor in all {
        actor.believe(&tracker(), &roster(&tracker(), 1, &all)).await;
    }
    let mut a = alice.run().await;
    bob.know_address(a.device, a.listening).await;
    let mut b = bob.run().await;
    for number in 0..300 {
        a.say(&format!("m{number}")).await;
    }
    b.hears("m299").await;
    a.end().unwrap();
    // carol never met alice: bob passes on what he has
    carol.know_address(b.device, b.listening).await;
    let mut c = carol.run().await;
    c.hears("m299").await;
    assert_eq!(held(&carol.history, "general").await, held(&alice.history, "general").await);
}

#[tokio::test]
async fn a_restarted_peer_has_everything_once() {
    let (alice, bob) = (Actor::new("alice"), Actor::on_disk("bob"));
    let [mut a, mut b] = run_all(&[&alice, &bob]).await.try_into().ok().unwrap();
    b.links_with(a.device).await;
    for number in 0..50 {
        a.say(&format!("m{number}")).await;
    }
    b.hears("m10").await;
    b.end().unwrap();
    for number in 50..100 {
        a.say(&format!("m{number}")).await;
    }
    a.hears("m99").await;
    let mut again = bob.run().await;
    // alice redials bob's old address in vain; bob knows hers and dials
    again.links_with(a.device).await;
    again.hears("m99").await;
    let expected: Vec<String> = (0..100).map(|number| format!("m{number}")).collect();
    assert_eq!(held(&bob.history, "general").await, expected);
    again.say("here again").await;
    a.hears("here again").await;
}

#[tokio::test]
async fn direct_messages_go_to_their_two_users_alone() {
    let (alice, bob, carol) = (Actor::new("alice"), Actor::new("bob"), Actor::new("carol"));
    let direct = roster_of(&tracker(), "@alice+bob", 1, &[&alice, &bob]);
    alice.believe(&tracker(), &direct).await;
    bob.believe(&tracker(), &direct).await;
    let [mut a, mut b, mut c] = run_all(&[&alice, &bob, &carol]).await.try_into().ok().unwrap();
    c.links_with(a.device).await;
    c.links_with(b.device).await;
    a.command(Command::Message { user: user("bob"), text: "psst".to_owned() }).await;
    let heard = b.hears("psst").await;
    assert_eq!(heard.channel, channel("@alice+bob"));
    b.say("now in public").await;
    c.hears("now in public").await;
    assert_eq!(held(&carol.history, "@alice+bob").await, Vec::<String>::new());
    assert_eq!(c.texts(), ["now in public"]);
}

#[tokio::test]
async fn an_address_given_by_hand_is_dialled() {
    let (alice, bob) = (Actor::new("alice"), Actor::new("bob"));
    let roster = roster(&tracker(), 1, &[&alice, &bob]);
    alice.believe(&tracker(), &roster).await;
    bob.believe(&tracker(), &roster).await;
    let (mut a, mut b) = (alice.run().await, bob.run().await);
    a.command(Command::Connect { address: b.listening }).await;
    a.links_with(b.device).await;
    a.say("found you").await;
    b.hears("found you").await;
    a.command(Command::Peers).await;
    let peers = a.find(|notice| if let Notice::Peers(peers) = notice { Some(peers.clone()) } else { None }).await;
    assert_eq!(peers.len(), 1);
    assert_eq!((peers[0].path, peers[0].address), (Some(Path::Direct), Some(b.listening)));
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let alice = Actor::new("alice");
    alice.believe(&tracker(), &roster(&tracker(), 1, &[&alice])).await;
    let mut a = alice.run().await;
    let cases = [
        (Command::Say { channel: channel("nowhere"), text: "x".to_owned() }, "you are not in nowhere"),
        (Command::Say { channel: channel("general"), text: "x".repeat(20_000) }, "a message has 1 to 16384 bytes"),
        (Command::Say { channel: channel("general"), text: String::new() }, "a message has 1 to 16384 bytes"),
        (Command::Message { user: user("alice"), text: "x".to_owned() }, "a direct channel"),
        (Command::Join { channel: channel("@bob+carol") }, "@bob+carol is between others"),
        (Command::Leave { channel: channel("general") }, "general: there is no tracker"),
        (Command::Connect { address: "127.0.0.1:1".parse().unwrap() }, "no link with 127.0.0.1:1"),
    ];
    for (command, expected) in cases {
        a.forget();
        a.command(command).await;
        a.find(|notice| match notice {
            Notice::Trouble { what, .. } if what.starts_with(expected) => Some(()),
            _ => None,
        })
        .await;
    }
}

#[tokio::test]
async fn a_user_interface_that_does_not_listen_holds_nobody_up() {
    let (alice, bob) = (Actor::new("alice"), Actor::new("bob"));
    let [mut a, b] = run_all(&[&alice, &bob]).await.try_into().ok().unwrap();
    a.links_with(b.device).await;
    // nobody takes bob's notices: the channel holds 64 of them
    for number in 0..300 {
        a.say(&format!("m{number}")).await;
    }
    a.delivers("m299", b.device).await;
    assert_eq!(held(&bob.history, "general").await.len(), 300);
}

#[tokio::test]
async fn older_messages_come_in_pages() {
    let alice = Actor::new("alice");
    alice.believe(&tracker(), &roster(&tracker(), 1, &[&alice])).await;
    let mut a = alice.run().await;
    for number in 0..150 {
        a.say(&format!("m{number}")).await;
    }
    a.hears("m149").await;
    let mut before = None;
    let mut counts = Vec::new();
    for expect_more in [true, false] {
        a.forget();
        a.command(Command::Older { channel: channel("general"), before }).await;
        let (entries, more) = a
            .find(|notice| match notice {
                Notice::History { entries, more, .. } => Some((entries.clone(), *more)),
                _ => None,
            })
            .await;
        assert_eq!(more, expect_more);
        before = Some(entries[0].key);
        counts.push(entries.len());
    }
    assert_eq!(counts, [100, 50]);
}
