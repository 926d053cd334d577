//! Who is sent a command, and how it ends.

use super::*;

#[test]
fn first_is_sent_to_all_sessions_and_settled_by_the_first_reply() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.online(2, "bob");
    rig.online(3, "eve");
    rig.send(1, to_user("bob"), Mode::First);
    assert_eq!(rig.deliver(), "1>2 1>1");
    rig.at(40);
    assert!(rig.reply(1, 1, "bob"));
    let (waiters, report) = rig.reports().remove(0);
    assert_eq!((waiters, report.outcome, report.latency_ms), (vec![1], Outcome::Replied, 40));
    assert_eq!(report.reply, Some(json!({"success": true}).into()));
    assert_eq!(report.counts, Counts { sessions: 2, delivered: 2, replied: 1 });
    assert_eq!(rig.out.responded, [(command_id(1), json!({"success": true}).into())]);
    assert!(!rig.reply(1, 2, "bob"));
    assert_eq!(rig.outcomes(), "");
}

#[test]
fn one_is_sent_to_the_most_recently_active_session() {
    let mut rig = Rig::new();
    for number in 1..=3 {
        rig.online(number, "bob");
    }
    rig.engine.touch(conn(2));
    rig.send(1, to_user("bob"), Mode::One);
    assert_eq!(rig.deliver(), "1>2");
    rig.engine.touch(conn(1));
    // A delivery counts as activity, and so does a reply.
    assert!(rig.reply(1, 3, "bob"));
    rig.send(2, to_user("bob"), Mode::One);
    assert_eq!(rig.deliver(), "2>3");
}

#[test]
fn one_moves_on_from_full_and_gone_sessions_but_not_from_one_that_has_it() {
    for aim in [to_user("bob"), to_list(&[1, 2, 3, 4])] {
        let mut rig = Rig::new();
        for number in 1..=4 {
            rig.online(number, "bob");
        }
        rig.send(1, aim, Mode::One);
        assert_eq!(rig.leave(), "1>4");
        rig.fate(1, 4, CommandFate::Overflow);
        assert_eq!(rig.leave(), "1>3");
        rig.fate(1, 3, CommandFate::Gone);
        assert_eq!(rig.leave(), "1>2");
        rig.close(2);
        assert_eq!(rig.deliver(), "1>1");
        rig.close(1);
        assert_eq!(rig.leave(), "");
        rig.at(5000);
        assert_eq!(rig.outcomes(), "1 timeout 4/1/0");
    }
}

#[test]
fn an_absent_user_is_waited_for_and_sent_in_the_order_of_acceptance() {
    let mut rig = Rig::new();
    rig.send(1, to_user("bob"), Mode::First);
    rig.send(2, to_user("bob"), Mode::One);
    rig.send(3, to_user("bob"), Mode::All);
    assert_eq!(rig.leave(), "");
    assert!(rig.engine.pending(0, 9, rig.now).iter().all(|command| command.is_held));
    rig.at(1000);
    rig.online(1, "bob");
    rig.send(4, to_user("bob"), Mode::First);
    assert_eq!(rig.engine.next_outgoing().unwrap().id, command_id(1));
    rig.ts += 1;
    assert_eq!(rig.engine.send_next(rig.ts, rig.now)[0].delivery.ttl_ms, 4000);
    assert_eq!(rig.leave(), "2>1 3>1 4>1");
}

#[test]
fn nobody_during_the_whole_limit_is_no_recipient() {
    let mut rig = Rig::new();
    rig.send(1, to_user("bob"), Mode::First);
    rig.send(2, to_user("bob"), Mode::All);
    rig.send(3, to_connection(1, "-"), Mode::First);
    assert_eq!(rig.engine.next_deadline(), Some(5000));
    rig.at(4999);
    assert_eq!(rig.outcomes(), "");
    rig.at(5000);
    assert_eq!(rig.outcomes(), "1 no_recipient 0/0/0; 2 no_recipient 0/0/0 (); 3 no_recipient 0/0/0");
}

