//! Scenes: what is said and done in the plain cases, frame by frame.

use crate::desk::{Desk, Person, closed, deliver, roster};
use chat::ChannelName;
use p2p::frame::Frame;
use p2p::limits::WINDOW_BYTES;
use p2p::{Limits, LinkId, Output, Reason};

fn general() -> ChannelName {
    "general".parse().unwrap()
}

fn people() -> (Person, Person, Person) {
    (Person::new("alice", 1), Person::new("bob", 2), Person::new("carol", 3))
}

fn marks(person: &Person, n: u64) -> Frame {
    Frame::Marks { channel: general(), marks: vec![(person.id(), n)] }
}

fn acknowledge(person: &Person, n: u64, taken: u64) -> Frame {
    Frame::Acknowledge { channel: general(), device: person.id(), n, taken, known: false }
}

#[test]
fn a_link_starts_with_hello_open_and_marks() {
    let (mut alice, bob, carol) = people();
    alice.write("general", "one");
    alice.write("general", "two");
    let rosters = [roster("general", 4, &[&alice, &bob]), roster("secret", 1, &[&alice, &carol])];
    let mut desk = Desk::new(&alice, &rosters);
    desk.up(1, &bob);
    let open = |version| Frame::Open { channel: general(), version };
    // Bob hears nothing of the channel that he is not in
    assert_eq!(desk.take().0, [Frame::Hello { v: 1, device: alice.id() }, open(4)]);
    desk.feed(1, &Frame::Hello { v: 1, device: bob.id() });
    assert_eq!(desk.take(), (vec![], vec![Output::Ready { link: LinkId(1), device: bob.id() }]));
    desk.feed(1, &open(4));
    assert_eq!(desk.take().0, [marks(&alice, 2), Frame::Ping]);
    assert_eq!(desk.node.links().collect::<Vec<_>>(), [(LinkId(1), bob.id())]);
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable() {
    let (mut alice, mut bob, _) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    desk.open(1, &bob, "general");
    let (one, two) = (bob.write("general", "one"), bob.write("general", "two"));
    desk.feed(1, &deliver(&one));
    let (frames, first) = desk.take();
    assert_eq!(frames, [], "not on disk yet");
    assert!(matches!(&first[..], [Output::Store { arrivals }] if arrivals[0].sealed == one));
    desk.feed(1, &deliver(&two));
    assert_eq!(desk.take(), (vec![], vec![]), "one store at a time");
    desk.store(&mut alice.disk, &first);
    let (frames, second) = desk.take();
    assert_eq!(frames, [acknowledge(&bob, 1, 1)]);
    desk.store(&mut alice.disk, &second);
    assert_eq!(desk.take().0, [acknowledge(&bob, 2, 2)]);
}

#[test]
fn a_failed_store_is_not_acknowledged_and_tried_again() {
    let (alice, mut bob, _) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    desk.open(1, &bob, "general");
    desk.feed(1, &deliver(&bob.write("general", "one")));
    desk.outputs();
    desk.node.handle_stored(Err(chat::StoreError::Busy), 0);
    assert_eq!(desk.take().0, [acknowledge(&bob, 0, 1)], "done with, and not held");
    let retry_ms = desk.node.poll_timeout().unwrap();
    assert_eq!(retry_ms, Limits::default().storage_retry_ms);
    desk.node.handle_timeout(retry_ms);
    let (frames, _) = desk.take();
    assert!(matches!(frames[..], [Frame::Want { from_n: 1, .. }]), "{frames:?}");
}

#[test]
fn own_words_are_pushed_and_their_acknowledgement_surfaces() {
    let (mut alice, bob, _) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    desk.open(1, &bob, "general");
    let one = alice.write("general", "one");
    desk.node.handle_local(&one, 0);
    assert_eq!(desk.take().0, [deliver(&one)]);
    desk.feed(1, &acknowledge(&alice, 1, 1));
    let acknowledged = Output::Acknowledged { channel: general(), device: alice.id(), n: 1, by: bob.id() };
    assert_eq!(desk.take(), (vec![], vec![acknowledged]));
    desk.feed(1, &acknowledge(&alice, 1, 1));
    assert_eq!(desk.take(), (vec![], vec![]), "said once");
}

#[test]
fn marks_acknowledge_what_a_broken_link_did_not() {
    let (mut alice, bob, _) = people();
    alice.write("general", "one");
    alice.write("general", "two");
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    desk.open(1, &bob, "general");
    desk.feed(1, &marks(&alice, 7));
    let (_, outputs) = desk.take();
    // Bob holds more of Alice's chain than she does: only what she knows of is acknowledged, the rest is wanted
    let n = 2;
    assert_eq!(outputs, [Output::Acknowledged { channel: general(), device: alice.id(), n, by: bob.id() }]);
}

#[test]
fn the_author_learns_who_has_what_came_another_way() {
    let (mut alice, mut bob, _) = people();
    let mut words: Vec<_> = (0..3).map(|number| alice.write("general", &number.to_string())).collect();
    bob.disk.insert(&words[0]).unwrap();
    let roster = roster("general", 1, &[&alice, &bob]);
    let mut desk = Desk::new(&bob, &[roster]);
    desk.open(1, &alice, "general");
    // alice says what she has, but bob has it from the tracker before she can deliver it
    desk.node.handle_local(&words.remove(1), 10);
    desk.now_ms = 20;
    desk.feed(1, &marks(&alice, 2));
    desk.node.handle_timeout(200);
    assert_eq!(desk.take().0, [marks(&alice, 2), Frame::Ping]);
    // and also when her marks come first
    desk.feed(1, &Frame::Pong);
    desk.feed(1, &marks(&alice, 3));
    desk.take();
    desk.node.handle_local(&words.remove(1), 210);
    desk.node.handle_timeout(400);
    assert_eq!(desk.take().0, [marks(&alice, 3), Frame::Ping]);
}

#[test]
fn a_gap_is_wanted_before_what_follows_it() {
    let (mut alice, mut bob, _) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    desk.open(1, &bob, "general");
    let (one, two, three) = (bob.write("general", "1"), bob.write("general", "2"), bob.write("general", "3"));
    desk.feed(1, &deliver(&three));
    let (frames, outputs) = desk.take();
    assert_eq!(outputs, [], "what does not follow is not stored");
    assert!(
        matches!(&frames[..], [Frame::Acknowledge { n: 0, taken: 1, .. }, Frame::Want { from_n: 1, device, .. }]
            if *device == bob.id()),
        "{frames:?}"
    );
    for sealed in [&one, &two, &three] {
        desk.feed(1, &deliver(sealed));
    }
    desk.feed(1, &Frame::Given { channel: general(), device: bob.id(), n: 3, held: 3 });
    for _ in 0..3 {
        let (_, outputs) = desk.take();
        desk.store(&mut alice.disk, &outputs);
    }
    assert_eq!(alice.disk.display(&general()), [one.id(), two.id(), three.id()]);
}

#[test]
fn bob_gives_carol_what_alice_wrote() {
    let (mut alice, mut bob, carol) = people();
    let mut desk = Desk::new(&bob, &[roster("general", 1, &[&alice, &bob, &carol])]);
    desk.open(1, &alice, "general");
    desk.open(2, &carol, "general");
    let one = alice.write("general", "one");
    desk.feed(1, &deliver(&one));
    let (_, outputs) = desk.take();
    desk.store(&mut bob.disk, &outputs);
    let sent: Vec<_> = desk.outputs();
    let to = |link, frame: &Frame| Output::Send { link: LinkId(link), bytes: frame.to_bytes() };
    assert_eq!(sent, [to(2, &deliver(&one)), to(1, &acknowledge(&alice, 1, 1))], "and not back to Alice");

    // Carol had it already: from now on she is told, not sent
    let known = Frame::Acknowledge { channel: general(), device: alice.id(), n: 1, taken: 1, known: true };
    desk.feed(2, &known);
    let two = alice.write("general", "two");
    desk.feed(1, &deliver(&two));
    let (_, outputs) = desk.take();
    desk.store(&mut bob.disk, &outputs);
    assert_eq!(desk.take().0, [acknowledge(&alice, 2, 2)]);
    desk.node.handle_timeout(Limits::default().announce_delay_ms);
    assert_eq!(desk.take().0, [marks(&alice, 2), Frame::Ping]);

    // she lacks it after all, and is sent the next ones again
    desk.feed(2, &Frame::Want { channel: general(), device: alice.id(), from_n: 2, limit: 10 });
    let (_, outputs) = desk.take();
    assert!(matches!(outputs[..], [Output::Read { link: LinkId(2), from_n: 2, .. }]));
    desk.node.handle_read(LinkId(2), Ok(bob.disk.read(&general(), alice.id(), 2, 10)), 200);
    let given = Frame::Given { channel: general(), device: alice.id(), n: 2, held: 2 };
    assert_eq!(desk.take().0, [deliver(&two), given]);
    desk.feed(1, &deliver(&alice.write("general", "three")));
    let (_, outputs) = desk.take();
    desk.store(&mut bob.disk, &outputs);
    assert!(desk.take().0.iter().any(|frame| matches!(frame, Frame::Deliver { .. })));
}

#[test]
fn what_is_known_is_neither_stored_nor_sent_again() {
    let (mut alice, mut bob, carol) = people();
    let mut desk = Desk::new(&bob, &[roster("general", 1, &[&alice, &bob, &carol])]);
    desk.open(1, &alice, "general");
    desk.open(2, &carol, "general");
    let one = alice.write("general", "one");
    desk.feed(2, &deliver(&one));
    let (_, outputs) = desk.take();
    // the author's own copy comes while the first one is on its way to the disk
    desk.feed(1, &deliver(&one));
    assert_eq!(desk.take(), (vec![], vec![]), "neither stored twice nor acknowledged early");
    desk.store(&mut bob.disk, &outputs);
    let sent = desk.outputs();
    let known = Frame::Acknowledge { channel: general(), device: alice.id(), n: 1, taken: 1, known: true };
    let to = |link, frame: &Frame| Output::Send { link: LinkId(link), bytes: frame.to_bytes() };
    assert_eq!(sent, [to(1, &known), to(2, &acknowledge(&alice, 1, 1))]);
}

#[test]
fn no_more_than_the_window_is_under_way() {
    let (mut alice, bob, _) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    desk.open(1, &bob, "general");
    let text = "x".repeat(10_000);
    for _ in 0..60 {
        desk.node.handle_local(&alice.write("general", &text), 0);
    }
    let (frames, _) = desk.take();
    let bytes: usize = frames.iter().map(|frame| frame.to_bytes().len()).sum();
    assert!(bytes <= WINDOW_BYTES && bytes > WINDOW_BYTES - 11_000, "{bytes}");
    // the rest is announced; Bob wants it once he has room
    let pushed = frames.len() as u64;
    desk.feed(1, &acknowledge(&alice, pushed, pushed));
    desk.node.handle_timeout(Limits::default().announce_delay_ms);
    assert_eq!(desk.take().0, [marks(&alice, 60), Frame::Ping]);
    desk.feed(1, &Frame::Want { channel: general(), device: alice.id(), from_n: pushed + 1, limit: 200 });
    desk.outputs();
    desk.node.handle_read(LinkId(1), Ok(alice.disk.read(&general(), alice.id(), pushed + 1, 200)), 0);
    let (frames, _) = desk.take();
    let Some(Frame::Given { n, held: 60, .. }) = frames.last() else { panic!("{frames:?}") };
    assert_eq!(*n, pushed + frames.len() as u64 - 1);
    assert!(*n < 60, "the window holds for wants, too");
}

#[test]
fn news_waits_until_the_last_news_was_read() {
    let (alice, bob, mut carol) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob, &carol])]);
    desk.open(1, &bob, "general");
    desk.node.handle_local(&carol.write("general", "1"), 0);
    desk.node.handle_timeout(100);
    assert_eq!(desk.take().0, [marks(&carol, 1), Frame::Ping]);
    for (now_ms, text) in (200..2_200).zip(["2", "3", "4", "5"].iter().cycle()) {
        desk.node.handle_local(&carol.write("general", text), now_ms);
        desk.node.handle_timeout(now_ms);
    }
    assert_eq!(desk.take().0, [], "Bob has not read the first mark");
    desk.feed(1, &Frame::Pong);
    desk.node.handle_timeout(2_200);
    assert_eq!(desk.take().0, [marks(&carol, 2_001), Frame::Ping], "one mark for all of it");
}

