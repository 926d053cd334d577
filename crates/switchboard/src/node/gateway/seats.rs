//! Which session is in which room, as plain data: the part of rooms that a worker keeps for its connections.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;
use std::sync::Arc;

use switchboard_proto::call::CallError;
use switchboard_proto::id::{ConnId, RoomName};

use crate::hub::mail::{MemberCheck, Missed};

use super::applications::Application;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Seats {
    rooms: HashMap<RoomName, HashMap<ConnId, Seat>>,
    sessions: HashMap<ConnId, Sitter>,
    /// Messages that sessions have not been told.
    gaps: HashMap<(ConnId, RoomName), Gap>,
    /// There are gaps that nobody has tried to tell.
    is_gap_due: bool,
}

/// A session that is in a room.
#[derive(Debug)]
struct Sitter {
    application: Arc<Application>,
    /// In the order of joining.
    rooms: Vec<RoomName>,
}

/// A session's place in a room.
#[derive(Debug)]
struct Seat {
    standing: Standing,
    /// The latest number that was given to its log; what is not higher is not for it.
    heard: u64,
}

enum Standing {
    /// The store says that it is in this room, and there is no such room yet.
    Absent,
    /// What happens to the room meanwhile concerns it too.
    Joining(Joining),
    Member,
    /// It still hears the room.
    Leaving,
    /// Somebody is taking it out. It hears nothing any more.
    Going,
}

/// A join that has not come to its end.
#[derive(Default)]
struct Joining {
    /// Nothing can come of it any more.
    fate: Option<Fate>,
    checks: Vec<MemberCheck>,
    /// The latest number that was said meanwhile.
    said: u64,
}

/// Why a join comes to nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The room was destroyed, or the session is over.
    Evicted,
    /// The session was taken out of the room, or left it.
    Removed,
    /// Another node writes for the session from now on.
    LetGo,
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Joining(_) => "Joining",
            Self::Member => "Member",
            Self::Leaving => "Leaving",
            Self::Going => "Going",
        })
    }
}

/// Messages of a room that did not reach a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) first: u64,
    /// None: nobody knows.
    pub(super) last: Option<u64>,
}

impl Gap {
    pub(super) const fn one(number: u64) -> Self {
        Self { first: number, last: Some(number) }
    }

    /// One gap in place of two. What lies between them counts as missing.
    pub(super) fn merge(self, other: Self) -> Self {
        let last = self.last.zip(other.last).map(|(one, other)| one.max(other));
        Self { first: self.first.min(other.first), last }
    }
}

/// A gap that is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Untold {
    pub(super) session: ConnId,
    pub(super) gap: Gap,
    /// Up to which number its room is heard once it is told.
    pub(super) heard: u64,
}

/// What has become of a join.
pub(super) enum Settled {
    /// It is a member now.
    Member,
    /// These are asked first, outside of every lock.
    Ask(Vec<MemberCheck>),
    /// More was said meanwhile, up to this number.
    Behind(u64),
    /// The room was destroyed, or the session is over.
    Evicted,
    /// The session was taken out of the room, or left it.
    Removed,
    /// Another node writes for the session from now on.
    LetGo,
}

impl Seats {
    fn seat(&mut self, session: ConnId, room: &RoomName) -> Option<&mut Seat> {
        self.rooms.get_mut(room)?.get_mut(&session)
    }

    /// A session wants to be a member. Until it is one it hears nothing.
    pub(super) fn begin_join(
        &mut self,
        session: ConnId,
        application: &Arc<Application>,
        room: &RoomName,
        max_rooms: usize,
    ) -> Result<(), CallError> {
        match self.seat(session, room).map(|seat| &seat.standing) {
            Some(Standing::Absent) => return Err(CallError::NoSuchRoom),
            // The cancelled join is still to be undone in the store, which could undo a second join instead.
            Some(Standing::Joining(Joining { fate: Some(_), .. })) => return Err(CallError::Unavailable),
            Some(_) => return Err(CallError::AlreadyMember(room.clone())),
            None => {}
        }
        if self.rooms_count(session) >= max_rooms {
            return Err(CallError::TooManyRoomsOfConnection);
        }
        self.insert(session, application, room, Standing::Joining(Joining::default()), 0);
        Ok(())
    }

