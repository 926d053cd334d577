//! The session that a connection carries, and how its log is followed.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::call::{Answer, Call, CallError, Outcome};
use crate::face::Cx;
use crate::frame::ws;
use crate::id::{ConnId, Token};
use crate::json::write_number;
use crate::shard::{
    AppCredentials, Began, LogPart, LoggedEvent, Registration, Resumption, ShardAnswer, ShardCall, ShardCounters,
    ShardRefusal, ShardSessionId,
};

use super::answer;
use super::coding::Coding;
use super::errors::{self, Verdict};
use super::items;
use super::opening::{HeaderNumber, Opening};
use super::questions::Questions;
use super::request::{Claim, Request};
use super::{GatewayFace, Pending, Then};

/// Bit of a session's flags that makes it one of the development fleet.
const DEVELOPMENT: u64 = 1;

/// No fleet has such a shard, so that whoever names none that could be one is refused as if he did.
const NO_SHARD: u64 = u64::MAX;

/// What the headers of the handshake said, kept for all that the connection asks for later.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) credentials: AppCredentials,
    pub(super) is_contradictory: bool,
    pub(super) shard: HeaderNumber,
    pub(super) total: HeaderNumber,
}

impl Headers {
    /// `None`: they said nothing.
    pub(super) fn of(opening: Opening) -> Option<Box<Self>> {
        let Opening { credentials, is_contradictory, shard, total, .. } = opening;
        let is_empty = credentials == AppCredentials::default()
            && !is_contradictory
            && (shard, total) == (HeaderNumber::Absent, HeaderNumber::Absent);
        (!is_empty).then(|| Box::new(Self { credentials, is_contradictory, shard, total }))
    }
}

impl Opening {
    /// Asks whether the credentials and the shard of the headers may become those of a session.
    pub(super) fn check(&self) -> ShardCall {
        let shard = shard_of(self.shard, self.total);
        ShardCall::CheckPart { credentials: self.credentials.clone(), shard, total: self.total.number() }
    }
}

/// The shard that the headers name. A header that is no number names a shard that no fleet has.
fn shard_of(shard: HeaderNumber, total: HeaderNumber) -> Option<u64> {
    if shard == HeaderNumber::Bad || total == HeaderNumber::Bad { Some(NO_SHARD) } else { shard.number() }
}

/// A session, as its connection knows it.
#[derive(Debug)]
pub(super) struct Session {
    /// What others call it.
    pub(super) handle: ConnId,
    /// A client that registers this shard in the other way is told it again.
    pub(super) id: ShardSessionId,
    pub(super) application: Arc<str>,
    pub(super) counters: Arc<ShardCounters>,
    shard: u64,
    is_development: bool,
    pub(super) takes_commands: bool,
    /// The last event that was written.
    pub(super) cursor: u64,
    /// The last event that the client acknowledged.
    acknowledged: u64,
    /// Commands and interactions that it has not answered, if there are any.
    questions: Option<Box<Questions>>,
    /// What was missed, for a client that is told when it has been sent.
    replay: Option<Replay>,
}

impl Session {
    /// The client was sent a command or an interaction with this id.
    pub(super) fn ask(&mut self, id: &str) {
        self.questions.get_or_insert_default().ask(id);
    }

    /// Returns whether a message may be an answer that the client was asked for.
    pub(super) fn awaits_answer(&self) -> bool {
        self.questions.is_some() || self.acknowledged < self.cursor
    }

    /// Returns whether a message is an answer that the client was asked for. Each is one only once.
    pub(super) fn take_answer(&mut self, request: &Request) -> bool {
        match request {
            Request::Ping { seq: Some(seq) } => {
                let is_news = (self.acknowledged + 1..=self.cursor).contains(seq);
                if is_news {
                    self.acknowledged = *seq;
                }
                is_news
            }
            Request::Interaction { id, .. } | Request::Reply { id, .. } => {
                let was_asked = self.questions.as_mut().is_some_and(|questions| questions.take(id));
                // Sessions at rest stay small.
                self.questions.take_if(|questions| questions.is_empty());
                was_asked
            }
            _ => false,
        }
    }
}