#[test]
fn a_roster_opens_and_shuts_channels_on_a_live_link() {
    let (alice, mut bob, carol) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob]), roster("club", 1, &[&alice])]);
    desk.open(1, &bob, "general");
    let club: ChannelName = "club".parse().unwrap();
    desk.node.handle_roster(roster("club", 2, &[&alice, &bob]), 0);
    assert_eq!(desk.take().0, [Frame::Open { channel: club.clone(), version: 2 }]);
    desk.feed(1, &Frame::Open { channel: club.clone(), version: 2 });
    desk.feed(1, &deliver(&bob.write("club", "in")));
    assert!(matches!(desk.take().1[..], [Output::Store { .. }]));

    desk.node.handle_roster(roster("club", 1, &[&alice]), 0);
    assert_eq!(desk.take().0, [], "an older roster changes nothing");
    desk.node.handle_roster(roster("club", 3, &[&alice, &carol]), 0);
    assert_eq!(desk.take().0, [Frame::Shut { channel: club.clone() }]);
    desk.node.handle_stored(Ok(vec![Ok(chat::Inserted::New)]), 0);
    desk.take();
    desk.feed(1, &deliver(&bob.write("club", "still there?")));
    assert!(desk.take().1.is_empty(), "not believed any more");

    desk.node.handle_channel_lost(&general(), 0);
    assert_eq!(closed(&desk.outputs()), Some(Reason::UnknownDevice), "nothing is shared any more");
}

