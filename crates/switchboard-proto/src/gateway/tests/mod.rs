//! Conversations with the gateway, as text: see [`crate::talk`].

mod coding;
mod errors;
mod liveness;
mod sessions;
mod tail;

use std::sync::Arc;

use super::*;
use crate::id::ConnId;
use crate::json::RawJson;
use crate::peer::PeerKind;
use crate::shard::{
    AppCredentials, Began, FleetShard, LogPart, LoggedEvent, ShardCounters, ShardCounts, ShardSessionId,
};
use crate::talk::{Talk, check_with, client_frame};

/// A connection whose handshake said this, not opened.
fn unopened(opening: Opening, change: impl FnOnce(&mut GatewaySettings)) -> Talk {
    Talk::new(PeerKind::Gateway(Box::new(opening)), |settings| change(&mut settings.gateway))
}

fn open_with(opening: Opening, change: impl FnOnce(&mut GatewaySettings)) -> Talk {
    let mut talk = unopened(opening, change);
    talk.with(|peer, cx| peer.on_open(cx));
    talk
}

/// A connection in plain mode.
fn open() -> Talk {
    open_with(Opening::default(), |_| {})
}

/// A connection in plain mode with a session.
fn registered() -> Talk {
    let mut talk = open();
    register(&mut talk);
    talk
}

/// A session that is resumed behind event 5, when there are seven.
fn resumed(opening: Opening) -> Talk {
    let mut talk = open_with(opening, |_| {});
    talk.send(&client_frame(0x81, br#"{"type":5,"d":{"public_key":"k","session_id":"s1"}}"#));
    talk.outcome(outcome("began 0 of 1 behind 5 of 7").unwrap());
    talk
}

/// Registers as shard 0, and has the log read.
fn register(talk: &mut Talk) {
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k"}}"#));
    talk.outcome(outcome("began 0 of 1").unwrap());
    talk.outcome(outcome("events").unwrap());
    talk.received();
}

/// What the handshake of the old client says.
fn header_mode() -> Opening {
    Opening {
        header_mode: true,
        credentials: AppCredentials {
            id: Some("100".into()),
            public_key: Some("k".into()),
            secret: Some("secret".into()),
            is_forwarded: false,
        },
        shard: HeaderNumber::Number(0),
        total: HeaderNumber::Number(1),
        ..Opening::default()
    }
}

fn plain(compress: Compress) -> Opening {
    Opening { compress: Some(compress), ..Opening::default() }
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

/// Moves the clock and lets the peer look at it.
fn wait_until(talk: &mut Talk, monotonic_ms: u64) {
    talk.now.monotonic_ms = monotonic_ms;
    talk.with(|peer, cx| peer.on_deadline(cx));
}

fn event(talk: &mut Talk, event: ShardEvent) -> bool {
    talk.with(|peer, cx| peer.on_event(&Event::Shard(event), cx))
}

/// Events with numbers of the range.
fn events(numbers: impl IntoIterator<Item = u64>, has_more: bool) -> Outcome {
    let event = |seq| LoggedEvent { seq, item: items::application("E", &RawJson::from_value(&seq.into())) };
    let events = numbers.into_iter().map(event).collect();
    Ok(Answer::Shard(ShardAnswer::Events(LogPart { events, has_more })))
}

/// The same, as they are written.
fn written(numbers: impl IntoIterator<Item = u64>) -> String {
    let event = |seq| format!("{{\"type\":8,\"service\":\"gateway\",\"event\":\"E\",\"data\":{seq},\"s\":{seq}}}\n");
    numbers.into_iter().map(event).collect()
}

fn shard(shard: u32) -> FleetShard {
    FleetShard {
        shard,
        hash: ConnId::session_from_random(shard.into()),
        development: false,
        disconnected: false,
        counts: ShardCounts::default(),
    }
}

fn began(shard_number: u32, total: u32) -> Began {
    Began {
        id: shard(shard_number).hash,
        session: ShardSessionId::new("s1"),
        application: "100".into(),
        flags: 0,
        after: 0,
        last: 0,
        counters: Arc::new(ShardCounters::default()),
        fleet: (0..=shard_number).map(shard).collect(),
        shard_total: total,
        takes_commands: false,
    }
}

fn answer_of(began: Began) -> Outcome {
    Ok(Answer::Shard(ShardAnswer::Began(Box::new(began))))
}

/// Outcomes of the calls that only this face makes.
fn outcome(words: &str) -> Option<Outcome> {
    let words: Vec<&str> = words.split(' ').collect();
    let number = |text: &str| text.parse().unwrap();
    Some(match words[..] {
        ["checked"] => Ok(Answer::Shard(ShardAnswer::Checked)),
        ["began", shard, "of", total] => answer_of(began(number(shard) as u32, number(total) as u32)),
        ["began", shard, "of", total, "behind", after, "of", last] => answer_of(Began {
            after: number(after),
            last: number(last),
            ..began(number(shard) as u32, number(total) as u32)
        }),
        ["fleet", total] => {
            Ok(Answer::Shard(ShardAnswer::Fleet((0..number(total)).map(|at| shard(at as u32)).collect())))
        }
        ["events"] => events([], false),
        ["events", first, last] => events(number(first)..=number(last), false),
        ["events", first, last, "more"] => events(number(first)..=number(last), true),
        ["done"] => Ok(Answer::Shard(ShardAnswer::Done)),
        ["numbered", at] => Ok(Answer::Shard(ShardAnswer::Said { number: number(at) })),
        ["bad", "credentials"] => Err(ShardRefusal::BadCredentials.into()),
        ["invalid"] => Err(ShardRefusal::Invalid.into()),
        ["no", "shard"] => Err(ShardRefusal::InvalidShard.into()),
        ["no", "development"] => Err(ShardRefusal::DevelopmentNotAllowed.into()),
        ["master", retry_ms] => Err(ShardRefusal::MasterRequired { retry_ms: number(retry_ms) }.into()),
        ["too", "many", "at", "once", retry_ms] => {
            Err(ShardRefusal::StartConcurrency { retry_ms: number(retry_ms) }.into())
        }
        ["too", "many", "today", retry_ms] => Err(ShardRefusal::StartLimit { retry_ms: number(retry_ms) }.into()),
        ["taken"] => Err(ShardRefusal::Taken.into()),
        ["ahead"] => Err(ShardRefusal::InvalidSeq.into()),
        ["replaced"] => Err(ShardRefusal::Replaced.into()),
        ["trimmed"] => Err(ShardRefusal::FellBehind.into()),
        ["said", "no"] => Err(CallError::Refused("not today".into())),
        ["bad", "name"] => Err(CallError::BadRoomName(crate::id::BadRoomName::Control)),
        _ => return None,
    })
}

#[track_caller]
fn check(talk: &mut Talk, script: &str) {
    check_with(talk, script, outcome);
}

#[test]
fn an_idle_session_is_small() {
    let (face, session) = (size_of::<GatewayFace>(), size_of::<Session>());
    assert!(face <= 200 && session <= 120, "{face} {session}");
}