    /// The store says that a session is in a room.
    pub(super) fn remember(&mut self, session: ConnId, application: &Arc<Application>, room: &RoomName, heard: u64) {
        if self.seat(session, room).is_none() {
            self.insert(session, application, room, Standing::Absent, heard);
        }
    }

    fn insert(
        &mut self,
        session: ConnId,
        application: &Arc<Application>,
        room: &RoomName,
        standing: Standing,
        heard: u64,
    ) {
        self.rooms.entry(room.clone()).or_default().insert(session, Seat { standing, heard });
        let sitter = Sitter { application: Arc::clone(application), rooms: Vec::new() };
        self.sessions.entry(session).or_insert(sitter).rooms.push(room.clone());
    }

    /// There is a room that was not there: who is in it is about to return. With each the number up to which it heard the room
    /// that was.
    pub(super) fn begin_return(&mut self, room: &RoomName) -> Vec<(ConnId, u64)> {
        let Some(seats) = self.rooms.get_mut(room) else { return Vec::new() };
        let absent = seats.iter_mut().filter(|(_, seat)| matches!(seat.standing, Standing::Absent));
        let returning = absent.map(|(session, seat)| {
            seat.standing = Standing::Joining(Joining::default());
            (*session, seat.heard)
        });
        returning.collect()
    }

    /// A session is about to return to a room. `false`: it is there, or about to.
    pub(super) fn begin_return_of(&mut self, session: ConnId, room: &RoomName) -> bool {
        let absent = self.seat(session, room).filter(|seat| matches!(seat.standing, Standing::Absent));
        absent.map(|seat| seat.standing = Standing::Joining(Joining::default())).is_some()
    }

    /// It could not return. It does when the room is made again, unless it is over.
    pub(super) fn stay_absent(&mut self, session: ConnId, room: &RoomName) {
        let Some(seat) = self.seat(session, room) else { return };
        if matches!(&seat.standing, Standing::Joining(joining) if joining.fate.is_some()) {
            return self.remove(session, room);
        }
        seat.standing = Standing::Absent;
    }

    /// Everything else about a join is done: it hears what is numbered higher than `after`, and is told first of a `gap`.
    pub(super) fn settle_join(&mut self, session: ConnId, room: &RoomName, after: u64, gap: Option<Gap>) -> Settled {
        let Some(seat) = self.seat(session, room) else { return Settled::Evicted };
        match &mut seat.standing {
            Standing::Joining(Joining { fate: Some(Fate::LetGo), .. }) => Settled::LetGo,
            Standing::Joining(Joining { fate: Some(Fate::Removed), .. }) => Settled::Removed,
            Standing::Joining(Joining { fate: None, checks, said }) if checks.is_empty() && *said > after => {
                Settled::Behind(*said)
            }
            Standing::Joining(Joining { fate: None, checks, .. }) if checks.is_empty() => {
                seat.standing = Standing::Member;
                seat.heard = after;
                if let Some(gap) = gap {
                    self.gaps.insert((session, room.clone()), gap);
                    self.is_gap_due = true;
                }
                Settled::Member
            }
            Standing::Joining(Joining { fate: None, checks, .. }) => Settled::Ask(mem::take(checks)),
            _ => Settled::Evicted,
        }
    }

    /// Has nothing come of a join that has not finished. Returns `false` if the session is not joining.
    pub(super) fn cancel_join(&mut self, session: ConnId, room: &RoomName) -> bool {
        match self.seat(session, room).map(|seat| &mut seat.standing) {
            Some(Standing::Joining(joining)) => {
                joining.fate.get_or_insert(Fate::Removed);
                true
            }
            _ => false,
        }
    }