/// What a client missed: the events behind `after` up to `last`.
#[derive(Clone, Copy, Debug)]
struct Replay {
    after: u64,
    last: u64,
}

/// How the log of the session is followed.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The call that reads.
    reading: Option<Token>,
    /// There may be more in the log than was read.
    is_behind: bool,
    /// What was written is to leave before more is read.
    is_draining: bool,
    /// Events wait in the log.
    is_paused: bool,
}

impl Tail {
    /// The log is read on as soon as it can be.
    pub(super) fn want_more(&mut self) {
        self.is_behind = true;
    }
}

/// How a session begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begins {
    how: How,
    shard: u64,
    /// Messages are compressed from the answer on.
    is_encoded: bool,
}

/// By what request, and so with what answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Ready,
    ShardInfo,
    Resumed,
}

/// What a claim says together with the headers.
struct Merged {
    credentials: AppCredentials,
    shard: u64,
    total: Option<u64>,
}

/// Why a claim is refused before the node is asked.
enum BadClaim {
    /// It names no application.
    Incomplete,
    /// It contradicts the headers, or itself.
    Contradictory,
}

fn merge(headers: Option<&Headers>, claim: &mut Claim) -> Result<Merged, BadClaim> {
    let said = std::mem::take(&mut claim.credentials);
    let mut merged = Merged { credentials: said, shard: claim.shard.unwrap_or(0), total: claim.total };
    let mut is_contradictory = claim.is_contradictory;
    if let Some(headers) = headers {
        let (shard, total) = (headers.shard.number(), headers.total.number());
        let Merged { credentials: said, .. } = &merged;
        is_contradictory |= headers.is_contradictory
            || differ(&headers.credentials.public_key, &said.public_key)
            || differ(&headers.credentials.secret, &said.secret)
            || differ(&shard, &claim.shard)
            || differ(&total, &claim.total);
        let given = headers.credentials.clone();
        merged = Merged {
            credentials: AppCredentials {
                id: given.id,
                public_key: given.public_key.or(merged.credentials.public_key),
                secret: given.secret.or(merged.credentials.secret),
                is_forwarded: given.is_forwarded,
            },
            shard: shard_of(headers.shard, headers.total).unwrap_or(merged.shard),
            total: total.or(merged.total),
        };
    }
    let is_complete = merged.credentials.id.is_some() || merged.credentials.public_key.is_some();
    match (is_contradictory, is_complete) {
        (true, _) => Err(BadClaim::Contradictory),
        (false, false) => Err(BadClaim::Incomplete),
        (false, true) => Ok(merged),
    }
}

fn differ<T: PartialEq>(header: &Option<T>, message: &Option<T>) -> bool {
    matches!((header, message), (Some(header), Some(message)) if header != message)
}

impl GatewayFace {
    pub(super) fn register(&mut self, number: i128, mut claim: Box<Claim>, cx: &mut Cx<'_>) {
        let Some(merged) = self.merge(number, &mut claim, cx) else { return };
        let begins = Begins { how: How::Ready, shard: merged.shard, is_encoded: claim.encode };
        self.call(register(merged, *claim), Pending { number, then: Then::Begin(begins) }, cx);
    }

    /// The other way to register, with another answer. A session that is there stays.
    pub(super) fn register_shard(&mut self, number: i128, mut claim: Box<Claim>, cx: &mut Cx<'_>) {
        let Some(merged) = self.merge(number, &mut claim, cx) else { return };
        let is_carried = self.session.as_ref().is_some_and(|session| {
            let is_development = claim.flags.map_or(session.is_development, |flags| flags & DEVELOPMENT != 0);
            session.shard == merged.shard && session.is_development == is_development
        });
        if is_carried {
            let call = ShardCall::Fleet(merged.credentials);
            return self.call(call, Pending { number, then: Then::ShardInfoAgain }, cx);
        }
        let begins = Begins { how: How::ShardInfo, shard: merged.shard, is_encoded: claim.encode };
        self.call(register(merged, *claim), Pending { number, then: Then::Begin(begins) }, cx);
    }

