//! Accounts over a store: who may have which name, device and session.
#![allow(clippy::unwrap_used)]

use accounts::{AccountError, Accounts};
use chat::{DeviceKey, UserName};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use store::MemoryStore;

mod sessions;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn user(name: &str) -> UserName {
    name.parse().unwrap()
}

fn accounts() -> Accounts {
    Accounts::new(Arc::new(MemoryStore::new()))
}

#[tokio::test]
async fn a_name_is_given_once() {
    let accounts = accounts();
    let password = Some("correct horse".to_owned());
    accounts.sign_up(&user("alice"), password.clone(), HERE, 1).await.unwrap();
    let again = accounts.sign_up(&user("Alice"), password, HERE, 2).await;
    assert_eq!(again, Err(AccountError::NameTaken));
}

#[tokio::test]
async fn only_the_right_password_of_the_right_name_opens() {
    let accounts = accounts();
    accounts.sign_up(&user("alice"), Some("correct horse".to_owned()), HERE, 1).await.unwrap();
    accounts.sign_up(&user("keyonly"), None, HERE, 1).await.unwrap();
    let check = |name: &str, password: &str| {
        let (accounts, name, password) = (accounts.clone(), user(name), password.to_owned());
        async move { accounts.check_password(&name, password, HERE, 2).await.map(|account| account.user) }
    };
    assert_eq!(check("alice", "correct horse").await, Ok(user("alice")));
    for (name, password) in [("alice", "correct horsf"), ("alice", ""), ("keyonly", ""), ("nobody", "correct horse")] {
        assert_eq!(check(name, password).await, Err(AccountError::WrongPassword), "{name} with {password:?}");
    }
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let accounts = accounts();
    let alice = user("alice");
    let guess = |i: u64| accounts.check_password(&alice, format!("guess {i}"), HERE, 1000 + i);
    for i in 0..10 {
        assert_eq!(guess(i).await, Err(AccountError::WrongPassword));
    }
    assert!(matches!(guess(10).await, Err(AccountError::RateLimited { retry_after_s: 1.. })));
}

#[tokio::test]
async fn being_turned_away_by_a_crowd_is_no_failure() {
    let accounts = accounts();
    accounts.sign_up(&user("alice"), Some("correct horse".to_owned()), HERE, 1).await.unwrap();
    let mut crowd = tokio::task::JoinSet::new();
    for i in 0..200_u32 {
        let accounts = accounts.clone();
        let (name, address) = (user(&format!("user{i}")), IpAddr::V4(Ipv4Addr::from_bits(i)));
        crowd.spawn(async move { accounts.check_password(&name, "a guess".to_owned(), address, 2).await });
    }
    for _ in 0..20 {
        tokio::task::yield_now().await; // the runtime starts some of them at each turn, so that all stand in the queue
    }
    let alice = user("alice");
    let log_in = || accounts.check_password(&alice, "correct horse".to_owned(), HERE, 3);
    for _ in 0..20 {
        assert_eq!(log_in().await.map(|_| ()), Err(AccountError::Busy));
    }
    crowd.shutdown().await;
    assert_eq!(log_in().await.map(|account| account.user), Ok(user("alice")));
}

#[tokio::test]
async fn a_device_belongs_to_one_account() {
    let accounts = accounts();
    let device = DeviceKey::from_seed([1; 32]).id();
    for name in ["alice", "bob"] {
        accounts.sign_up(&user(name), None, HERE, 1).await.unwrap();
    }
    accounts.add_device(&user("alice"), device, false, 2).await.unwrap();
    accounts.add_device(&user("alice"), device, false, 3).await.unwrap();
    assert_eq!(accounts.devices(&user("alice")).await.unwrap().len(), 1);
    assert_eq!(accounts.owner_of(&device).await.unwrap(), Some(user("alice")));
    assert_eq!(accounts.add_device(&user("bob"), device, false, 4).await, Err(AccountError::DeviceTaken));
    assert_eq!(accounts.add_device(&user("nobody"), device, false, 4).await, Err(AccountError::NoAccount));
}

#[tokio::test]
async fn an_account_has_a_bounded_number_of_devices() {
    let accounts = accounts();
    accounts.sign_up(&user("alice"), None, HERE, 1).await.unwrap();
    for i in 0..accounts::DEVICES_MAX {
        let device = DeviceKey::from_seed([i as u8; 32]).id();
        accounts.add_device(&user("alice"), device, false, 2).await.unwrap();
    }
    let one_more = DeviceKey::from_seed([255; 32]).id();
    assert_eq!(accounts.add_device(&user("alice"), one_more, false, 3).await, Err(AccountError::TooManyDevices));
}

#[tokio::test]
async fn the_hosted_key_and_the_trackers_stay_the_same() {
    let store = Arc::new(MemoryStore::new());
    let (one, two) = (Accounts::new(store.clone()), Accounts::new(store));
    one.sign_up(&user("alice"), None, HERE, 1).await.unwrap();
    let key = one.hosted_key(&user("alice"), 2).await.unwrap();
    assert_eq!(two.hosted_key(&user("alice"), 3).await.unwrap().id(), key.id());
    let devices = two.devices(&user("alice")).await.unwrap();
    assert!(devices.len() == 1 && devices[0].hosted && devices[0].id == key.id(), "{devices:?}");
    assert_eq!(one.tracker_key().await.unwrap().id(), two.tracker_key().await.unwrap().id());
}