#[test]
fn the_side_with_the_older_roster_asks_for_the_newer_one() {
    let (alice, bob, carol) = people();
    let newer = roster("general", 2, &[&alice, &bob, &carol]);
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    desk.up(1, &bob);
    desk.feed(1, &Frame::Hello { v: 1, device: bob.id() });
    desk.outputs();
    let open = Frame::Open { channel: general(), version: 2 };
    desk.feed(1, &open);
    assert_eq!(desk.take().0, [Frame::WantRoster { channel: general() }]);
    desk.feed(1, &open);
    assert_eq!(desk.take().0, [], "asked once");
    let frame = Frame::Roster { signature: newer.signature(), bytes: newer.bytes().to_vec() };
    desk.feed(1, &frame);
    let (_, outputs) = desk.take();
    assert!(matches!(&outputs[..], [Output::Roster { bytes, .. }] if bytes == newer.bytes()));
    // believed only once the program says so
    desk.node.handle_roster(newer, 0);
    assert_eq!(desk.take().0, [Frame::Open { channel: general(), version: 2 }]);
    desk.feed(1, &Frame::WantRoster { channel: general() });
    assert_eq!(desk.take().0, [frame]);
    desk.feed(1, &Frame::WantRoster { channel: general() });
    assert_eq!(desk.take().0, [], "handed over once");
}

