//! What is refused, and what is remembered.

use super::*;

fn asked(key: &str, fingerprint: u8) -> Option<Idempotency> {
    Some(Idempotency { key: key.into(), fingerprint: [fingerprint; 32] })
}

impl Rig {
    fn ask(&mut self, number: u32, key: &str, fingerprint: u8) -> Accepted {
        let order = order(number, to_user("bob"), Mode::First, self.now);
        self.engine.accept(order, asked(key, fingerprint), number, self.now, &mut self.out).unwrap()
    }
}

#[test]
fn pending_commands_are_limited_by_target_and_in_total() {
    let mut rig = Rig::with(CommandLimits { max_pending_per_user: 2, max_pending: 4, ..CommandLimits::default() });
    let send = |rig: &mut Rig, number, aim| rig.try_send(number, aim, Mode::First, |_| {});
    assert_eq!(send(&mut rig, 1, to_user("bob")), Ok(()));
    assert_eq!(send(&mut rig, 2, to_connection(1, "bob")), Ok(()));
    assert_eq!(send(&mut rig, 3, to_user("bob")), Err(Refusal::TooManyOfUser));
    assert_eq!(send(&mut rig, 4, to_connection(1, "-")), Ok(()));
    assert_eq!(send(&mut rig, 5, to_connection(1, "-")), Ok(()));
    assert_eq!(send(&mut rig, 6, to_user("eve")), Err(Refusal::TooMany));
    rig.engine.cancel(command_id(1), rig.now, &mut rig.out);
    assert_eq!(send(&mut rig, 7, to_connection(1, "-")), Err(Refusal::TooManyOfUser));
    assert_eq!(send(&mut rig, 8, to_user("bob")), Ok(()));
    // What is over does not count, even if nobody has looked at the clock since.
    rig.now.monotonic_ms = 5000;
    assert_eq!(send(&mut rig, 9, to_user("bob")), Ok(()));
    assert_eq!(rig.engine.figures().refused, 3);
}

#[test]
fn addressed_sessions_are_limited_in_total() {
    for mode in Mode::ALL {
        let mut rig = Rig::with(CommandLimits { max_pending_rows: 5, ..CommandLimits::default() });
        (1..=3).for_each(|number| rig.online(number, "bob"));
        let send = |rig: &mut Rig, number, aim| rig.try_send(number, aim, mode, |_| {});
        assert_eq!(send(&mut rig, 1, Aim::Everybody), Ok(()));
        assert_eq!(send(&mut rig, 2, Aim::Everybody), Err(Refusal::TooManyRows));
        assert_eq!(send(&mut rig, 3, to_user("bob")), Err(Refusal::TooManyRows));
        assert_eq!(send(&mut rig, 4, to_list(&[1, 2])), Ok(()));
        rig.leave();
        (1..=3).for_each(|number| rig.fate(1, number, CommandFate::Overflow));
        rig.engine.cancel(command_id(1), rig.now, &mut rig.out);
        assert_eq!(send(&mut rig, 5, Aim::Everybody), Ok(()));
    }
}

#[test]
fn documents_of_pending_commands_are_limited_in_bytes_together() {
    // Each has the document {"key":"k"} and the key k.
    let mut rig = Rig::with(CommandLimits { max_pending_bytes: 25, ..CommandLimits::default() });
    let send = |rig: &mut Rig, number| rig.try_send(number, to_user("bob"), Mode::First, |_| {});
    assert_eq!([1, 2].map(|number| send(&mut rig, number)), [Ok(()), Ok(())]);
    assert_eq!(send(&mut rig, 3), Err(Refusal::TooManyBytes));
    rig.engine.cancel(command_id(1), rig.now, &mut rig.out);
    assert_eq!(send(&mut rig, 4), Ok(()));
    assert_eq!(send(&mut rig, 5), Err(Refusal::TooManyBytes));
}

#[test]
fn the_same_request_is_sent_once() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    assert_eq!(rig.ask(1, "a", 1), Accepted::New);
    assert_eq!(rig.ask(2, "a", 1), Accepted::Joined(command_id(1)));
    assert_eq!(rig.ask(3, "a", 2), Accepted::Conflict);
    assert_eq!(rig.deliver(), "1>1");
    // One of two who wait goes away: the command does not.
    rig.engine.abandon(command_id(1), |waiter| *waiter == 1, rig.now, &mut rig.out);
    assert!(rig.reply(1, 1, "bob"));
    let (waiters, report) = rig.reports().remove(0);
    assert_eq!(waiters, [2]);
    assert_eq!(rig.ask(4, "a", 1), Accepted::Finished(report));
    assert_eq!(rig.ask(5, "a", 2), Accepted::Conflict);
    rig.at(599_999);
    assert!(matches!(rig.ask(6, "a", 1), Accepted::Finished(_)));
    rig.at(600_000);
    assert_eq!(rig.ask(7, "a", 2), Accepted::New);
    assert_eq!(rig.leave(), "7>1");
}

#[test]
fn a_request_that_was_refused_is_no_request() {
    let mut rig = Rig::with(CommandLimits { max_pending: 0, ..CommandLimits::default() });
    let order = order(1, to_user("bob"), Mode::First, rig.now);
    for _ in 0..2 {
        let refused = rig.engine.accept(order.clone(), asked("a", 1), 1, rig.now, &mut rig.out);
        assert_eq!(refused, Err(Refusal::TooMany));
    }
}