    /// A member wants to leave. Until it is [`Seats::remove`]d it hears the room. `false`: it is no member.
    pub(super) fn begin_leave(&mut self, session: ConnId, room: &RoomName) -> bool {
        let seat = self.seat(session, room).filter(|seat| matches!(seat.standing, Standing::Member));
        seat.map(|seat| seat.standing = Standing::Leaving).is_some()
    }

    /// Whoever is leaving is about to be taken out. `true` for one: the others need not.
    pub(super) fn go(&mut self, session: ConnId, room: &RoomName) -> bool {
        let seat = self.seat(session, room).filter(|seat| matches!(seat.standing, Standing::Leaving));
        seat.map(|seat| seat.standing = Standing::Going).is_some()
    }

    /// It does not leave after all.
    pub(super) fn stay(&mut self, session: ConnId, room: &RoomName) {
        if let Some(seat) = self.seat(session, room).filter(|seat| matches!(seat.standing, Standing::Leaving)) {
            seat.standing = Standing::Member;
        }
    }

    /// Forgets a session's place in a room.
    pub(super) fn remove(&mut self, session: ConnId, room: &RoomName) {
        if let Entry::Occupied(mut seats) = self.rooms.entry(room.clone()) {
            seats.get_mut().remove(&session);
            if seats.get().is_empty() {
                seats.remove();
            }
        }
        if let Entry::Occupied(mut sitter) = self.sessions.entry(session) {
            sitter.get_mut().rooms.retain(|other| other != room);
            if sitter.get().rooms.is_empty() {
                sitter.remove();
            }
        }
        self.gaps.remove(&(session, room.clone()));
    }

    /// A session is over: it leaves these rooms, and no join of it succeeds.
    pub(super) fn end(&mut self, session: ConnId) -> Vec<RoomName> {
        let mut leaving = Vec::new();
        for room in self.sessions.get(&session).map(|sitter| sitter.rooms.clone()).unwrap_or_default() {
            match self.seat(session, &room).map(|seat| &mut seat.standing) {
                Some(Standing::Absent) => self.remove(session, &room),
                Some(Standing::Joining(joining)) => joining.fate = Some(Fate::Evicted),
                Some(standing @ Standing::Member) => {
                    *standing = Standing::Leaving;
                    leaving.push(room);
                }
                Some(Standing::Leaving | Standing::Going) | None => {}
            }
        }
        leaving
    }

    /// Another node writes for a session from now on: it is forgotten here, and stays in its rooms. The result are those that it was in
    /// here, or was leaving.
    pub(super) fn let_go(&mut self, session: ConnId) -> Vec<RoomName> {
        let mut heard = Vec::new();
        for room in self.sessions.get(&session).map(|sitter| sitter.rooms.clone()).unwrap_or_default() {
            match self.seat(session, &room).map(|seat| &mut seat.standing) {
                Some(Standing::Joining(joining)) => joining.fate = Some(Fate::LetGo),
                Some(Standing::Member | Standing::Leaving) => {
                    self.remove(session, &room);
                    heard.push(room);
                }
                Some(Standing::Absent) => self.remove(session, &room),
                // Whoever takes it out comes to the end by himself.
                Some(Standing::Going) | None => {}
            }
        }
        heard
    }

    /// All sessions that are in rooms, or were.
    pub(super) fn sessions(&self) -> Vec<ConnId> {
        self.sessions.keys().copied().collect()
    }

    /// Whether a session is in a room in whatever way, unless it is being taken out or there is no such room yet.
    pub(super) fn has_seat(&self, session: ConnId, room: &RoomName) -> bool {
        let seat = self.rooms.get(room).and_then(|seats| seats.get(&session));
        seat.is_some_and(|seat| !matches!(seat.standing, Standing::Absent | Standing::Going))
    }