#[test]
fn a_newer_roster_has_the_marks_told_again() {
    let (mut alice, bob, mut carol) = people();
    alice.disk.insert(&carol.write("general", "one")).unwrap();
    let mut desk = Desk::new(&alice, &[roster("general", 2, &[&alice, &bob, &carol])]);
    desk.up(1, &bob);
    desk.feed(1, &Frame::Hello { v: 1, device: bob.id() });
    desk.outputs();
    desk.feed(1, &Frame::Open { channel: general(), version: 1 });
    assert_eq!(desk.take().0, [marks(&carol, 1), Frame::Ping]);
    desk.feed(1, &Frame::Pong);
    // Bob could not know whose mark that was before he had the newer roster
    desk.feed(1, &Frame::Open { channel: general(), version: 2 });
    assert_eq!(desk.take().0, [marks(&carol, 1), Frame::Ping]);
}

#[test]
fn whoever_answers_late_is_asked_again() {
    let (alice, bob, _) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    desk.open(1, &bob, "general");
    desk.feed(1, &marks(&bob, 3));
    assert!(matches!(desk.take().0[..], [Frame::Want { from_n: 1, .. }]));
    desk.now_ms = Limits::default().want_timeout_ms;
    desk.feed(1, &Frame::Pong);
    desk.node.handle_timeout(desk.now_ms);
    assert_eq!(desk.take(), (vec![], vec![]), "passed over, and there is nobody else");
    desk.feed(1, &Frame::Given { channel: general(), device: bob.id(), n: 0, held: 3 });
    assert!(matches!(desk.take().0[..], [Frame::Want { from_n: 1, .. }]));
}

