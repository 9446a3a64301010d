//! What a hostile other side may try. It costs it the link, and nothing else happens.

use crate::desk::{Desk, Person, closed, deliver, roster};
use chat::{NUMBER_MAX, Signature, StoreError};
use p2p::frame::Frame;
use p2p::limits::{CHANNELS_PER_LINK_MAX, FRAME_BYTES_MAX, MARKS_PER_FRAME_MAX, WANTS_MAX, WINDOW_BYTES};
use p2p::{Limits, LinkId, Output, Reason};

fn people() -> (Person, Person, Person) {
    (Person::new("alice", 1), Person::new("bob", 2), Person::new("carol", 3))
}

/// Alice's node with Bob on link 1, `general` open.
fn alice_with_bob() -> (Person, Person, Person, Desk) {
    let (alice, bob, carol) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    desk.open(1, &bob, "general");
    (alice, bob, carol, desk)
}

/// Feeds bytes on Bob's link and tells why it was closed; checks that a closed link says goodbye and is forgotten.
fn feed(desk: &mut Desk, bytes: &[u8]) -> Option<Reason> {
    desk.node.handle_bytes(LinkId(1), bytes, desk.now_ms);
    let (frames, outputs) = desk.take();
    let reason = closed(&outputs);
    if let Some(reason) = &reason {
        assert_eq!(frames.last(), Some(&Frame::Bye { reason: reason.to_string() }));
        desk.node.handle_bytes(LinkId(1), &Frame::Ping.to_bytes(), desk.now_ms);
        assert!(desk.outputs().is_empty(), "a closed link is deaf");
        assert_eq!(desk.node.links().count(), 0);
    }
    reason
}

#[test]
fn who_may_not_connect_is_told_why() {
    let (alice, bob, carol) = people();
    let check = |remote: &Person, expected: Reason| {
        let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
        desk.up(1, remote);
        let (frames, outputs) = desk.take();
        assert_eq!(closed(&outputs), Some(expected.clone()));
        assert_eq!(frames, [Frame::Bye { reason: expected.to_string() }], "a stranger learns nothing else");
    };
    check(&alice, Reason::SameDevice);
    check(&carol, Reason::UnknownDevice);
}

#[test]
fn links_are_limited() {
    let (alice, bob, _) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    for link in 0..Limits::default().links_max as u64 {
        desk.up(link, &bob);
    }
    assert_eq!(closed(&desk.outputs()), None);
    desk.up(10_000, &bob);
    assert_eq!(closed(&desk.outputs()), Some(Reason::TooManyLinks));
}

#[test]
fn before_hello_nothing_else_goes() {
    let (alice, bob, carol) = people();
    let hello = |v, device: &Person| Frame::Hello { v, device: device.id() }.to_bytes();
    let cases = [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Reason::Protocol("not a frame")),
        (vec![0xff; 100_000], Reason::Protocol("not a frame")),
        (vec![0; 4], Reason::Protocol("not a frame")),
        (Frame::Ping.to_bytes(), Reason::Protocol("a frame before hello")),
        (
            Frame::Open { channel: "general".parse().unwrap(), version: 1 }.to_bytes(),
            Reason::Protocol("a frame before hello"),
        ),
        (hello(2, &bob), Reason::Version(2)),
        (hello(1, &carol), Reason::WrongDevice),
        ([hello(1, &bob), hello(1, &bob)].concat(), Reason::Protocol("a second hello")),
    ];
    for (bytes, expected) in cases {
        let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
        desk.up(1, &bob);
        desk.outputs();
        assert_eq!(feed(&mut desk, &bytes), Some(expected));
    }
}

#[test]
fn broken_rules_close_the_link() {
    let general = || "general".parse().unwrap();
    let (_, bob, ..) = alice_with_bob();
    let good = bob.draft("general", "hello");
    let forged = Frame::Deliver { signature: Signature([7; 64]), bytes: good.bytes().to_vec() };
    let changed = good.text().replace("hello", "hullo").into_bytes();
    let changed = Frame::Deliver { signature: good.signature(), bytes: changed };
    let spaced = Frame::Deliver { signature: good.signature(), bytes: format!("{} ", good.text()).into_bytes() };
    let want = |from_n, limit| Frame::Want { channel: general(), device: bob.id(), from_n, limit };
    let acknowledge = |taken| Frame::Acknowledge { channel: general(), device: bob.id(), n: 0, taken, known: false };
    let given = Frame::Given { channel: general(), device: bob.id(), n: 1, held: 1 };
    let marks = vec![(bob.id(), 1); MARKS_PER_FRAME_MAX + 1];
    let cases = [
        (((FRAME_BYTES_MAX + 1) as u32).to_be_bytes().to_vec(), Reason::Protocol("not a frame")),
        (vec![0, 0, 0, 1, 99], Reason::Protocol("not a frame")),
        (forged.to_bytes(), Reason::Forged),
        (changed.to_bytes(), Reason::Forged),
        (spaced.to_bytes(), Reason::Protocol("not an envelope")),
        (
            Frame::Deliver { signature: Signature([0; 64]), bytes: vec![] }.to_bytes(),
            Reason::Protocol("not an envelope"),
        ),
        (want(0, 1).to_bytes(), Reason::Protocol("a want of nothing")),
        (want(NUMBER_MAX + 1, 1).to_bytes(), Reason::Protocol("a want of nothing")),
        (want(1, 0).to_bytes(), Reason::Protocol("a want of nothing")),
        (acknowledge(1).to_bytes(), Reason::Protocol("acknowledged what was not sent")),
        (acknowledge(u64::MAX).to_bytes(), Reason::Protocol("acknowledged what was not sent")),
        (given.to_bytes(), Reason::Protocol("given without want")),
        (
            Frame::Roster { signature: Signature([0; 64]), bytes: b"{}".to_vec() }.to_bytes(),
            Reason::Protocol("a roster that nobody asked for"),
        ),
        (Frame::Marks { channel: general(), marks }.to_bytes(), Reason::Flooded("marks")),
    ];
    for (bytes, expected) in cases {
        let (.., mut desk) = alice_with_bob();
        assert_eq!(feed(&mut desk, &bytes), Some(expected));
    }
}