#[test]
fn an_empty_list_is_no_recipient_at_once() {
    let mut rig = Rig::new();
    for (number, mode) in [(1, Mode::All), (2, Mode::First), (3, Mode::One)] {
        rig.send(number, to_list(&[7]), mode);
    }
    rig.send(4, Aim::Everybody, Mode::All);
    let expected = "1 no_recipient 0/0/0 (); 2 no_recipient 0/0/0; 3 no_recipient 0/0/0; 4 no_recipient 0/0/0 ()";
    assert_eq!(rig.outcomes(), expected);
}

#[test]
fn whoever_fails_fast_does_not_wait_for_the_absent() {
    let mut rig = Rig::new();
    rig.send_fast(1, to_user("bob"), Mode::First);
    rig.send_fast(2, to_connection(5, "bob"), Mode::All);
    assert_eq!(rig.outcomes(), "1 no_recipient 0/0/0; 2 no_recipient 0/0/0 ()");
}

#[test]
fn whoever_fails_fast_waits_for_a_session_that_is_settling() {
    let mut rig = Rig::new();
    rig.settling(1, "bob");
    rig.send_fast(1, to_user("bob"), Mode::First);
    rig.send_fast(2, to_connection(1, "bob"), Mode::First);
    assert_eq!((rig.leave().as_str(), rig.outcomes().as_str()), ("", ""));
    rig.close(1);
    assert_eq!(rig.outcomes(), "1 no_recipient 0/0/0; 2 no_recipient 0/0/0");
    rig.settling(2, "bob");
    rig.send_fast(3, to_user("bob"), Mode::First);
    rig.says(2, "bob", json!({}));
    rig.settle();
    assert_eq!(rig.leave(), "3>2");
}

#[test]
fn a_full_queue_is_reported_at_once_to_whoever_fails_fast_else_at_the_limit() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.online(2, "bob");
    rig.send_fast(1, to_user("bob"), Mode::First);
    rig.send(2, to_user("bob"), Mode::First);
    rig.leave();
    for (command, to) in [(1, 1), (2, 1), (2, 2)] {
        rig.fate(command, to, CommandFate::Overflow);
    }
    assert_eq!(rig.outcomes(), "");
    rig.fate(1, 2, CommandFate::Overflow);
    assert_eq!(rig.outcomes(), "1 overflow 2/0/0");
    rig.at(5000);
    assert_eq!(rig.outcomes(), "2 overflow 2/0/0");
}

#[test]
fn what_reached_nobody_goes_to_the_next_session_and_never_twice_to_one() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.send(1, to_user("bob"), Mode::First);
    rig.leave();
    rig.fate(1, 1, CommandFate::Overflow);
    rig.engine.stop_taking(conn(1), rig.now, &mut rig.out);
    rig.online(1, "bob");
    assert_eq!(rig.leave(), "");
    rig.online(2, "bob");
    assert_eq!(rig.deliver(), "1>2");
    assert!(rig.reply(1, 2, "bob"));
    assert_eq!(rig.outcomes(), "1 replied 2/1/1");
}

#[test]
fn what_was_delivered_is_not_sent_again_and_may_be_answered_over_another_connection() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.send(1, to_user("bob"), Mode::First);
    rig.send_fast(2, to_user("bob"), Mode::First);
    rig.deliver();
    rig.close(1);
    assert_eq!(rig.outcomes(), "2 disconnected 1/1/0");
    rig.online(2, "bob");
    assert_eq!(rig.leave(), "");
    assert!(rig.reply(1, 2, "bob"));
    assert_eq!(rig.outcomes(), "1 replied 1/1/1");
}

#[test]
fn a_connection_without_a_user_that_left_is_disconnected_at_once() {
    let mut rig = Rig::new();
    rig.online(1, "-");
    rig.send(1, to_connection(1, "-"), Mode::First);
    rig.send_fast(2, to_connection(1, "-"), Mode::First);
    rig.send(3, to_connection(1, "-"), Mode::All);
    rig.deliver();
    rig.close(1);
    assert_eq!(rig.outcomes(), "1 disconnected 1/1/0; 2 disconnected 1/1/0; 3 disconnected 1/1/0 (1 disconnected)");
}