    pub(super) fn resume(&mut self, number: i128, mut claim: Box<Claim>, cx: &mut Cx<'_>) {
        let Some(Merged { credentials, shard, .. }) = self.merge(number, &mut claim, cx) else { return };
        if self.session.is_some() {
            let call = ShardCall::Check(credentials);
            return self.call(call, Pending { number, then: Then::AlreadyRegistered }, cx);
        }
        let Claim { encode, client, session, seq, .. } = *claim;
        // Nothing else was read as a resume.
        let session = session.unwrap_or_else(|| ShardSessionId::new(""));
        let call = ShardCall::Resume(Resumption { credentials, session, shard, seq, client });
        let begins = Begins { how: How::Resumed, shard, is_encoded: encode };
        self.call(call, Pending { number, then: Then::Begin(begins) }, cx);
    }

    fn merge(&mut self, number: i128, claim: &mut Claim, cx: &mut Cx<'_>) -> Option<Merged> {
        match merge(self.headers.as_deref(), claim) {
            Ok(merged) => Some(merged),
            Err(BadClaim::Incomplete) => {
                self.refuse(&errors::NO_APPLICATION, Some(number), cx);
                None
            }
            Err(BadClaim::Contradictory) => {
                self.refuse_credentials(cx);
                None
            }
        }
    }

    /// The connection carries this session from now on.
    pub(super) fn begin(&mut self, began: Began, begins: Begins, cx: &mut Cx<'_>) {
        let Begins { how, shard, is_encoded } = begins;
        // What creates a session counts in none.
        self.session = None;
        if is_encoded && self.coding.is_text() {
            self.coding = Coding::Zlib;
        }
        self.write(cx, |out| match how {
            How::Ready => answer::ready(out, "GATEWAY_READY", &began),
            How::ShardInfo => answer::shard_info(out, &began.fleet, &began.session),
            How::Resumed => answer::ready(out, "GATEWAY_RESUMED", &began),
        });
        let is_replay = self.is_greeted && how == How::Resumed;
        let Began { id: handle, session, application, flags, after, last, counters, takes_commands, .. } = began;
        self.session = Some(Box::new(Session {
            handle,
            id: session,
            application,
            counters,
            shard,
            is_development: flags & DEVELOPMENT != 0,
            takes_commands,
            cursor: after,
            acknowledged: after,
            questions: None,
            replay: is_replay.then_some(Replay { after, last }),
        }));
        self.pings.begin_session(after);
        self.tail.reading = None;
        self.tail.is_behind = true;
        if after >= last {
            self.end_replay(cx);
        }
        if self.is_stopping() {
            self.announce_stop(cx);
        }
        self.read_on(cx);
    }

    /// Reads on in the log, if there may be more and the client can take it.
    pub(super) fn read_on(&mut self, cx: &mut Cx<'_>) {
        let Tail { reading, is_behind, is_draining, is_paused } = self.tail;
        if !is_behind || reading.is_some() || is_draining || is_paused || self.is_beginning() {
            return;
        }
        let Some(session) = &self.session else { return };
        if cx.fx.close.is_some() {
            return;
        }
        let after = session.cursor;
        let token = self.next_token();
        self.tail.is_behind = false;
        self.tail.reading = Some(token);
        cx.fx.call = Some((token, Call::Shard(Box::new(ShardCall::Read { after }))));
    }

    /// The log has grown.
    pub(super) fn grow(&mut self, cx: &mut Cx<'_>) {
        self.tail.is_behind = true;
        self.read_on(cx);
    }

    pub(super) fn pause(&mut self, is_paused: bool, cx: &mut Cx<'_>) {
        self.tail.is_paused = is_paused;
        self.read_on(cx);
    }

    pub(super) fn drained(&mut self, cx: &mut Cx<'_>) {
        self.tail.is_draining = false;
        self.read_on(cx);
    }

    /// Whether `token` is that of the read that is awaited, which has come to its end then.
    pub(super) fn take_read(&mut self, token: Token) -> bool {
        self.tail.reading.take_if(|reading| *reading == token).is_some()
    }

