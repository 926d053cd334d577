use super::*;

/// A history of one room, from events in their order.
fn history(events: impl IntoIterator<Item = Event>) -> History {
    let entries = events.into_iter().enumerate();
    History { entries: entries.map(|(at, event)| Entry { at: Duration::from_millis(at as u64), event }).collect() }
}

fn room() -> Name {
    "lobby".into()
}

fn joined(client: u32) -> Event {
    joined_as(client, &format!("member-{client}"))
}

fn joined_as(client: u32, member: &str) -> Event {
    Event::Joined { client, room: room(), member: member.into() }
}

fn left(client: u32) -> Event {
    Event::Left { client, room: room() }
}

fn sent(client: u32, id: u64) -> Event {
    Event::Sent { client, room: room(), id }
}

fn acknowledged(client: u32, id: u64, number: u64) -> Event {
    Event::Acknowledged { client, room: room(), id, number: Some(number) }
}

fn acknowledged_without_number(client: u32, id: u64) -> Event {
    Event::Acknowledged { client, room: room(), id, number: None }
}

/// Message `id` as number `number`.
fn heard(client: u32, id: u64, number: u64) -> Event {
    Event::Heard { client, room: room(), id: Some(id), number: Some(number) }
}

fn heard_without_number(client: u32, id: u64) -> Event {
    Event::Heard { client, room: room(), id: Some(id), number: None }
}

fn gap(client: u32, first: u64, last: impl Into<Option<u64>>) -> Event {
    Event::Gap { client, room: room(), first, last: last.into() }
}

fn leave_told(member: &str) -> Event {
    Event::LeaveTold { room: room(), member: member.into() }
}

fn presence(members: &[&str]) -> Event {
    let members = members.iter().map(|&member| member.into()).collect();
    Event::Presence { seen_by: "a".into(), room: room(), members }
}

fn event(generation: u64, seq: u64, id: u64) -> Event {
    Event::SessionEvent { session: "s".into(), generation, seq, id }
}

#[track_caller]
fn rooms(events: impl IntoIterator<Item = Event>) -> Vec<Violation> {
    history(events).check_rooms()
}

/// Clients 1, 2 and 3 have joined.
fn three(events: impl IntoIterator<Item = Event>) -> Vec<Violation> {
    rooms([joined(1), joined(2), joined(3)].into_iter().chain(events))
}

fn out_of_order(client: u32, before: u64, then: u64) -> Violation {
    Violation::OutOfOrder { client, room: room(), before, then }
}

fn silent_gap(client: u32, first: u64, last: u64, missing: u64) -> Violation {
    Violation::SilentGap { client, room: room(), first, last, missing }
}

fn lost(client: u32, id: u64, number: impl Into<Option<u64>>, sender: u32) -> Violation {
    Violation::Lost { client, room: room(), id, number: number.into(), sender }
}

#[test]
fn a_sound_history_has_no_violations() {
    let events = [
        joined(1),
        joined(2),
        sent(1, 70),
        heard(2, 70, 1),
        acknowledged(1, 70, 1),
        joined(3),
        sent(2, 71),
        acknowledged(2, 71, 2),
        heard(3, 71, 2),
        heard(1, 71, 2),
        left(3),
        sent(1, 72),
        heard(3, 72, 3),
        acknowledged(1, 72, 3),
        heard(2, 72, 3),
        leave_told("member-3"),
        presence(&["member-2", "member-1"]),
        event(1, 1, 5),
        event(1, 2, 6),
        event(2, 3, 7),
    ];
    let history = history(events);
    assert_eq!(history.check(), []);
    assert_eq!((history.acknowledged(), history.heard()), (3, 5));
    history.assert_ok("nothing to complain of");
    assert_eq!(History::default().check(), []);
}

#[test]
fn one_number_for_two_messages_is_found() {
    let twice = Violation::NumberTwice { room: room(), number: 1, ids: [70, 71], clients: [1, 2] };
    assert_eq!(three([heard(1, 70, 1), heard(2, 71, 1)]), [twice]);
    // Where numbers may begin anew, if the two have heard something together.
    let rejoined = [left(3), joined(3), heard(1, 69, 1), heard(1, 70, 2), heard(2, 69, 1), heard(2, 71, 2)];
    let twice = Violation::NumberTwice { room: room(), number: 2, ids: [70, 71], clients: [1, 2] };
    assert_eq!(three(rejoined), [twice]);
}