#[test]
fn all_has_a_row_for_every_session() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.online(2, "bob");
    rig.online(3, "-");
    rig.online(4, "-");
    rig.online(5, "eve");
    rig.online(6, "eve");
    rig.send(1, to_list(&[6, 5, 4, 3, 2, 1, 1, 9]), Mode::All);
    // What belongs to one user leaves together.
    assert_eq!(rig.leave(), "1>1 1>2 1>3 1>4 1>5 1>6");
    for to in [1, 2, 4, 5, 6] {
        rig.fate(1, to, CommandFate::Delivered);
    }
    rig.fate(1, 3, CommandFate::Overflow);
    rig.close(4);
    rig.close(2);
    rig.at(70);
    assert!(rig.reply(1, 5, "eve"));
    rig.at(5000);
    let (_, report) = rig.reports().remove(0);
    assert_eq!(report.outcome, Outcome::Replied);
    assert_eq!(report.counts, Counts { sessions: 6, delivered: 5, replied: 1 });
    let rows = report.rows.as_ref().unwrap();
    let ends: Vec<_> = rows.iter().map(|row| (row.outcome.as_str(), row.latency_ms, row.reply.is_some())).collect();
    let unanswered = |outcome| (outcome, None, false);
    let expected = [
        unanswered("timeout"),
        unanswered("disconnected"),
        unanswered("overflow"),
        unanswered("disconnected"),
        ("replied", Some(70), true),
        unanswered("timeout"),
    ];
    assert_eq!(ends, expected);
    assert_eq!(rows[4].user, user("eve"));
}

#[test]
fn all_ends_when_every_row_has_ended() {
    let mut rig = Rig::new();
    for (number, name) in [(1, "bob"), (2, "eve"), (3, "-")] {
        rig.online(number, name);
    }
    rig.send(1, Aim::Everybody, Mode::All);
    rig.deliver();
    assert!(rig.reply(1, 1, "bob"));
    rig.close(3);
    assert_eq!(rig.outcomes(), "");
    assert!(rig.reply(1, 2, "eve"));
    assert_eq!(rig.outcomes(), "1 replied 3/3/2 (1 replied, 2 replied, 3 disconnected)");
}

#[test]
fn all_without_a_reply_ends_as_the_mildest_of_its_rows() {
    for (fates, expected) in [
        ([CommandFate::Delivered, CommandFate::Overflow, CommandFate::Gone], "timeout"),
        ([CommandFate::Gone, CommandFate::Overflow, CommandFate::Overflow], "disconnected"),
        ([CommandFate::Overflow, CommandFate::Overflow, CommandFate::Overflow], "overflow"),
    ] {
        let mut rig = Rig::new();
        (1..=3).for_each(|number| rig.online(number, "bob"));
        rig.send(1, to_user("bob"), Mode::All);
        rig.leave();
        (1..).zip(fates).for_each(|(number, fate)| rig.fate(1, number, fate));
        rig.at(5000);
        assert_eq!(rig.reports()[0].1.outcome.as_str(), expected);
    }
}

#[test]
fn all_stops_early_at_enough_replies() {
    let mut rig = Rig::new();
    (1..=3).for_each(|number| rig.online(number, "-"));
    rig.try_send(1, Aim::Everybody, Mode::All, |order| order.min_replies = Some(2)).unwrap();
    rig.deliver();
    rig.reply(1, 1, "-");
    assert_eq!(rig.outcomes(), "");
    rig.reply(1, 3, "-");
    assert_eq!(rig.outcomes(), "1 replied 3/3/2 (1 replied, 2 timeout, 3 replied)");
}

#[test]
fn all_that_fails_fast_does_not_wait_for_those_who_left() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.online(2, "bob");
    rig.send_fast(1, to_user("bob"), Mode::All);
    rig.deliver();
    rig.close(1);
    rig.close(2);
    assert_eq!(rig.outcomes(), "1 disconnected 2/2/0 (2 disconnected, 1 disconnected)");
}

