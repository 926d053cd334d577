//! Whose reply counts, and what it brings about.

use super::*;

#[test]
fn fault_row_19_a_reply_counts_from_the_addressed_user_alone_and_once() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.online(2, "eve");
    rig.online(3, "-");
    rig.send(1, to_user("bob"), Mode::First);
    rig.send(2, to_connection(1, "bob"), Mode::First);
    rig.send(3, to_connection(3, "-"), Mode::First);
    rig.send(4, to_list(&[1]), Mode::All);
    rig.deliver();
    for command in 1..=4 {
        assert!(!rig.reply(command, 2, "eve"), "another user");
        assert!(!rig.reply(command, 4, "-"), "nobody");
    }
    assert!(!rig.reply(3, 1, "bob"));
    assert!(!rig.reply(4, 1, "eve"), "the same connection, by now somebody else's");
    assert_eq!(rig.engine.figures().foreign_replies, 10);
    assert_eq!(rig.outcomes(), "", "none of that changed anything");
    // Any session of the user, subscribed or not, but without a user only the connection.
    assert!(rig.reply(1, 9, "bob"));
    assert!(rig.reply(2, 9, "bob"));
    assert!(rig.reply(3, 3, "-"));
    assert!(rig.reply(4, 9, "bob"));
    assert_eq!(rig.outcomes(), "1 replied 1/1/1; 2 replied 1/1/1; 3 replied 1/1/1; 4 replied 1/1/1 (1 replied)");
    assert!(!rig.reply(1, 2, "eve"));
    assert!(!rig.reply(4, 2, "eve"));
    assert_eq!(rig.engine.figures().foreign_replies, 12, "also when it is over");
}

#[test]
fn replies_that_do_not_count_are_counted_by_their_kind() {
    let mut rig = Rig::with(CommandLimits { history_max: 2, ..CommandLimits::default() });
    rig.online(1, "bob");
    for number in 1..=3 {
        rig.send(number, to_user("bob"), Mode::First);
    }
    rig.deliver();
    assert!(rig.reply(1, 1, "bob"));
    assert!(rig.reply(2, 1, "bob"));
    assert!(!rig.reply(2, 1, "bob"));
    // The limit has passed, though nobody has looked at the clock since.
    rig.now = Now { monotonic_ms: 5000, unix_ms: 6000, ..Now::default() };
    assert!(!rig.reply(3, 1, "bob"));
    assert!(!rig.reply(3, 1, "bob"));
    assert!(!rig.reply(1, 1, "bob"), "forgotten by now");
    assert!(!rig.reply(9, 1, "bob"));
    assert_eq!(rig.engine.reply("x", conn(1), None, Reply::new(json!({}).into()), rig.now, &mut rig.out), Ok(false));
    let figures = rig.engine.figures();
    assert_eq!((figures.duplicate_replies, figures.late_replies, figures.unknown_replies), (1, 2, 3));
    assert_eq!((figures.replies, figures.ended_with(Outcome::Replied)), (2, 2));
}

#[test]
fn a_reply_before_the_report_of_its_delivery_counts_as_delivered() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.send(1, to_user("bob"), Mode::First);
    rig.send(2, to_user("bob"), Mode::All);
    rig.leave();
    assert!(rig.reply(1, 1, "bob"));
    assert!(rig.reply(2, 1, "bob"));
    assert_eq!(rig.outcomes(), "1 replied 1/1/1; 2 replied 1/1/1 (1 replied)");
    rig.fate(1, 1, CommandFate::Delivered);
    rig.fate(2, 1, CommandFate::Overflow);
    assert_eq!(rig.engine.figures().delivered, 2);
}

#[test]
fn a_second_reply_of_one_session_does_not_fill_the_row_of_another() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.online(2, "bob");
    rig.send(1, to_user("bob"), Mode::All);
    rig.deliver();
    assert!(rig.reply(1, 1, "bob"));
    assert!(!rig.reply(1, 1, "bob"));
    assert_eq!(rig.outcomes(), "");
    assert!(rig.reply(1, 2, "bob"));
    assert_eq!(rig.outcomes(), "1 replied 2/2/2 (2 replied, 1 replied)");
    assert_eq!(rig.engine.figures().duplicate_replies, 1);
}

#[test]
fn a_bot_that_came_back_fills_the_row_of_its_former_session() {
    // Few rows are searched, many are found.
    for crowd in [0, 20] {
        let mut rig = Rig::new();
        rig.online(1, "bob");
        rig.online(2, "bob");
        rig.online(3, "bob");
        (0..crowd).for_each(|number| rig.online(100 + number, "-"));
        rig.send(1, Aim::Everybody, Mode::All);
        rig.deliver();
        rig.close(2);
        rig.online(5, "bob");
        assert!(rig.reply(1, 5, "bob"));
        assert!(!rig.reply(1, 5, "bob"));
        assert!(rig.reply(1, 3, "bob"));
        // Nobody left: the first row that is open.
        assert!(rig.reply(1, 6, "bob"));
        assert!(!rig.reply(1, 7, "bob"));
        (0..crowd).for_each(|number| assert!(rig.reply(1, 100 + number, "-")));
        let (_, report) = rig.reports().remove(0);
        assert_eq!(report.outcome, Outcome::Replied);
        assert!(report.rows.as_ref().unwrap().iter().all(|row| row.outcome == Outcome::Replied));
    }
}