#[test]
fn two_numbers_of_one_message_are_found() {
    let renumbered = |client| Violation::Renumbered { room: room(), id: 70, numbers: [1, 2], client };
    assert_eq!(three([heard(1, 70, 1), heard(2, 70, 2)]), [renumbered(2)]);
    assert_eq!(three([sent(3, 70), heard(1, 70, 1), heard(2, 70, 1), acknowledged(3, 70, 2)]), [renumbered(3)]);
}

#[test]
fn wrong_order_is_found_whether_numbers_are_shown_or_not() {
    assert_eq!(three([heard(1, 70, 1), heard(1, 71, 2), heard(2, 71, 2), heard(2, 70, 1)]), [out_of_order(2, 2, 1)]);
    let blind = [heard(1, 70, 1), heard(1, 71, 2), heard_without_number(2, 71), heard_without_number(2, 70)];
    assert_eq!(three(blind), [out_of_order(2, 2, 1)]);
}

#[test]
fn numbers_that_begin_anew_need_a_gap_without_end_or_another_join() {
    assert_eq!(three([heard(1, 70, 8), heard(1, 71, 1)]), [out_of_order(1, 8, 1)]);
    assert_eq!(three([heard(1, 70, 8), gap(1, 9, 9), heard(1, 71, 1)]), [out_of_order(1, 9, 1)]);
    assert_eq!(three([heard(1, 70, 8), gap(1, 9, None), heard(1, 71, 1), heard(1, 72, 2)]), []);
    assert_eq!(three([heard(1, 70, 8), left(1), joined(1), heard(1, 71, 1)]), []);
    // Number 8 of both epochs.
    let both = [gap(1, 9, None), heard(1, 71, 8), heard(2, 70, 8), gap(2, 9, None), heard(2, 71, 8)];
    assert_eq!(three([heard(1, 70, 8)].into_iter().chain(both)), []);
}

#[test]
fn an_old_epoch_that_comes_back_is_found() {
    let first = [heard(1, 70, 8), gap(1, 9, None), heard(1, 71, 1)];
    let second = [heard(2, 71, 1), gap(2, 2, None), heard(2, 70, 8)];
    let old = Violation::OldEpoch { client: 2, room: room(), first: 8 };
    assert_eq!(three(first.into_iter().chain(second)), [old]);
}

#[test]
fn a_gap_that_is_not_told_is_found() {
    assert_eq!(three([heard(1, 70, 1), heard(1, 71, 4)]), [silent_gap(1, 2, 3, 2)]);
    assert_eq!(three([heard(1, 70, 1), gap(1, 3, 3), heard(1, 71, 4)]), [silent_gap(1, 2, 2, 1)]);
    assert_eq!(three([heard(1, 70, 1), gap(1, 2, 2), heard(1, 71, 4)]), [silent_gap(1, 3, 3, 1)]);
    assert_eq!(three([heard(1, 70, 1), heard(1, 71, 4), gap(1, 2, 3)]), [silent_gap(1, 2, 3, 2)]);
    assert_eq!(three([heard(1, 70, 1), gap(1, 3, None)]), [silent_gap(1, 2, 2, 1)]);
    assert_eq!(three([heard(1, 70, 1), gap(1, 2, 3), heard(1, 71, 4)]), []);
    assert_eq!(three([heard(1, 70, 1), gap(1, 2, None), heard(1, 71, 9)]), []);
    // Nobody has to have heard what was said before he joined.
    assert_eq!(three([heard(1, 70, 17)]), []);
}

#[test]
fn own_messages_are_no_gaps() {
    let events = [sent(1, 70), acknowledged(1, 70, 1), heard(2, 70, 1), heard(3, 70, 1)];
    let more = [sent(2, 71), acknowledged(2, 71, 2), heard(1, 71, 2), heard(3, 71, 2)];
    let last = [sent(1, 72), acknowledged(1, 72, 3), heard(2, 72, 3), heard(3, 72, 3)];
    assert_eq!(three(events.into_iter().chain(more).chain(last)), []);
    // One without an answer excuses one number that nobody knows, and none that somebody else has.
    assert_eq!(three([sent(1, 70), heard(1, 71, 1), heard(1, 72, 3)]), []);
    assert_eq!(three([sent(1, 70), heard(1, 71, 1), heard(1, 72, 4)]), [silent_gap(1, 2, 3, 1)]);
    assert_eq!(three([sent(1, 70), heard(2, 73, 2), heard(1, 71, 1), heard(1, 72, 3)]), [silent_gap(1, 2, 2, 1)]);
}

