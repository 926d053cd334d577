//! Many at once.

use std::collections::HashMap;

use super::*;

const NOW: Now = Now { monotonic_ms: 0, unix_ms: 0, micros: 0 };

#[test]
fn of_a_hundred_thousand_commands_each_has_one_outcome_while_sessions_die() {
    const SESSIONS: u32 = 2000;
    const COMMANDS: u32 = 100_000;
    let limits = CommandLimits { max_pending_per_user: usize::MAX, ..CommandLimits::default() };
    let mut engine: Engine<u32> = Engine::new(limits);
    let mut out = Out::default();
    for number in 0..SESSIONS {
        engine.take_commands(client(number, &format!("bot{number}")), false, NOW, &mut out);
    }
    let mut told = vec![0; COMMANDS as usize];
    let mut written: HashMap<(CommandId, ConnId), usize> = HashMap::new();
    let mut ended: HashMap<Outcome, usize> = HashMap::new();
    let mut unanswered = Vec::new();
    for number in 0..COMMANDS {
        let now = Now { monotonic_ms: u64::from(number / 10), unix_ms: 0, ..Now::default() };
        // Every twentieth session closes once, in the middle of everything.
        if number % (COMMANDS / (SESSIONS / 20)) == 0 {
            engine.close(conn(number / (COMMANDS / (SESSIONS / 20)) * 20), now, &mut out);
        }
        let target = number % SESSIONS;
        let mode = Mode::ALL[number as usize % 3];
        let mut order = order(number, to_user(&format!("bot{target}")), mode, now);
        order.fail_fast = number % 7 == 0;
        engine.accept(order, None, number, now, &mut out).unwrap();
        while engine.next_outgoing().is_some() {
            for dispatch in engine.send_next(u64::from(number), now) {
                let (id, to) = (dispatch.delivery.document.id, dispatch.connection);
                *written.entry((id, to)).or_default() += 1;
                engine.delivered(id, to, CommandFate::Delivered, now, &mut out);
                unanswered.push((id, dispatch.connection, target));
            }
        }
        // Answers come in another order, and some never.
        if unanswered.len() > 500 {
            let (id, from, target) = unanswered.swap_remove(number as usize % 500);
            if number % 50 != 0 {
                let bot = user(&format!("bot{target}"));
                engine.reply(id.as_str(), from, bot.as_ref(), Reply::new(json!({}).into()), now, &mut out).unwrap();
            }
        }
        engine.tick(now, &mut out);
        for (waiters, report) in out.settled.drain(..) {
            waiters.iter().for_each(|waiter| told[*waiter as usize] += 1);
            *ended.entry(report.outcome).or_default() += 1;
        }
    }
    engine.tick(Now { monotonic_ms: u64::MAX, unix_ms: 0, ..Now::default() }, &mut out);
    for (waiters, report) in out.settled.drain(..) {
        waiters.iter().for_each(|waiter| told[*waiter as usize] += 1);
        *ended.entry(report.outcome).or_default() += 1;
    }
    assert!(told.iter().all(|times| *times == 1));
    assert!(written.values().all(|times| *times == 1));
    assert!(engine.is_idle());
    for outcome in [Outcome::Replied, Outcome::Timeout, Outcome::NoRecipient, Outcome::Disconnected] {
        assert!(ended.contains_key(&outcome), "{ended:?}");
    }
}

#[test]
fn ten_thousand_replies_are_collected() {
    const SESSIONS: u32 = 10_000;
    let mut engine: Engine<u32> = Engine::new(CommandLimits::default());
    let mut out = Out::default();
    for number in 0..SESSIONS {
        // Half of them are of one user.
        let name = if number % 2 == 0 { "fleet".to_owned() } else { format!("bot{number}") };
        engine.take_commands(client(number, &name), false, NOW, &mut out);
    }
    engine.accept(order(1, Aim::Everybody, Mode::All, NOW), None, 1, NOW, &mut out).unwrap();
    let mut left = 0;
    while engine.next_outgoing().is_some() {
        let dispatches = engine.send_next(1, NOW);
        left += dispatches.len();
        for dispatch in dispatches {
            engine.delivered(command_id(1), dispatch.connection, CommandFate::Delivered, NOW, &mut out);
        }
    }
    assert_eq!(left, SESSIONS as usize);
    for number in 0..SESSIONS {
        let name = if number % 2 == 0 { "fleet".to_owned() } else { format!("bot{number}") };
        // The fleet comes back on other connections before it answers.
        let mut from = number;
        if number % 2 == 0 {
            engine.close(conn(number), NOW, &mut out);
            from += SESSIONS;
        }
        let id = command_id(1);
        let reply = Reply::new(json!({ "number": number }).into());
        assert_eq!(engine.reply(id.as_str(), conn(from), user(&name).as_ref(), reply, NOW, &mut out), Ok(true));
    }
    let (_, report) = out.settled.remove(0);
    assert_eq!(report.counts, Counts { sessions: left, delivered: left, replied: left });
    let rows = report.rows.as_ref().unwrap();
    assert!(rows.iter().all(|row| row.outcome == Outcome::Replied && row.reply.is_some()));
}