#[test]
fn floods_close_the_link() {
    let (_, mut bob, _, mut desk) = alice_with_bob();
    let wants: Vec<u8> = (0..=WANTS_MAX as u64)
        .flat_map(|_| {
            Frame::Want { channel: "general".parse().unwrap(), device: bob.id(), from_n: 1, limit: 1 }.to_bytes()
        })
        .collect();
    assert_eq!(feed(&mut desk, &wants), Some(Reason::Flooded("wants")));

    let (.., mut desk) = alice_with_bob();
    let opens: Vec<u8> = (0..=CHANNELS_PER_LINK_MAX)
        .flat_map(|number| Frame::Open { channel: format!("c{number}").parse().unwrap(), version: 1 }.to_bytes())
        .collect();
    assert_eq!(feed(&mut desk, &opens), Some(Reason::Flooded("channels")));

    // more deliveries than the window holds, while the storage has not answered
    let (.., mut desk) = alice_with_bob();
    let text = "x".repeat(16_000);
    let mut sent = 0;
    let reason = loop {
        let bytes = deliver(&bob.write("general", &text)).to_bytes();
        sent += bytes.len();
        if let Some(reason) = feed(&mut desk, &bytes) {
            break reason;
        }
        assert!(sent <= WINDOW_BYTES && desk.node.buffered_bytes() <= 2 * WINDOW_BYTES);
    };
    assert_eq!(reason, Reason::Flooded("deliveries"));
    assert!(sent > WINDOW_BYTES);
}

#[test]
fn what_the_roster_does_not_allow_is_not_believed() {
    let (_, bob, carol, mut desk) = alice_with_bob();
    // Carol is in no roster here; Bob passes her words on, and writes into channels that are not open, or as Alice
    let as_alice = Person { name: "alice", key: bob.key.clone(), disk: crate::disk::Disk::default() };
    let cases =
        [carol.draft("general", "let me in"), bob.draft("club", "psst"), as_alice.draft("general", "I am Alice")];
    for (taken, sealed) in (1..).zip(&cases) {
        desk.feed(1, &deliver(sealed));
        let (frames, outputs) = desk.take();
        assert!(outputs.is_empty(), "not stored: {outputs:?}");
        let envelope = sealed.envelope();
        let (channel, device) = (envelope.channel.clone(), envelope.device);
        assert_eq!(frames, [Frame::Acknowledge { channel, device, n: 0, taken, known: false }]);
    }
}

#[test]
fn false_marks_bring_no_endless_questions() {
    let (_, bob, _, mut desk) = alice_with_bob();
    let channel: chat::ChannelName = "general".parse().unwrap();
    desk.feed(1, &Frame::Marks { channel: channel.clone(), marks: vec![(bob.id(), NUMBER_MAX)] });
    let (frames, _) = desk.take();
    assert!(matches!(frames[..], [Frame::Want { from_n: 1, .. }]), "{frames:?}");
    desk.feed(1, &Frame::Given { channel: channel.clone(), device: bob.id(), n: 500, held: NUMBER_MAX });
    assert_eq!(desk.take(), (vec![], vec![]), "whoever gives nothing is not asked again");

    // nobody in the roster has this device: its mark is not even noted
    let stranger = Person::new("mallory", 9);
    desk.feed(1, &Frame::Marks { channel, marks: vec![(stranger.id(), 5)] });
    assert_eq!(desk.take(), (vec![], vec![]));
}

