//! What client commands change about a connection: a pause, and what is known of how it is.

use serde_json::{Value, json};
use switchboard::command::{CommandOptions, HEARTBEAT, Outcome, PAUSE, RESUME, Status, Target};
use switchboard::node::Speaker;

use crate::bots::{Bot, WIRES, Wire, to_user, within_ms};
use crate::peer::eventually;
use crate::support::TestServer;

const ROOM: &str = "defaultRoom";

fn replied() -> Value {
    json!({"success": true})
}

impl TestServer {
    #[track_caller]
    fn tell_room(&self, message: &str) {
        self.wait(self.node().broadcast(Speaker::server(), ROOM, message)).unwrap();
    }

    /// Sends a command to one connection that obeys it.
    #[track_caller]
    fn order(&self, bot: &mut Bot, key: &str) {
        let by = CommandOptions { sender: Some("ann".to_owned()), ..within_ms(60_000) };
        let pending = self.ask_for(Target::Connection(bot.id), key, by);
        bot.obey(key, &replied());
        self.outcome(pending, Outcome::Replied);
    }
}

#[test]
fn a_paused_session_hears_no_room_but_commands_and_answers_until_it_resumes() {
    let server = TestServer::start();
    for wire in WIRES {
        let [mut paused, mut other] = [(); 2].map(|()| Bot::connect(&server, wire, Some("u1")));
        paused.join(ROOM);
        other.join(ROOM);
        server.order(&mut paused, PAUSE);
        server.tell_room("during");
        assert_eq!(other.client.read_json()["message"], "during", "another session of the same user is not paused");
        // Its own requests and further commands: what comes next are their answers, and not what the room was told.
        paused.send("randomNumber", &json!({"event": "action", "params": {"action": "randomNumber"}}));
        assert!(paused.client.read_json()["randomNumber"].is_number());
        server.order(&mut paused, "getLogs");
        server.order(&mut paused, RESUME);
        server.tell_room("after");
        assert_eq!(paused.client.read_json()["message"], "after", "what it missed is not kept");
        assert_eq!(other.client.read_json()["message"], "after");
        [paused, other].into_iter().for_each(|bot| bot.leave(&server));
    }
}

#[test]
fn who_paused_a_session_and_since_when_is_remembered_until_it_ends() {
    let server = TestServer::start();
    let mut bot = Bot::connect_deaf(&server, Wire::Web, Some("u1"));
    bot.say_about_itself(json!({"commands": true, "canPauseResumeMsgStream": true, "pausedMsgStream": "never"}));
    let view = |bot: &Bot| server.node().client_of(bot.id).unwrap();
    let shown = |bot: &Bot| view(bot).data.unwrap().to_value();
    assert_eq!((view(&bot).paused, view(&bot).status), (None, Status::Online));
    assert_eq!(shown(&bot)["pausedMsgStream"], false);
    assert_eq!(shown(&bot)["ipAddress"], "127.0.0.1");
    let before = server.node().unix_ms();
    server.order(&mut bot, PAUSE);
    let paused = view(&bot).paused.unwrap();
    assert_eq!(paused.by.as_deref(), Some("ann"));
    assert!((before..=server.node().unix_ms()).contains(&paused.since_unix_ms));
    assert_eq!((view(&bot).status, &shown(&bot)["pausedMsgStream"]), (Status::Busy, &json!(true)));
    server.order(&mut bot, RESUME);
    assert_eq!((view(&bot).paused, view(&bot).status), (None, Status::Online));
    assert!(shown(&bot)["msgStreamLastActive"].as_u64().unwrap() >= before);
    server.order(&mut bot, PAUSE);
    let id = bot.id;
    bot.leave(&server);
    eventually("nothing is left of it", || server.node().client_of(id).is_none());
    let mut again = Bot::connect(&server, Wire::Web, Some("u1"));
    again.join(ROOM);
    server.tell_room("hello again");
    assert_eq!(again.client.read_json()["message"], "hello again", "a pause ends with its connection");
}