#[test]
fn all_includes_sessions_that_are_settling() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.settling(2, "bob");
    rig.settling(3, "bob");
    rig.send(1, to_user("bob"), Mode::All);
    assert_eq!(rig.deliver(), "1>1");
    let generation = rig.out.settling[0].generation;
    rig.engine.ready(conn(2), generation, rig.now, &mut rig.out);
    assert_eq!(rig.deliver(), "1>2");
    rig.close(3);
    rig.reply(1, 1, "bob");
    rig.reply(1, 2, "bob");
    assert_eq!(rig.outcomes(), "1 replied 3/2/2 (3 disconnected, 2 replied, 1 replied)");
}

#[test]
fn a_capability_that_is_required_must_have_been_announced() {
    let mut rig = Rig::new();
    let required = |order: &mut Order| order.require_capability = true;
    rig.online(1, "bob");
    rig.says(1, "bob", json!({"commands": ["other"]}));
    rig.try_send(1, to_user("bob"), Mode::First, required).unwrap();
    rig.try_send(2, Aim::Everybody, Mode::All, required).unwrap();
    rig.try_send(3, to_user("bob"), Mode::First, |order| {
        required(order);
        order.fail_fast = true;
    })
    .unwrap();
    assert_eq!(rig.outcomes(), "2 no_recipient 0/0/0 (); 3 no_recipient 0/0/0");
    assert_eq!(rig.leave(), "");
    // Others need not wait for it.
    rig.send(4, to_user("bob"), Mode::First);
    assert_eq!(rig.leave(), "4>1");
    rig.says(1, "bob", json!({"commands": ["k"]}));
    assert_eq!(rig.leave(), "1>1");
}

#[test]
fn a_sender_may_take_his_command_back() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.send(1, to_user("bob"), Mode::First);
    rig.send(2, to_user("bob"), Mode::All);
    rig.deliver();
    rig.send(3, to_user("bob"), Mode::First);
    for number in [1, 2] {
        assert!(rig.engine.cancel(command_id(number), rig.now, &mut rig.out));
        assert!(!rig.engine.cancel(command_id(number), rig.now, &mut rig.out));
    }
    assert_eq!(rig.outcomes(), "1 cancelled 1/1/0; 2 cancelled 1/1/0 (1 cancelled)");
    // What was taken back before it left does not leave.
    rig.engine.abandon(command_id(3), |waiter| *waiter == 4, rig.now, &mut rig.out);
    assert_eq!(rig.outcomes(), "");
    rig.engine.abandon(command_id(3), |waiter| *waiter == 3, rig.now, &mut rig.out);
    let (waiters, report) = rig.reports().remove(0);
    assert_eq!((waiters, report.outcome), (vec![], Outcome::Cancelled));
    assert_eq!(rig.leave(), "");
}

#[test]
fn a_time_that_was_asked_for_is_not_used_for_another_command() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.online(2, "eve");
    rig.send(1, to_user("bob"), Mode::First);
    rig.send(2, to_user("eve"), Mode::First);
    assert_eq!(rig.engine.next_outgoing().unwrap().clock, Clock::User("bob".into()));
    rig.engine.cancel(command_id(1), rig.now, &mut rig.out);
    assert_eq!(rig.engine.send_next(1, rig.now), []);
    assert_eq!(rig.engine.next_outgoing().unwrap().clock.to_string(), "eve");
    // A session that left meanwhile is not written to either.
    rig.close(2);
    assert_eq!(rig.engine.send_next(2, rig.now), []);
    assert_eq!(rig.engine.send_next(2, rig.now), []);
}

#[test]
fn what_is_over_does_not_leave() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.send(1, to_user("bob"), Mode::First);
    rig.engine.next_outgoing().unwrap();
    let late = Now { monotonic_ms: 5000, unix_ms: 0, ..Now::default() };
    assert_eq!(rig.engine.send_next(1, late), []);
    rig.at(5000);
    assert_eq!(rig.outcomes(), "1 timeout 1/0/0");
}