#[test]
fn a_want_of_what_is_not_shared_is_answered_with_nothing() {
    let (_, bob, carol, mut desk) = alice_with_bob();
    for (channel, device) in [("general", carol.id()), ("club", bob.id())] {
        let channel: chat::ChannelName = channel.parse().unwrap();
        desk.feed(1, &Frame::Want { channel: channel.clone(), device, from_n: 3, limit: 9 });
        assert_eq!(desk.take(), (vec![Frame::Given { channel, device, n: 2, held: 0 }], vec![]));
    }
}

#[test]
fn whoever_stalls_is_given_up() {
    let limits = Limits::default();
    // no hello
    let (alice, bob, _) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    desk.up(1, &bob);
    desk.outputs();
    assert_eq!(desk.node.poll_timeout(), Some(limits.hello_timeout_ms));
    desk.node.handle_bytes(LinkId(1), &[0, 0, 0], 1_000);
    desk.node.handle_timeout(limits.hello_timeout_ms - 1);
    assert_eq!(closed(&desk.outputs()), None);
    desk.node.handle_timeout(limits.hello_timeout_ms);
    assert_eq!(closed(&desk.outputs()), Some(Reason::NoHello));
    assert_eq!(desk.node.poll_timeout(), None);

    // silence
    let (.., mut desk) = alice_with_bob();
    assert_eq!(desk.node.poll_timeout(), Some(limits.ping_after_ms));
    desk.node.handle_timeout(limits.ping_after_ms);
    assert_eq!(desk.take().0, [Frame::Ping]);
    assert_eq!(desk.node.poll_timeout(), Some(limits.silent_max_ms));
    desk.node.handle_timeout(limits.silent_max_ms);
    assert_eq!(closed(&desk.outputs()), Some(Reason::Stalled));

    // takes everything, answers pings, acknowledges nothing
    let (mut alice, _, _, mut desk) = alice_with_bob();
    desk.node.handle_local(&alice.write("general", "hello"), 0);
    desk.outputs();
    for now_ms in (0..limits.acknowledge_timeout_ms).step_by(5_000) {
        desk.node.handle_bytes(LinkId(1), &Frame::Pong.to_bytes(), now_ms);
        desk.node.handle_timeout(now_ms);
        assert_eq!(closed(&desk.outputs()), None);
    }
    desk.node.handle_timeout(limits.acknowledge_timeout_ms);
    assert_eq!(closed(&desk.outputs()), Some(Reason::Stalled));
}

#[test]
fn a_want_that_brings_nothing_goes_to_somebody_else() {
    let (alice, bob, mut carol) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob, &carol])]);
    desk.open(1, &bob, "general");
    desk.open(2, &carol, "general");
    carol.write("general", "one");
    let channel: chat::ChannelName = "general".parse().unwrap();
    let marks = Frame::Marks { channel: channel.clone(), marks: vec![(carol.id(), 1)] };
    desk.feed(1, &marks);
    desk.feed(2, &marks);
    let wants = |desk: &mut Desk| {
        desk.outputs()
            .into_iter()
            .filter_map(|output| match output {
                Output::Send { link, bytes } if bytes[4] == 7 => Some(link),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(wants(&mut desk), [LinkId(1)], "one at a time");
    let late_ms = Limits::default().want_timeout_ms;
    for link in [1, 2] {
        desk.node.handle_bytes(LinkId(link), &Frame::Ping.to_bytes(), late_ms - 1);
    }
    desk.outputs();
    desk.node.handle_timeout(late_ms);
    assert_eq!(wants(&mut desk), [LinkId(2)]);
}

#[test]
fn typing_is_heeded_seldom() {
    let (_, bob, _, mut desk) = alice_with_bob();
    let typing = Frame::Typing { channel: "general".parse().unwrap() };
    let mut heeded = 0;
    for now_ms in 0..4_000 {
        desk.node.handle_bytes(LinkId(1), &typing.to_bytes(), now_ms);
        heeded += desk
            .outputs()
            .iter()
            .filter(|output| matches!(output, Output::Typing { device, .. } if *device == bob.id()))
            .count();
    }
    assert_eq!(heeded, 2);
}

#[test]
fn a_want_is_answered_even_when_the_storage_fails() {
    let (mut alice, bob, _) = people();
    let channel = alice.write("general", "hello").envelope().channel.clone();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    desk.open(1, &bob, "general");
    desk.feed(1, &Frame::Want { channel: channel.clone(), device: alice.id(), from_n: 1, limit: 9 });
    let (_, outputs) = desk.take();
    assert!(matches!(outputs[..], [Output::Read { from_n: 1, limit: 9, .. }]));
    desk.node.handle_read(LinkId(1), Err(StoreError::Busy), 0);
    assert_eq!(desk.take().0, [Frame::Given { channel: channel.clone(), device: alice.id(), n: 0, held: 1 }]);
    // later it is announced again, so that it is wanted again
    let retry_ms = desk.node.poll_timeout().unwrap();
    desk.node.handle_timeout(retry_ms);
    assert_eq!(desk.take().0, [Frame::Marks { channel, marks: vec![(alice.id(), 1)] }, Frame::Ping]);
}