#[test]
fn a_pause_begins_with_success_and_with_nothing_else() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
    bot.join(ROOM);
    for reply in [json!({"success": false, "error": {}}), json!({}), json!({"success": "true"}), json!({"success": 1})]
    {
        let pending = server.ask_for(to_user("u1"), PAUSE, within_ms(60_000));
        bot.obey(PAUSE, &reply);
        server.outcome(pending, Outcome::Replied);
        server.tell_room("still here?");
        assert_eq!(bot.client.read_json()["message"], "still here?", "{reply}");
    }
    // Not with the success of another command, nor with that of somebody who was not asked.
    let mut stranger = Bot::connect(&server, Wire::Line, Some("u2"));
    stranger.join(ROOM);
    let pending = server.ask_for(to_user("u1"), PAUSE, within_ms(60_000));
    let command = bot.command(PAUSE);
    stranger.reply_in_vain(&command, &replied());
    server.tell_room("and here?");
    assert_eq!(stranger.client.read_json()["message"], "and here?");
    // A late success is one: it has paused itself, whatever the sender was told.
    server.node().cancel_client_command(pending.id());
    server.outcome(pending, Outcome::Cancelled);
    assert_eq!(bot.client.read_json()["message"], "and here?");
    bot.reply_in_vain(&command, &replied());
    server.tell_room("nobody?");
    assert_eq!(stranger.client.read_json()["message"], "nobody?");
    bot.expect_silence();
}

#[test]
fn of_two_sessions_the_one_that_answers_too_late_is_paused_too() {
    let server = TestServer::start();
    let mut bots = [(); 2].map(|()| Bot::connect(&server, Wire::Line, Some("u1")));
    bots.iter_mut().for_each(|bot| bot.join(ROOM));
    let pending = server.ask_for(to_user("u1"), PAUSE, within_ms(60_000));
    let commands = bots.each_mut().map(|bot| bot.command(PAUSE));
    bots[0].reply(&commands[0], &replied());
    bots[1].reply_in_vain(&commands[1], &replied());
    server.outcome(pending, Outcome::Replied);
    server.tell_room("nobody?");
    bots.iter_mut().for_each(Bot::expect_silence);
}

#[test]
fn heartbeats_are_sent_to_who_answers_them_and_tell_who_does_not() {
    let server = TestServer::with(&["commands.heartbeat_interval=1s", "commands.timeout=300ms"]);
    let mut alive = Bot::connect_deaf(&server, Wire::Web, Some("u1"));
    let mut mute = Bot::connect_deaf(&server, Wire::Web, Some("u2"));
    let mut never = Bot::connect(&server, Wire::Line, Some("u3"));
    for bot in [&mut alive, &mut mute] {
        bot.say_about_itself(json!({"commands": true, "canListenToHeartbeat": true}));
    }
    let view = |bot: &Bot| server.node().client_of(bot.id).unwrap();
    alive.obey(HEARTBEAT, &replied());
    eventually("its answer was noted", || view(&alive).ping_ms.is_some());
    assert_eq!(view(&alive).status, Status::Online);
    assert!(view(&alive).heard_unix_ms.is_some());
    eventually("the other one is missed", || view(&mute).status == Status::Unresponsive);
    assert!(view(&mute).is_silent_from_start, "it never answered anything: look at its clock");
    // Its connection is left alone, and any answer brings it back.
    let pending = server.ask_for(to_user("u2"), "ping", within_ms(60_000));
    loop {
        let command = mute.client.read_json();
        if command["key"] == "ping" {
            mute.reply(&command, &replied());
            break;
        }
        assert_eq!(command["key"], HEARTBEAT, "{command}");
    }
    server.outcome(pending, Outcome::Replied);
    assert!(!view(&mute).is_silent_from_start);
    never.expect_silence();
    assert_eq!(view(&never).ping_ms, None);
}
