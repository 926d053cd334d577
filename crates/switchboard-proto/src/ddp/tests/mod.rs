//! Conversations in DDP, as text: see [`crate::talk`].

mod methods;
mod sessions;
mod streams;

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::command::{CommandDocument, CommandId};
use crate::event::{MessageExtra, RoomMessage, Sender};
use crate::id::ConnId;
use crate::json::RawJson;
use crate::peer::PeerKind;
use crate::talk::{Talk, check_with, client_frame};

fn talk_with(change: impl FnOnce(&mut DdpSettings)) -> Talk {
    Talk::new(PeerKind::Ddp, |settings| change(&mut settings.ddp))
}

/// A session that has been opened.
fn open_with(change: impl FnOnce(&mut DdpSettings)) -> Talk {
    let mut talk = talk_with(change);
    talk.with(|peer, cx| peer.on_open(cx));
    talk.send(&client_frame(0x81, br#"{"msg":"connect","version":"1","support":["1","pre2","pre1"]}"#));
    assert_eq!(talk.received(), "{\"server_id\":\"0\"}\n{\"msg\":\"connected\",\"session\":\"22222222222222222\"}\n");
    talk
}

fn open() -> Talk {
    open_with(|_| {})
}

/// A session of the user `u1`, who is called `bot`.
fn logged_in() -> Talk {
    let mut talk = open();
    log_in(&mut talk, "u1");
    talk
}

fn log_in(talk: &mut Talk, user: &str) {
    talk.send(&client_frame(0x81, br#"{"msg":"method","id":"l","method":"login","params":[{"resume":"t"}]}"#));
    talk.outcome(outcome(&format!("known {user}")).unwrap());
    talk.received();
}

/// Moves the clock and lets the peer look at it.
fn wait_until(talk: &mut Talk, monotonic_ms: u64) {
    talk.now.monotonic_ms = monotonic_ms;
    talk.with(|peer, cx| peer.on_deadline(cx));
}

fn user(id: &str) -> User {
    User::named(id, if id == "u1" { "bot" } else { id }).unwrap()
}

fn room(name: &str) -> RoomName {
    RoomName::restore(name).unwrap()
}

fn message(number: u64, sent_at: u64, attachment: Option<&str>) -> RoomMessage {
    RoomMessage {
        room: room("general"),
        number,
        sender: Sender::Connection(ConnId::from_random(0)),
        body: "hi".into(),
        sent_at,
        epoch: 1,
        user: Some(user("u1")),
        extra: Some(Box::new(MessageExtra {
            id: Some(format!("m{number}").into()),
            attachment: attachment.map(RawJson::from_parsed),
        })),
    }
}

fn command(to: &str, command: serde_json::Value) -> Event {
    Event::Command(CommandDelivery {
        document: Arc::new(CommandDocument {
            id: CommandId::from_random(0),
            key: command["key"].as_str().unwrap().into(),
            data: command.get("data").map(RawJson::from_value),
            command: RawJson::from_value(&command),
        }),
        to: Recipient::User(user(to)),
        ts: 1_795_289_702_430,
        ttl_ms: 5000,
    })
}

/// Lets the peer take an event; what it wrote, or `None` if its client cannot be told.
fn told(talk: &mut Talk, event: &Event) -> Option<String> {
    let taken = talk.with(|peer, cx| peer.on_event(event, cx));
    let received = talk.received();
    assert!(taken || received.is_empty(), "{received}");
    taken.then_some(received)
}

/// Outcomes of the calls that only this face makes.
fn outcome(words: &str) -> Option<Outcome> {
    let login = |id: &str, method| {
        let token = "0123456789012345678901234567890123456789012".to_owned();
        Ok(Answer::LoggedIn(LoggedIn { user: user(id), token, expires_ms: 1_803_065_701_617, method }))
    };
    let found = |name: &str, kind| Ok(Answer::RoomFound { room: room(name), kind });
    let (word, rest) = words.split_once(' ').unwrap_or((words, ""));
    Some(match (word, rest) {
        ("password", id) => login(id, LoginMethod::Password),
        ("known", id) => login(id, LoginMethod::Resume),
        ("gone", "") => Ok(Answer::LoggedOut),
        ("public", name) => found(name, RoomKind::Public),
        ("restricted", name) => found(name, RoomKind::Restricted),
        ("direct", other) => found(RoomName::direct("u1", other).as_str(), RoomKind::Direct),
        ("published", attachment) => Ok(Answer::Published(Box::new(message(7, 1000, Some(attachment))))),
        ("history", "") => {
            Ok(Answer::History { messages: vec![message(3, 900, None), message(2, 950, None)], unread_not_loaded: 1 })
        }
        ("nobody", "") => Err(CallError::NoSuchUser),
        ("anonymous", "") => Err(CallError::NotLoggedIn),
        ("too", "long") => Err(CallError::MessageTooLarge),
        ("too", "often") => Err(CallError::TooManyRequests { retry_ms: 4200 }),
        ("id", "taken") => Err(CallError::MessageIdTaken),
        ("out", "of sync") => Err(CallError::OutOfSync),
        ("said", "no") => Err(CallError::Refused("not today".into())),
        _ => return None,
    })
}

#[track_caller]
fn check(talk: &mut Talk, script: &str) {
    check_with(talk, script, outcome);
}

#[test]
fn an_idle_session_is_small() {
    let face = size_of::<DdpFace>();
    assert!(face <= 120, "{face}");
    let mut talk = logged_in();
    check(
        &mut talk,
        r#"
        > {"msg":"sub","id":"2","name":"stream-client-commands","params":["u1",true]}
        < {"msg":"added","collection":"stream-client-commands","id":"id","fields":{"eventName":"u1"}}
        < {"msg":"ready","subs":["2"]}
        ? attend commands
        > {"msg":"sub","id":"6","name":"stream-room-messages","params":["__my_messages__",true]}
        < {"msg":"added","collection":"stream-room-messages","id":"id","fields":{"eventName":"__my_messages__"}}
        ? attend commands
        < {"msg":"ready","subs":["6"]}
        "#,
    );
    // Nothing of what was asked for is kept beside two subscriptions: an entry each, their ids and the id of the user.
    let mut subscriptions = Subscriptions::default();
    subscriptions.add("2", Topic::User(UserTopic::Commands, "u1".into()), false);
    subscriptions.add("6", Topic::MyMessages, false);
    assert!(subscriptions.capacity_bytes() <= 2 * 48, "{}", subscriptions.capacity_bytes());
}

#[test]
fn what_waits_for_an_outcome_is_bounded() {
    let mut talk = logged_in();
    // A call is awaited, and nothing but pings is taken any more when enough waits behind it.
    talk.send(&client_frame(0x81, br#"{"msg":"method","id":"1","method":"joinRoom","params":["r"]}"#));
    let frame = client_frame(0x81, format!("{{\"msg\":\"fly\",\"x\":\"{}\"}}", "x".repeat(1000)).as_bytes());
    let burst = frame.repeat(100);
    let mut input = &burst[..];
    while talk.with(|peer, cx| peer.feed(&mut input, cx)) == crate::peer::Step::Frame {}
    assert_eq!((burst.len() - input.len()) / frame.len(), 16);
    assert_eq!(talk.received(), "");
    // They are answered when it ends, and the rest is taken then.
    talk.outcome(Ok(Answer::Joined));
    assert_eq!(talk.received().matches("Bad request").count(), 16);
    while talk.with(|peer, cx| peer.feed(&mut input, cx)) == crate::peer::Step::Frame {}
    assert_eq!(talk.received().matches("Bad request").count(), 84);
}