#[test]
fn a_server_that_stops_refuses_new_commands_and_waits_for_those_who_can_answer() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.online(2, "eve");
    rig.online(3, "joe");
    rig.send(1, to_user("bob"), Mode::First);
    rig.send(2, to_user("eve"), Mode::First);
    rig.send(3, to_user("eve"), Mode::All);
    rig.send(4, to_user("nobody"), Mode::First);
    rig.send(5, to_user("joe"), Mode::First);
    rig.deliver();
    rig.engine.drain(rig.now, &mut rig.out);
    assert_eq!(rig.outcomes(), "4 shutdown 0/0/0");
    assert_eq!(rig.try_send(6, to_user("bob"), Mode::First, |_| {}), Err(Refusal::Draining));
    assert!(rig.reply(1, 1, "bob"));
    rig.close(2);
    assert_eq!(rig.outcomes(), "1 replied 1/1/1; 2 shutdown 1/1/0; 3 shutdown 1/1/0 (2 shutdown)");
    assert!(!rig.engine.is_idle());
    rig.engine.shut_down(rig.now, &mut rig.out);
    assert_eq!(rig.outcomes(), "5 shutdown 1/1/0");
    assert!(rig.engine.is_idle());
}

#[test]
fn a_session_that_settles_is_asked_as_soon_as_it_has_although_another_one_was_asked_before() {
    for answering in [1, 2] {
        let mut rig = Rig::new();
        rig.online(1, "bob");
        rig.settling(2, "bob");
        rig.send(1, to_user("bob"), Mode::First);
        assert_eq!(rig.deliver(), "1>1");
        rig.settle();
        assert_eq!(rig.deliver(), "1>2");
        assert!(rig.reply(1, answering, "bob"));
        assert_eq!(rig.outcomes(), "1 replied 2/2/1");
    }
    // After a reply it is no longer asked.
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.settling(2, "bob");
    rig.send(1, to_user("bob"), Mode::First);
    rig.deliver();
    assert!(rig.reply(1, 1, "bob"));
    rig.settle();
    assert_eq!(rig.deliver(), "");
}

#[test]
fn what_did_not_reach_a_subscription_reaches_the_next_one_of_its_connection() {
    let now = Rig::new().now;
    for (mode, aim) in [
        (Mode::First, to_user("bob")),
        (Mode::One, to_user("bob")),
        (Mode::First, to_connection(1, "bob")),
        (Mode::One, to_connection(1, "bob")),
        (Mode::First, to_list(&[1])),
        (Mode::One, to_list(&[1])),
        (Mode::All, to_user("bob")),
        (Mode::All, to_connection(1, "bob")),
        (Mode::All, to_list(&[1])),
    ] {
        let mut rig = Rig::new();
        rig.online(1, "bob");
        rig.send(1, aim.clone(), mode);
        rig.engine.stop_taking(conn(1), now, &mut rig.out);
        assert_eq!(rig.leave(), "");
        rig.settling(1, "bob");
        assert_eq!(rig.leave(), "");
        rig.settle();
        assert_eq!(rig.deliver(), "1>1", "{mode:?} {aim:?}");
        assert!(rig.reply(1, 1, "bob"));
        let rows = if mode == Mode::All { " (1 replied)" } else { "" };
        assert_eq!(rig.outcomes(), format!("1 replied 1/1/1{rows}"));
    }
}

#[test]
fn all_waits_for_a_session_that_was_not_reached_while_its_connection_and_user_stay() {
    let stopped = |fail_fast: bool| {
        let mut rig = Rig::new();
        rig.online(1, "bob");
        rig.try_send(1, to_list(&[1]), Mode::All, |order| order.fail_fast = fail_fast).unwrap();
        rig.engine.stop_taking(conn(1), rig.now, &mut rig.out);
        rig
    };
    let ends: [fn(&mut Rig); 3] = [
        |rig| rig.close(1),
        |rig| rig.engine.set_user(conn(1), user("eve"), rig.now, &mut rig.out),
        |rig| rig.at(5000),
    ];
    for end in ends {
        let mut rig = stopped(false);
        assert_eq!(rig.outcomes(), "");
        end(&mut rig);
        assert_eq!(rig.outcomes(), "1 disconnected 1/0/0 (1 disconnected)");
    }
    assert_eq!(stopped(true).outcomes(), "1 disconnected 1/0/0 (1 disconnected)");
    let mut rig = stopped(false);
    rig.engine.drain(rig.now, &mut rig.out);
    assert_eq!(rig.outcomes(), "1 shutdown 1/0/0 (1 shutdown)");
}