    /// A room is being destroyed: nobody hears it any more, and no join succeeds. The result are those who are to be taken out.
    pub(super) fn evict(&mut self, room: &RoomName) -> Vec<ConnId> {
        let mut evicted = Vec::new();
        for (session, seat) in self.rooms.get_mut(room).into_iter().flatten() {
            match &mut seat.standing {
                Standing::Joining(joining) => joining.fate = Some(Fate::Evicted),
                standing @ (Standing::Member | Standing::Leaving) => {
                    *standing = Standing::Going;
                    evicted.push(*session);
                }
                Standing::Absent | Standing::Going => {}
            }
        }
        evicted
    }

    /// Who has to be looked at again. Those that are joining are looked at before they are members.
    pub(super) fn recheck(&mut self, room: &RoomName, check: &MemberCheck) -> Vec<ConnId> {
        let mut members = Vec::new();
        for (session, seat) in self.rooms.get_mut(room).into_iter().flatten() {
            match &mut seat.standing {
                Standing::Joining(joining) => joining.checks.push(Arc::clone(check)),
                Standing::Member => members.push(*session),
                Standing::Absent | Standing::Leaving | Standing::Going => {}
            }
        }
        members
    }

    /// Who hears a message: not the one who says it. With each the gap that has to be told before.
    pub(super) fn hear(
        &mut self,
        room: &RoomName,
        number: u64,
        speaker: Option<ConnId>,
    ) -> Vec<(ConnId, Option<Untold>)> {
        let Some(seats) = self.rooms.get_mut(room) else { return Vec::new() };
        let mut hearers = Vec::with_capacity(seats.len());
        for (&session, seat) in seats {
            if let Standing::Joining(joining) = &mut seat.standing {
                joining.said = joining.said.max(number);
            }
            let hears = matches!(seat.standing, Standing::Member | Standing::Leaving);
            // What has no number is for whoever is there.
            if !hears || number != 0 && number <= seat.heard {
                continue;
            }
            let before = seat.heard;
            seat.heard = before.max(number);
            if speaker == Some(session) {
                continue;
            }
            // The key is made only where somebody misses something.
            let gap = if self.gaps.is_empty() { None } else { self.gaps.remove(&(session, room.clone())) };
            hearers.push((session, gap.map(|gap| Untold::new(session, gap, before))));
        }
        hearers
    }

    /// Something did not reach the log of a session. `true`: before it nobody missed anything.
    pub(super) fn miss(&mut self, session: ConnId, room: &RoomName, gap: Gap) -> bool {
        if self.seat(session, room).is_none() {
            return false;
        }
        let is_first = self.gaps.is_empty();
        let missed = self.gaps.entry((session, room.clone()));
        missed.and_modify(|before| *before = before.merge(gap)).or_insert(gap);
        is_first
    }

    /// Messages of a room did not reach this node: whoever hears it misses them.
    pub(super) fn miss_all(&mut self, room: &RoomName, missed: Missed) {
        for (&session, seat) in self.rooms.get_mut(room).into_iter().flatten() {
            let hears = matches!(seat.standing, Standing::Member | Standing::Leaving);
            // Whoever came behind them misses nothing.
            if !hears || missed.last.is_some_and(|last| last <= seat.heard) {
                continue;
            }
            if missed.restarts {
                seat.heard = 0;
            }
            let gap = Gap { first: missed.first, last: missed.last };
            let told = self.gaps.entry((session, room.clone()));
            told.and_modify(|before| *before = before.merge(gap)).or_insert(gap);
            self.is_gap_due = true;
        }
    }

    /// Up to which number a session has heard a room.
    pub(super) fn heard(&self, session: ConnId, room: &RoomName) -> u64 {
        self.rooms.get(room).and_then(|seats| seats.get(&session)).map_or(0, |seat| seat.heard)
    }

    /// Whether somebody has to be told a gap; and whether nobody has tried to.
    pub(super) fn gaps_wait(&self) -> (bool, bool) {
        (!self.gaps.is_empty(), self.is_gap_due)
    }