#[test]
fn remembered_outcomes_are_limited_and_the_oldest_are_forgotten_first() {
    let mut rig = Rig::with(CommandLimits { idempotency_max: 2, ..CommandLimits::default() });
    for number in 1..=4 {
        rig.ask(number, &format!("key {number}"), 1);
    }
    for number in [3, 1, 2] {
        rig.engine.cancel(command_id(number), rig.now, &mut rig.out);
    }
    assert_eq!(rig.ask(5, "key 3", 1), Accepted::New, "the first that ended");
    assert_eq!(rig.ask(6, "key 4", 1), Accepted::Joined(command_id(4)), "what is pending is not forgotten");
    for key in ["key 1", "key 2"] {
        assert!(matches!(rig.ask(7, key, 1), Accepted::Finished(_)));
    }
}

#[test]
fn remembered_outcomes_make_room_for_what_is_collected() {
    let mut rig = Rig::with(CommandLimits { max_held_bytes: 1000, ..CommandLimits::default() });
    rig.online(1, "bob");
    for (number, key) in [(1, "a"), (2, "b")] {
        rig.ask(number, key, 1);
        rig.deliver();
        assert_eq!(rig.reply_with(number, 1, "bob", json!("x".repeat(200))), Ok(true));
    }
    assert!(matches!(rig.ask(3, "a", 1), Accepted::Finished(_)));
    rig.online(2, "eve");
    rig.send(4, Aim::Everybody, Mode::All);
    rig.deliver();
    assert_eq!(rig.reply_with(4, 1, "bob", json!("x".repeat(400))), Ok(true));
    assert_eq!(rig.ask(5, "a", 1), Accepted::New);
    assert!(matches!(rig.ask(6, "b", 1), Accepted::Finished(_)));
}

#[test]
fn pending_and_settled_commands_can_be_looked_at() {
    let mut rig = Rig::with(CommandLimits { history_max: 2, ..CommandLimits::default() });
    rig.online(1, "bob");
    rig.try_send(1, to_user("bob"), Mode::First, |order| order.sender = Some("ann".into())).unwrap();
    rig.deliver();
    (2..=4).for_each(|number| rig.send(number, to_user("eve"), Mode::All));
    rig.at(3);
    let pending = rig.engine.pending(0, 2, rig.now);
    let first = &pending[0];
    assert_eq!((first.id, &*first.key, first.sender.as_deref()), (command_id(1), "k", Some("ann")));
    assert_eq!((first.left_ms, first.accepted_unix_ms, first.is_held), (4997, 1000, false));
    assert_eq!(first.counts, Counts { sessions: 1, delivered: 1, replied: 0 });
    let rest = rig.engine.pending(pending[1].number, 9, rig.now);
    assert_eq!(rest.iter().map(|command| command.id).collect::<Vec<_>>(), [command_id(3), command_id(4)]);
    assert!(rest[0].is_held);
    for number in [2, 1, 4] {
        rig.engine.cancel(command_id(number), rig.now, &mut rig.out);
    }
    let history = rig.engine.history(0, 9);
    assert_eq!(history.iter().map(|settled| settled.id).collect::<Vec<_>>(), [command_id(1), command_id(4)]);
    assert_eq!((history[0].outcome, history[0].latency_ms, history[0].counts.delivered), (Outcome::Cancelled, 3, 1));
    assert_eq!(rig.engine.history(history[0].number, 9), history[1..]);
    assert_eq!(rig.engine.history(0, 1), history[..1]);
}

#[test]
fn times_to_the_reply_are_counted_in_buckets() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    for (number, ms) in [(1, 0), (2, 1), (3, 2), (4, 5000)] {
        rig.at(0);
        rig.try_send(number, to_user("bob"), Mode::First, |order| order.deadline_ms = 9000).unwrap();
        rig.deliver();
        rig.at(ms);
        assert!(rig.reply(number, 1, "bob"));
    }
    rig.send(5, to_user("bob"), Mode::First);
    rig.engine.cancel(command_id(5), rig.now, &mut rig.out);
    let figures = rig.engine.figures();
    let other = COUNTED_KEYS.len() - 1;
    assert_eq!(figures.ended[other].latency, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(figures.ended[other].latency_sum_ms, 5003);
}

#[test]
fn an_id_may_be_used_again_only_when_its_command_has_ended() {
    let mut rig = Rig::with(CommandLimits { history_max: 1, ..CommandLimits::default() });
    rig.online(1, "bob");
    rig.send(1, to_user("bob"), Mode::First);
    assert_eq!(rig.try_send(1, to_user("eve"), Mode::First, |_| {}), Err(Refusal::IdInUse));
    rig.deliver();
    assert!(rig.reply(1, 1, "bob"));
    rig.send(1, to_user("bob"), Mode::First);
    rig.engine.cancel(command_id(1), rig.now, &mut rig.out);
    // The first of the two is forgotten, and the second is not.
    assert!(!rig.reply(1, 1, "bob"));
    assert_eq!(rig.engine.figures().late_replies, 1);
}