    pub(super) fn on_read(&mut self, outcome: Outcome, cx: &mut Cx<'_>) {
        match outcome {
            Ok(Answer::Shard(ShardAnswer::Events(part))) => self.write_events(&part, cx),
            // The session is just being left behind; it is read again if it stays.
            Err(_) if self.is_beginning() => self.tail.is_behind = true,
            // Whoever ended it has told why.
            Err(CallError::Shard(ShardRefusal::NotRegistered)) => {}
            Err(error) => self.on_refusal(&error, None, cx),
            Ok(_) => self.refuse(&errors::INTERNAL_ERROR, None, cx),
        }
    }

    fn write_events(&mut self, part: &LogPart, cx: &mut Cx<'_>) {
        let Some(session) = &self.session else { return };
        let LogPart { events, has_more } = part;
        let Some(first) = events.first() else {
            // It may have grown since.
            return self.read_on(cx);
        };
        if first.seq != session.cursor + 1 {
            // What is between them is gone, and that is never hidden.
            return self.refuse(&errors::SLOW_CONSUMER, None, cx);
        }
        let until_replayed = match session.replay {
            Some(replay) => events.partition_point(|event| event.seq <= replay.last),
            None => 0,
        };
        let (missed, others) = events.split_at(until_replayed);
        self.write_all(missed, cx);
        if self.session.as_ref().is_some_and(|session| session.replay.is_some_and(|it| it.last <= session.cursor)) {
            self.end_replay(cx);
        }
        self.write_all(others, cx);
        self.tail.is_behind |= has_more;
        self.tail.is_draining = true;
        cx.fx.more = true;
        self.probe(cx);
    }

    fn write_all(&mut self, events: &[LoggedEvent], cx: &mut Cx<'_>) {
        let (Some(last), Some(session)) = (events.last(), &mut self.session) else { return };
        session.cursor = last.seq;
        session.counters.count_sent(events.len() as u64);
        for id in events.iter().filter_map(|event| items::interaction_id(&event.item)) {
            session.ask(&id);
        }
        self.coding.events(&mut cx.fx.bytes, events);
    }

    fn end_replay(&mut self, cx: &mut Cx<'_>) {
        let replay = self.session.as_mut().and_then(|session| session.replay.take());
        if let Some(Replay { after, last }) = replay {
            self.say(cx, |out| answer::replayed(out, after, last));
        }
    }

    /// A call about the session, or the claim for one, was refused.
    pub(super) fn on_refusal(&mut self, error: &CallError, number: Option<i128>, cx: &mut Cx<'_>) {
        match Verdict::from(error) {
            Verdict::Invalid => self.refuse_resume(cx),
            Verdict::BadCredentials => self.refuse_credentials(cx),
            Verdict::Refused(refusal) => self.refuse(&refusal, number, cx),
        }
    }

    pub(super) fn next_token(&mut self) -> Token {
        self.calls += 1;
        // Calls count from 1, so the alternative never stands.
        Token(NonZeroU64::new(self.calls).unwrap_or(NonZeroU64::MIN))
    }
}

fn register(merged: Merged, claim: Claim) -> ShardCall {
    let Merged { credentials, shard, total } = merged;
    ShardCall::Register(Registration {
        credentials,
        shard,
        total,
        flags: claim.flags.unwrap_or(0),
        client: claim.client,
    })
}

impl Coding {
    /// Appends events, each a message.
    fn events(&mut self, out: &mut Vec<u8>, events: &[LoggedEvent]) {
        /// What stands behind an item beside the digits of its number.
        const AROUND: &str = r#","s":}"#;
        if !matches!(self, Self::Text) {
            return events.iter().for_each(|event| self.message(out, |out| write_event(out, event)));
        }
        const HEAD_AND_TAIL_BYTES: usize = 10 + AROUND.len() + 20;
        out.reserve(events.iter().map(|event| event.item.as_str().len() + HEAD_AND_TAIL_BYTES).sum());
        for event in events {
            let digits = event.seq.checked_ilog10().unwrap_or(0) as usize + 1;
            ws::write_text_head(out, event.item.as_str().len() + AROUND.len() + digits);
            write_event(out, event);
        }
    }
}

fn write_event(out: &mut Vec<u8>, event: &LoggedEvent) {
    answer::put(out, event.item.as_str());
    answer::put(out, r#","s":"#);
    write_number(out, event.seq);
    out.push(b'}');
}