#[test]
fn a_forked_chain_is_reported_and_not_asked_for_again() {
    let (mut alice, mut bob, _) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    // Bob's first life is known here; in his second one he started anew
    alice.disk.insert(&bob.write("general", "first life")).unwrap();
    desk.node.handle_heads(alice.disk.heads());
    let mut again = Person::new("bob", 2);
    again.write("general", "second life");
    let second = again.write("general", "and on");
    desk.open(1, &bob, "general");
    desk.feed(1, &deliver(&second));
    let (_, outputs) = desk.take();
    desk.store(&mut alice.disk, &outputs);
    let (frames, outputs) = desk.take();
    assert_eq!(frames, [acknowledge(&bob, 1, 1)], "no more than before");
    assert_eq!(outputs, [Output::Forked { link: LinkId(1), channel: general(), device: bob.id() }]);
    desk.feed(1, &marks(&bob, 9));
    assert_eq!(desk.take(), (vec![], vec![]));
}

#[test]
fn goodbye_is_said_and_heard() {
    let (alice, bob, _) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
    desk.open(1, &bob, "general");
    desk.feed(1, &Frame::Bye { reason: "off to bed".to_owned() });
    assert_eq!(
        desk.take(),
        (vec![], vec![Output::Close { link: LinkId(1), reason: Reason::Bye("off to bed".to_owned()) }])
    );
    desk.open(2, &bob, "general");
    desk.node.handle_stop();
    let (frames, outputs) = desk.take();
    assert_eq!(frames, [Frame::Bye { reason: Reason::Stopping.to_string() }]);
    assert_eq!(closed(&outputs), Some(Reason::Stopping));
}

#[test]
fn typing_goes_to_open_links_and_not_too_often() {
    let (alice, bob, carol) = people();
    let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob]), roster("club", 1, &[&alice, &carol])]);
    desk.open(1, &bob, "general");
    desk.open(2, &carol, "club");
    let typing = Output::Send { link: LinkId(1), bytes: Frame::Typing { channel: general() }.to_bytes() };
    for (now_ms, expected) in [(0, Some(&typing)), (1, None), (1_999, None), (2_000, Some(&typing))] {
        desk.node.handle_typing(&general(), now_ms);
        assert_eq!(desk.outputs().first(), expected, "at {now_ms}");
    }
}

#[test]
fn bytes_may_come_split_anyhow() {
    let (alice, mut bob, _) = people();
    let stream: Vec<u8> = [
        Frame::Hello { v: 1, device: bob.id() },
        Frame::Open { channel: general(), version: 1 },
        Frame::Pong,
        deliver(&bob.write("general", "one")),
        marks(&bob, 1),
    ]
    .iter()
    .flat_map(Frame::to_bytes)
    .collect();
    let run = |pieces: &[&[u8]]| {
        let mut desk = Desk::new(&alice, &[roster("general", 1, &[&alice, &bob])]);
        desk.up(1, &bob);
        for piece in pieces {
            desk.node.handle_bytes(LinkId(1), piece, 0);
        }
        desk.take()
    };
    let whole = run(&[&stream]);
    assert!(whole.1.iter().any(|output| matches!(output, Output::Store { .. })));
    for at in 0..=stream.len() {
        let (head, tail) = stream.split_at(at);
        assert_eq!(run(&[head, tail]), whole, "split at {at}");
    }
    assert_eq!(run(&stream.chunks(1).collect::<Vec<_>>()), whole);
}