    /// Takes all gaps, to be told now.
    pub(super) fn take_gaps(&mut self) -> Vec<(RoomName, Untold)> {
        self.is_gap_due = false;
        let gaps = mem::take(&mut self.gaps);
        let told = gaps.into_iter().filter_map(|((session, room), gap)| {
            let heard = self.seat(session, &room)?.heard;
            Some((room, Untold::new(session, gap, heard)))
        });
        told.collect()
    }

    /// Whether a session is a member.
    pub(super) fn is_member(&self, session: ConnId, room: &RoomName) -> bool {
        let seat = self.rooms.get(room).and_then(|seats| seats.get(&session));
        seat.is_some_and(|seat| matches!(seat.standing, Standing::Member))
    }

    /// The rooms that a session is a member of, in the order of joining.
    pub(super) fn rooms_of(&self, session: ConnId) -> Vec<RoomName> {
        let rooms = self.sessions.get(&session).map(|sitter| &*sitter.rooms).unwrap_or_default();
        rooms.iter().filter(|room| self.is_member(session, room)).cloned().collect()
    }

    /// The rooms that a session is joining.
    pub(super) fn joined_by(&self, session: ConnId) -> Vec<RoomName> {
        let rooms = self.sessions.get(&session).map(|sitter| &*sitter.rooms).unwrap_or_default();
        let is_joining = |room: &&RoomName| {
            let seat = self.rooms.get(*room).and_then(|seats| seats.get(&session));
            seat.is_some_and(|seat| matches!(seat.standing, Standing::Joining(_)))
        };
        rooms.iter().filter(is_joining).cloned().collect()
    }

    /// Whose a session is that is in a room.
    pub(super) fn application(&self, session: ConnId) -> Option<Arc<Application>> {
        self.sessions.get(&session).map(|sitter| Arc::clone(&sitter.application))
    }

    fn rooms_count(&self, session: ConnId) -> usize {
        self.sessions.get(&session).map_or(0, |sitter| sitter.rooms.len())
    }
}

