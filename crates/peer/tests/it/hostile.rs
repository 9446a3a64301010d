//! Strangers, liars and those who say nothing at all.

use std::os::unix::fs::PermissionsExt as _;

use chat::client::{Command, Notice};
use chat::{DeviceKey, TrackerKey};
use peer::PeerError;
use peer::link::{Tcp, Tls, Transport as _};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::stage::{Actor, roster};

fn tracker() -> TrackerKey {
    TrackerKey::from_seed([200; 32])
}

/// Alice and Bob in one channel, Bob to be run by the test.
async fn stage() -> (Actor, Actor) {
    let (alice, bob) = (Actor::new("alice"), Actor::new("bob"));
    let roster = roster(&tracker(), 1, &[&alice, &bob]);
    alice.believe(&tracker(), &roster).await;
    bob.believe(&tracker(), &roster).await;
    (alice, bob)
}

#[tokio::test]
async fn garbage_and_silence_on_the_port_harm_nobody() {
    let (alice, bob) = stage().await;
    let mut a = alice.run().await;
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(TcpStream::connect(a.listening).await.unwrap()); // more than handshakes may be under way
    }
    let mut rude = TcpStream::connect(a.listening).await.unwrap();
    rude.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    bob.know_address(a.device, a.listening).await;
    let mut b = bob.run().await;
    b.links_with(a.device).await;
    b.say("through the noise").await;
    a.hears("through the noise").await;
}

#[tokio::test]
async fn a_stranger_with_a_sound_key_is_told_to_go() {
    let (alice, _) = stage().await;
    let mut a = alice.run().await;
    let stranger = DeviceKey::from_seed([99; 32]);
    let tcp = Tcp::new(Tls::new(&stranger, Duration::from_secs(10)).unwrap());
    let mut link = tcp.dial(a.listening, Some(a.device)).await.unwrap();
    let mut said = Vec::new();
    link.stream.read_to_end(&mut said).await.unwrap();
    assert!(String::from_utf8_lossy(&said).contains("no channel is shared"), "{said:?}");
    a.command(Command::Peers).await;
    let peers = a.find(|notice| if let Notice::Peers(peers) = notice { Some(peers.clone()) } else { None }).await;
    assert!(peers.iter().all(|peer| peer.path.is_none()));
}

#[tokio::test]
async fn a_member_who_speaks_garbage_is_cut_off_and_may_come_back() {
    let (alice, bob) = stage().await;
    let mut a = alice.run().await;
    let key = peer::key::load_or_make(bob.directory.path()).unwrap().key;
    let tcp = Tcp::new(Tls::new(&key, Duration::from_secs(10)).unwrap());
    for garbage in [&[0xff; 64][..], &[0, 0, 0, 0], b"\0\0\0\x02\x01{", &[0, 0, 0, 1, 99]] {
        let mut link = tcp.dial(a.listening, Some(a.device)).await.unwrap();
        link.stream.write_all(garbage).await.unwrap();
        link.stream.flush().await.unwrap();
        let mut said = Vec::new();
        // either a goodbye or a plain end, but an end
        let _ = link.stream.read_to_end(&mut said).await;
    }
    bob.know_address(a.device, a.listening).await;
    let mut b = bob.run().await;
    b.links_with(a.device).await;
    b.say("sorry").await;
    a.hears("sorry").await;
}

#[tokio::test]
async fn an_impostor_at_a_known_address_learns_nothing() {
    let (alice, bob) = stage().await;
    let mallory = DeviceKey::from_seed([66; 32]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    alice.know_address(bob.device, listener.local_addr().unwrap()).await;
    let mut a = alice.run().await;
    a.say("for bob only").await;
    let tcp = Tcp::new(Tls::new(&mallory, Duration::from_secs(10)).unwrap());
    let (socket, _) = listener.accept().await.unwrap();
    match tcp.accept(socket).await {
        Err(_) => {}
        Ok(mut link) => {
            let mut said = Vec::new();
            let _ = link.stream.read_to_end(&mut said).await;
            assert_eq!(said, b"");
        }
    }
}

#[tokio::test]
async fn a_port_in_use_and_an_exposed_key_are_said() {
    let actor = Actor::new("alice");
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = actor.settings();
    settings.listen = taken.local_addr().unwrap();
    let error = run_to_the_end(settings.clone(), &actor);
    assert!(matches!(error, PeerError::Listen { .. }), "{error}");
    assert!(error.to_string().contains("--peer-port"), "{error}");

    let key = actor.directory.path().join(peer::key::KEY_FILE);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = run_to_the_end(settings, &actor);
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

fn run_to_the_end(settings: peer::Settings, actor: &Actor) -> PeerError {
    let (_commands, command_receiver) = tokio::sync::mpsc::channel(1);
    let (notices, _notice_receiver) = tokio::sync::mpsc::channel(16);
    let history = actor.history.clone();
    let run = move || peer::run(settings, history, command_receiver, notices, peer::Stop::new());
    std::thread::spawn(run).join().unwrap().unwrap_err()
}