#[test]
fn what_was_on_its_way_to_a_subscription_that_ended_reaches_the_next_one() {
    for mode in [Mode::First, Mode::One, Mode::All] {
        for is_late in [false, true] {
            let mut rig = Rig::new();
            rig.online(1, "bob");
            rig.send(1, to_user("bob"), mode);
            assert_eq!(rig.leave(), "1>1");
            rig.engine.stop_taking(conn(1), rig.now, &mut rig.out);
            // The worker may say so before or after the connection subscribes again.
            if !is_late {
                rig.fate(1, 1, CommandFate::Gone);
            }
            rig.settling(1, "bob");
            if is_late {
                rig.fate(1, 1, CommandFate::Gone);
            }
            assert_eq!(rig.leave(), "");
            rig.settle();
            assert_eq!(rig.deliver(), "1>1", "{mode:?}, is_late: {is_late}");
        }
    }
}

#[test]
fn what_was_delivered_is_not_sent_again_to_the_next_subscription_or_the_next_user() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.send(1, to_user("bob"), Mode::First);
    rig.deliver();
    rig.engine.stop_taking(conn(1), rig.now, &mut rig.out);
    rig.settling(1, "bob");
    rig.settle();
    assert_eq!(rig.deliver(), "");

    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.send(1, to_list(&[1]), Mode::First);
    rig.engine.stop_taking(conn(1), rig.now, &mut rig.out);
    rig.online(1, "eve");
    assert_eq!(rig.deliver(), "");
}

#[test]
fn a_command_that_only_ended_connections_without_a_user_could_take_ends_at_once() {
    for mode in [Mode::First, Mode::One, Mode::All] {
        for aim in [to_connection(1, "-"), to_list(&[1])] {
            // Before it left, on its way, and delivered.
            for progress in 0..3 {
                let mut rig = Rig::new();
                rig.online(1, "-");
                rig.send(1, aim.clone(), mode);
                let delivered = match progress {
                    0 => 0,
                    1 => {
                        rig.leave();
                        0
                    }
                    _ => {
                        rig.deliver();
                        1
                    }
                };
                rig.close(1);
                let rows = if mode == Mode::All { " (1 disconnected)" } else { "" };
                assert_eq!(rig.outcomes(), format!("1 disconnected 1/{delivered}/0{rows}"), "{mode:?} {aim:?}");
            }
        }
        // It had a user for a while.
        let mut rig = Rig::new();
        rig.online(1, "-");
        rig.send(1, to_connection(1, "-"), mode);
        rig.deliver();
        rig.engine.set_user(conn(1), user("bob"), rig.now, &mut rig.out);
        rig.engine.set_user(conn(1), None, rig.now, &mut rig.out);
        rig.close(1);
        assert!(rig.outcomes().starts_with("1 disconnected 1/1/0"), "{mode:?}");
        // Its connection never took commands.
        for name in ["-", "bob"] {
            let mut rig = Rig::new();
            rig.send(1, to_connection(1, name), mode);
            rig.close(1);
            let rows = if mode == Mode::All { " ()" } else { "" };
            assert_eq!(rig.outcomes(), format!("1 no_recipient 0/0/0{rows}"), "{mode:?} {name}");
        }
    }
}

#[test]
fn a_connection_without_a_user_that_only_stopped_taking_commands_may_still_answer() {
    let mut rig = Rig::new();
    rig.online(1, "-");
    rig.send(1, to_connection(1, "-"), Mode::First);
    rig.deliver();
    rig.engine.stop_taking(conn(1), rig.now, &mut rig.out);
    assert_eq!(rig.outcomes(), "");
    assert!(rig.reply(1, 1, "-"));
    assert_eq!(rig.outcomes(), "1 replied 1/1/1");
}