#[test]
fn who_is_shown_no_numbers_misses_what_others_know_the_number_of() {
    let known = [heard(1, 70, 1), heard(1, 71, 2), heard(1, 72, 3)];
    let missed = [heard_without_number(2, 70), heard_without_number(2, 72)];
    assert_eq!(three(known.into_iter().chain(missed)), [silent_gap(2, 2, 2, 1)]);
    let heard_all = [heard_without_number(2, 70), heard_without_number(2, 71), heard_without_number(2, 99)];
    assert_eq!(three([heard(1, 70, 1), heard(1, 71, 2)].into_iter().chain(heard_all)), []);
}

#[test]
fn a_message_that_is_heard_twice_is_found_after_another_join_too() {
    let duplicate = Violation::Duplicate { client: 1, room: room(), id: 70 };
    assert_eq!(three([heard(1, 70, 1), heard(1, 70, 1)]), [duplicate.clone(), out_of_order(1, 1, 1)]);
    assert_eq!(three([heard(1, 70, 1), left(1), joined(1), heard(1, 70, 1)]), vec![duplicate.clone()]);
    assert_eq!(three([heard_without_number(1, 70), heard_without_number(1, 70)]), [duplicate]);
}

#[test]
fn an_acknowledged_message_that_is_lost_is_found() {
    let said = [sent(1, 70), acknowledged(1, 70, 1), heard(2, 70, 1)];
    assert_eq!(three(said.clone()), [lost(3, 70, 1, 1)]);
    assert_eq!(three(said.clone().into_iter().chain([heard(3, 70, 1)])), []);
    for told in [gap(3, 1, 1), gap(3, 1, None)] {
        assert_eq!(three(said.clone().into_iter().chain([told])), []);
    }
    assert_eq!(three(said.clone().into_iter().chain([gap(3, 2, 2)])), [lost(3, 70, 1, 1)]);
    assert_eq!(three(said.clone().into_iter().chain([gap(3, 2, None)])), [lost(3, 70, 1, 1)]);
    // Who was not there throughout need not have heard it.
    assert_eq!(three(said.into_iter().chain([left(3), joined(3)])), []);
    assert_eq!(rooms([joined(1), sent(1, 70), joined(2), acknowledged(1, 70, 1)]), []);
    // Nor need anybody have heard what was not acknowledged.
    assert_eq!(three([sent(1, 70)]), []);
    let unnumbered = [sent(1, 70), acknowledged_without_number(1, 70), heard_without_number(2, 70)];
    assert_eq!(three(unnumbered.clone()), [lost(3, 70, None, 1)]);
    assert_eq!(three(unnumbered.into_iter().chain([gap(3, 5, None)])), []);
}

#[test]
fn a_gap_without_end_covers_what_is_between_and_around_new_beginnings() {
    let told = |next: u64| [gap(3, 5, None), heard(3, 99, next), heard(1, 99, next), heard(2, 99, next)];
    let said = |number: u64| [sent(1, 70), acknowledged(1, 70, number), heard(2, 70, number)];
    let check = |number: u64, next: u64| {
        let violations = three(said(number).into_iter().chain([gap(1, 5, None), gap(2, 5, None)]).chain(told(next)));
        violations.iter().any(|violation| matches!(violation, Violation::Lost { .. }))
    };
    assert!(check(4, 8) && !check(5, 8) && !check(7, 8) && check(9, 8), "in front of 8");
    assert!(!check(5, 2) && !check(50, 2) && !check(1, 2) && check(3, 2), "numbers begin anew");
}

#[test]
fn what_is_heard_without_having_joined_is_found() {
    assert_eq!(rooms([heard(1, 70, 1)]), [Violation::Stray { client: 1, room: room() }]);
    assert_eq!(rooms([heard(1, 70, 1), joined(1)]), [Violation::Stray { client: 1, room: room() }]);
}

#[test]
fn leaves_are_told_once_for_each_stay_that_ended() {
    let leaves = |member: &str, client, told, left| {
        [Violation::Leaves { room: room(), member: member.into(), client, told, left }]
    };
    let check = |events: &[Event]| history(events.iter().cloned()).check_leaves();
    let both = [joined(1), joined(2), left(1), leave_told("member-1")];
    assert_eq!(check(&both), []);
    assert_eq!(check(&[&both[..], &[leave_told("member-1")]].concat()), leaves("member-1", 1, 2, 1));
    assert_eq!(check(&[&both[..], &[leave_told("member-2")]].concat()), leaves("member-2", 2, 1, 0));
    assert_eq!(check(&[&both[..], &[left(2)]].concat()), leaves("member-2", 2, 0, 1));
    // Another connection of the same client, and one that stays and joins twice.
    assert_eq!(check(&[&both[..], &[joined_as(1, "member-9")]].concat()), []);
    assert_eq!(check(&[&both[..], &[joined(1), left(1)]].concat()), leaves("member-1", 1, 1, 2));
    // Nobody listens there.
    assert_eq!(check(&[joined(1), left(1)]), []);
}