impl Untold {
    fn new(session: ConnId, gap: Gap, heard: u64) -> Self {
        Self { session, gap, heard: heard.max(gap.last.unwrap_or_default()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_ROOMS: usize = 2;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    fn session(number: u128) -> ConnId {
        ConnId::session_from_random(number)
    }

    fn application() -> Arc<Application> {
        Arc::new(Application::named("app", "key", None))
    }

    fn with_member(name: &str, after: u64) -> (Seats, RoomName) {
        let (mut seats, room) = (Seats::default(), room(name));
        seats.begin_join(session(1), &application(), &room, MAX_ROOMS).unwrap();
        assert!(matches!(seats.settle_join(session(1), &room, after, None), Settled::Member));
        (seats, room)
    }

    fn heard(seats: &mut Seats, room: &RoomName, number: u64) -> Vec<ConnId> {
        seats.hear(room, number, None).into_iter().map(|(session, _)| session).collect()
    }

    #[test]
    fn a_member_hears_what_is_numbered_higher_than_at_its_join_and_once() {
        let (mut seats, lobby) = with_member("lobby", 4);
        assert_eq!(heard(&mut seats, &lobby, 4), []);
        assert_eq!(heard(&mut seats, &lobby, 5), [session(1)]);
        assert_eq!(heard(&mut seats, &lobby, 5), []);
        assert_eq!(seats.hear(&lobby, 6, Some(session(1))), []);
        assert_eq!(heard(&mut seats, &room("other"), 1), []);
    }

    #[test]
    fn whoever_is_joining_hears_nothing_and_whoever_is_leaving_still_does() {
        let (mut seats, lobby) = with_member("lobby", 0);
        seats.begin_join(session(2), &application(), &lobby, MAX_ROOMS).unwrap();
        assert!(!seats.go(session(1), &lobby));
        assert!(seats.begin_leave(session(1), &lobby) && !seats.begin_leave(session(1), &lobby));
        assert_eq!(heard(&mut seats, &lobby, 1), [session(1)]);
        assert!(!seats.is_member(session(1), &lobby) && !seats.is_member(session(2), &lobby));
        seats.stay(session(1), &lobby);
        assert_eq!(seats.rooms_of(session(1)), std::slice::from_ref(&lobby));
        seats.begin_leave(session(1), &lobby);
        assert!(seats.go(session(1), &lobby) && !seats.go(session(1), &lobby), "one takes it out");
        assert_eq!(heard(&mut seats, &lobby, 2), []);
        assert_eq!(seats.evict(&lobby), []);
        seats.remove(session(1), &lobby);
        assert!(seats.application(session(1)).is_none());
    }

    #[test]
    fn nobody_joins_twice_or_more_rooms_than_may_be() {
        let (mut seats, lobby) = with_member("lobby", 0);
        let mut join = |name: &str| seats.begin_join(session(1), &application(), &room(name), MAX_ROOMS);
        assert!(matches!(join("lobby"), Err(CallError::AlreadyMember(room)) if room == lobby));
        assert!(join("one").is_ok());
        assert!(matches!(join("one"), Err(CallError::AlreadyMember(_))), "it is joining");
        assert!(matches!(join("two"), Err(CallError::TooManyRoomsOfConnection)));
    }

    #[test]
    fn a_join_that_is_under_way_is_evicted_ended_and_checked_too() {
        for end in [
            |seats: &mut Seats, room: &RoomName| drop(seats.evict(room)),
            |seats: &mut Seats, _: &RoomName| {
                drop(seats.end(session(1)));
            },
        ] {
            let (mut seats, lobby) = (Seats::default(), room("lobby"));
            seats.begin_join(session(1), &application(), &lobby, MAX_ROOMS).unwrap();
            end(&mut seats, &lobby);
            assert!(matches!(seats.settle_join(session(1), &lobby, 0, None), Settled::Evicted));
        }
        let (mut seats, lobby) = (Seats::default(), room("lobby"));
        seats.begin_join(session(1), &application(), &lobby, MAX_ROOMS).unwrap();
        assert_eq!((seats.joined_by(session(1)), seats.rooms_of(session(1))), (vec![lobby.clone()], vec![]));
        assert!(seats.cancel_join(session(1), &lobby) && !seats.cancel_join(session(2), &lobby));
        let again = seats.begin_join(session(1), &application(), &lobby, MAX_ROOMS);
        assert!(matches!(again, Err(CallError::Unavailable)), "the cancelled join is no membership");
        assert!(matches!(seats.settle_join(session(1), &lobby, 0, None), Settled::Removed));
        let (mut seats, lobby) = with_member("lobby", 0);
        seats.begin_join(session(2), &application(), &lobby, MAX_ROOMS).unwrap();
        let check: MemberCheck = Arc::new(|_| true);
        assert_eq!(seats.recheck(&lobby, &check), [session(1)]);
        assert!(matches!(seats.settle_join(session(2), &lobby, 0, None), Settled::Ask(checks) if checks.len() == 1));
        assert!(matches!(seats.settle_join(session(2), &lobby, 0, None), Settled::Member));
    }

    #[test]
    fn whoever_returns_is_told_of_what_was_said_meanwhile() {
        let (mut seats, lobby) = (Seats::default(), room("lobby"));
        seats.remember(session(1), &application(), &lobby, 7);
        assert_eq!(seats.begin_return(&lobby), [(session(1), 7)]);
        assert_eq!(heard(&mut seats, &lobby, 10), []);
        assert!(matches!(seats.settle_join(session(1), &lobby, 9, None), Settled::Behind(10)));
        assert_eq!(heard(&mut seats, &lobby, 11), []);
        assert!(matches!(seats.settle_join(session(1), &lobby, 10, None), Settled::Behind(11)));
        assert!(matches!(seats.settle_join(session(1), &lobby, 11, None), Settled::Member));
        assert_eq!(heard(&mut seats, &lobby, 12), [session(1)]);
    }

    #[test]
    fn whoever_is_let_go_is_in_its_rooms_elsewhere() {
        let (mut seats, lobby) = with_member("lobby", 0);
        seats.begin_join(session(1), &application(), &room("other"), MAX_ROOMS).unwrap();
        assert_eq!(seats.let_go(session(1)), std::slice::from_ref(&lobby));
        assert!(matches!(seats.settle_join(session(1), &room("other"), 0, None), Settled::LetGo));
        assert_eq!(heard(&mut seats, &lobby, 1), []);
        seats.remove(session(1), &room("other"));
        assert_eq!(seats.sessions(), []);
    }

    #[test]
    fn whoever_was_in_a_room_that_is_made_again_is_told_first_what_nobody_knows() {
        let (mut seats, lobby) = (Seats::default(), room("lobby"));
        seats.remember(session(1), &application(), &lobby, 7);
        assert_eq!(heard(&mut seats, &lobby, 8), []);
        assert_eq!(seats.rooms_of(session(1)), []);
        let again = seats.begin_join(session(1), &application(), &lobby, MAX_ROOMS);
        assert!(matches!(again, Err(CallError::NoSuchRoom)));
        assert_eq!(seats.begin_return(&lobby), [(session(1), 7)]);
        assert_eq!(seats.begin_return(&lobby), []);
        let gap = Gap { first: 8, last: None };
        assert!(matches!(seats.settle_join(session(1), &lobby, 2, Some(gap)), Settled::Member));
        assert_eq!(seats.gaps_wait(), (true, true));
        let untold = Untold { session: session(1), gap, heard: 2 };
        assert_eq!(seats.hear(&lobby, 3, None), [(session(1), Some(untold))]);
        assert!(!seats.gaps_wait().0);
    }

    #[test]
    fn what_did_not_reach_the_node_is_missed_by_whoever_was_there_before() {
        let (mut seats, lobby) = with_member("lobby", 4);
        seats.begin_join(session(2), &application(), &lobby, MAX_ROOMS).unwrap();
        assert!(matches!(seats.settle_join(session(2), &lobby, 7, None), Settled::Member));
        seats.miss_all(&lobby, Missed { first: 5, last: Some(7), restarts: false });
        let untold = Untold { session: session(1), gap: Gap { first: 5, last: Some(7) }, heard: 7 };
        assert_eq!((seats.gaps_wait(), seats.take_gaps()), ((true, true), vec![(lobby.clone(), untold)]));
        seats.miss_all(&lobby, Missed { first: 8, last: None, restarts: true });
        let mut told: Vec<_> = seats.take_gaps().into_iter().map(|(_, untold)| (untold.gap, untold.heard)).collect();
        told.dedup();
        assert_eq!(told, [(Gap { first: 8, last: None }, 0)]);
        assert_eq!(heard(&mut seats, &lobby, 1).len(), 2, "numbers have begun anew");
        assert_eq!((heard(&mut seats, &lobby, 0).len(), seats.heard(session(1), &lobby)), (2, 1));
    }

    #[test]
    fn gaps_of_a_session_are_told_as_one_and_go_with_its_membership() {
        let (mut seats, lobby) = with_member("lobby", 0);
        for number in 1..=6 {
            heard(&mut seats, &lobby, number);
        }
        assert!(seats.miss(session(1), &lobby, Gap::one(3)));
        assert!(!seats.miss(session(1), &lobby, Gap::one(2)));
        assert!(!seats.miss(session(2), &lobby, Gap::one(2)), "it is not in the room");
        let untold = Untold { session: session(1), gap: Gap { first: 2, last: Some(3) }, heard: 6 };
        assert_eq!(seats.take_gaps(), [(lobby.clone(), untold)]);
        assert!(seats.miss(session(1), &lobby, Gap { first: 2, last: None }));
        assert!(!seats.miss(session(1), &lobby, Gap::one(9)));
        assert_eq!(seats.take_gaps()[0].1.gap, Gap { first: 2, last: None });
        seats.miss(session(1), &lobby, Gap::one(9));
        seats.remove(session(1), &lobby);
        assert_eq!(seats.gaps_wait(), (false, false));
    }
}