#[test]
fn a_reply_beyond_the_limit_leaves_the_command_pending() {
    let mut rig = Rig::with(CommandLimits { max_reply_bytes: 20, max_held_bytes: 30, ..CommandLimits::default() });
    (1..=3).for_each(|number| rig.online(number, "-"));
    rig.send(1, Aim::Everybody, Mode::All);
    rig.deliver();
    assert_eq!(rig.reply_with(1, 1, "-", json!("x".repeat(19))), Err(ReplyTooLarge));
    assert_eq!(rig.reply_with(1, 1, "-", json!("x".repeat(18))), Ok(true));
    // A collection keeps no more than its share, and others are told so.
    assert_eq!(rig.reply_with(1, 2, "-", json!("x".repeat(9))), Err(ReplyTooLarge));
    assert_eq!(rig.reply_with(1, 2, "-", json!("x".repeat(8))), Ok(true));
    assert_eq!(rig.outcomes(), "");
    rig.at(5000);
    assert_eq!(rig.outcomes(), "1 replied 3/3/2 (1 replied, 2 replied, 3 timeout)");
    // What was kept is free again.
    rig.send(2, Aim::Everybody, Mode::All);
    rig.deliver();
    assert_eq!(rig.reply_with(2, 1, "-", json!("x".repeat(18))), Ok(true));
    assert_eq!(rig.engine.figures().too_large_replies, 2);
}

#[test]
fn a_reply_without_success_is_an_answer_and_a_client_error() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    for (number, reply) in [
        (1, json!({"success": false, "error": {}})),
        (2, json!({"success": true})),
        (3, json!({"success": "false"})),
        (4, json!([false])),
    ] {
        rig.send(number, to_user("bob"), Mode::First);
        rig.deliver();
        assert_eq!(rig.reply_with(number, 1, "bob", reply), Ok(true));
    }
    let (figures, history) = (rig.engine.figures(), rig.engine.history(0, 9));
    assert_eq!((figures.ended_with(Outcome::Replied), figures.client_errors), (4, 1));
    assert_eq!(history.iter().map(|settled| settled.client_errors).collect::<Vec<_>>(), [1, 0, 0, 0]);
}

/// A command with another key, sent by `ann`.
fn send_key(rig: &mut Rig, number: u32, aim: Aim, key: &str) {
    rig.try_send(number, aim, Mode::First, |order| {
        order.document = Arc::new(CommandDocument { key: key.into(), ..CommandDocument::clone(&order.document) });
        order.sender = Some("ann".into());
    })
    .unwrap();
    rig.deliver();
}

#[test]
fn a_client_is_paused_and_resumed_by_its_own_success() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.online(2, "bob");
    rig.says(1, "bob", json!({"canPauseResumeMsgStream": true}));
    send_key(&mut rig, 1, to_user("bob"), PAUSE);
    // Late and second replies pause as well: what they say is true.
    assert!(rig.reply(1, 2, "bob"));
    assert!(!rig.reply(1, 1, "bob"));
    assert_eq!(rig.out.paused, [(address(2), true), (address(1), true)]);
    let view = rig.engine.client(conn(1)).unwrap();
    assert_eq!(view.paused, Some(Paused { since_unix_ms: 1000, by: Some("ann".into()) }));
    assert_eq!((view.status, &view.data.unwrap().to_value()["pausedMsgStream"]), (Status::Busy, &json!(true)));
    rig.at(50);
    send_key(&mut rig, 2, to_connection(1, "bob"), RESUME);
    assert_eq!(rig.reply_with(2, 1, "bob", json!({"success": true})), Ok(true));
    assert_eq!(rig.out.paused[2..], [(address(1), false)]);
    let view = rig.engine.client(conn(1)).unwrap();
    let data = view.data.unwrap().to_value();
    assert_eq!((view.status, &data["pausedMsgStream"]), (Status::Online, &json!(false)));
    assert_eq!(data["msgStreamLastActive"], 1050);
}

#[test]
fn only_success_of_somebody_addressed_pauses() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.online(2, "eve");
    for (number, reply) in [(1, json!({"success": false})), (2, json!({"success": "true"})), (3, json!({}))] {
        send_key(&mut rig, number, to_user("bob"), PAUSE);
        assert_eq!(rig.reply_with(number, 2, "eve", json!({"success": true})), Ok(false));
        assert_eq!(rig.reply_with(number, 1, "bob", reply), Ok(true));
        assert_eq!(rig.reply_with(number, 2, "eve", json!({"success": true})), Ok(false));
    }
    send_key(&mut rig, 4, to_user("bob"), "pause");
    assert!(rig.reply(4, 1, "bob"));
    assert_eq!(rig.out.paused, []);
}

#[test]
fn a_late_reply_to_a_list_pauses_whoever_was_on_it() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.online(2, "-");
    rig.online(3, "eve");
    send_key(&mut rig, 1, to_list(&[1, 2]), PAUSE);
    rig.at(5000);
    for (from, name) in [(3, "eve"), (1, "bob"), (2, "-")] {
        assert!(!rig.reply(1, from, name));
    }
    assert_eq!(rig.out.paused, [(address(1), true), (address(2), true)]);
    assert_eq!(rig.engine.figures().foreign_replies, 1);
}

#[test]
fn a_pause_ends_with_the_connection_or_the_user_and_not_with_the_subscription() {
    let mut rig = Rig::new();
    for number in [1, 2] {
        rig.online(number, "bob");
        send_key(&mut rig, number, to_connection(number, "bob"), PAUSE);
        assert!(rig.reply(number, number, "bob"));
    }
    rig.out.paused.clear();
    rig.engine.stop_taking(conn(1), rig.now, &mut rig.out);
    rig.online(1, "bob");
    assert!(rig.engine.client(conn(1)).unwrap().paused.is_some());
    rig.engine.set_user(conn(1), user("eve"), rig.now, &mut rig.out);
    assert_eq!(rig.out.paused, [(address(1), false)]);
    rig.close(2);
    rig.online(2, "bob");
    assert_eq!(rig.engine.client(conn(2)).unwrap().paused, None);
}