#[test]
fn presence_is_compared_with_who_is_there() {
    let check = |events: &[Event]| history(events.iter().cloned()).check_presence();
    let wrong = |missing: &[&str], extra: &[&str]| {
        let [missing, extra] = [missing, extra].map(|names| names.iter().map(|&name| name.into()).collect());
        [Violation::Presence { room: room(), seen_by: "a".into(), missing, extra }]
    };
    let there = [joined(1), joined(2), left(1)];
    assert_eq!(check(&[&there[..], &[presence(&["member-2"])]].concat()), []);
    assert_eq!(check(&[&there[..], &[presence(&["member-1", "member-2"])]].concat()), wrong(&[], &["member-1"]));
    assert_eq!(check(&[&there[..], &[presence(&[])]].concat()), wrong(&["member-2"], &[]));
    assert_eq!(check(&[presence(&["ghost"])]), wrong(&[], &["ghost"]));
    // At that moment, not at the end.
    assert_eq!(check(&[joined(1), presence(&["member-1"]), left(1), presence(&[])]), []);
}

#[test]
fn events_of_a_session_follow_one_another_whoever_has_it() {
    let check = |events: &[(u64, u64, u64)]| {
        history(events.iter().map(|&(generation, seq, id)| event(generation, seq, id))).check_sessions()
    };
    let wrong =
        |generations, before, then| [Violation::SessionOrder { session: "s".into(), generations, before, then }];
    assert_eq!(check(&[(1, 4, 70), (2, 6, 72), (1, 5, 71)]), [], "in whatever order two threads wrote it down");
    assert_eq!(check(&[(1, 4, 70), (1, 6, 71)]), wrong([1, 1], 4, 6));
    assert_eq!(check(&[(1, 4, 70), (2, 6, 71)]), wrong([1, 2], 4, 6));
    assert_eq!(check(&[(1, 4, 70), (2, 4, 70)]), wrong([1, 2], 4, 4));
    assert_eq!(check(&[(2, 5, 71), (2, 6, 72), (1, 4, 70), (1, 5, 71)]), wrong([1, 2], 5, 5));
    let duplicate = Violation::SessionDuplicate { session: "s".into(), id: 70, seqs: [4, 5] };
    assert_eq!(check(&[(1, 4, 70), (1, 5, 70)]), [duplicate]);
}

#[test]
fn a_failure_names_test_client_room_numbers_and_the_whole_history() {
    let events = [joined(1), heard(1, 70, 1), heard(1, 71, 4)];
    let failure = std::panic::catch_unwind(|| history(events).assert_ok("seed 17")).unwrap_err();
    let text = failure.downcast_ref::<String>().unwrap();
    let start = "seed 17: 1 violations; the history: ";
    let end = "\n  room lobby: client 1 misses 2 of the numbers 2 to 3 and was told of no gap";
    let path = text.strip_prefix(start).unwrap().strip_suffix(end).unwrap();
    let kept = fs::read_to_string(path).unwrap();
    assert_eq!(kept.lines().count(), 3);
    assert!(kept.contains("2.000 ms  Heard { client: 1, room: \"lobby\", id: Some(71), number: Some(4) }"), "{kept}");
    fs::remove_file(path).unwrap();
}

#[test]
fn a_recorder_keeps_what_many_threads_tell_it() {
    let recorder = Recorder::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let client = recorder.new_client();
                for _ in 0..100 {
                    let (room, id) = (recorder.name("lobby"), recorder.new_id());
                    recorder.record(Event::Sent { client, room, id });
                }
            });
        }
    });
    let entries = recorder.history().entries;
    assert!(entries.is_sorted_by_key(|entry| entry.at) && entries.len() == recorder.len());
    let said: std::collections::BTreeSet<_> = entries.iter().map(|entry| format!("{:?}", entry.event)).collect();
    assert_eq!((said.len(), recorder.new_client(), recorder.new_clients(2), recorder.new_client()), (400, 4, 5, 7));
    assert!(!recorder.is_empty());
}
