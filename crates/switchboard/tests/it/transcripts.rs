//! Plays every file of `tests/it/transcripts`: what ActionHero's clients see, line by line. Each file says at its head where
//! Switchboard differs from the servers that the facts were taken from, and why.
//!
//! `UPDATE_TRANSCRIPTS=1` writes what comes into the files, to be read and judged before it is committed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};
use switchboard::Node;
use switchboard::node::{MockConnection, Speaker};
use switchboard::proto::call::CallError;
use switchboard::proto::id::{ConnId, RoomName};
use switchboard_testkit::transcript::{Stage, play_file};

use crate::support::TestServer;

/// A test for each file, so that the name of a failing test names the file.
macro_rules! transcripts {
    ($($name:ident,)+) => {
        $(#[test]
        fn $name() {
            play(stringify!($name));
        })+

        const PLAYED: &[&str] = &[$(stringify!($name)),+];
    };
}

transcripts! {
    a_browser_and_telnet_share_a_room,
    a_browser_that_names_its_requests_finds_the_names_in_the_answers,
    a_delimiter_of_its_own_ends_lines,
    a_destroyed_room_is_gone_for_everybody,
    a_fast_action_overtakes_a_slow_one,
    a_line_past_the_limit_is_answered_and_skipped,
    a_message_id_comes_back_with_the_answer,
    a_new_pattern_evicts_members_silently,
    a_pattern_guards_a_room,
    a_running_action_keeps_its_params,
    a_sixth_pending_action_is_refused,
    actions_are_asked_for_by_their_name,
    callbacks_announce_joins_and_leaves,
    callbacks_run_in_the_order_of_their_priorities,
    classic_never_shows_a_message_id,
    connections_end_with_a_goodbye,
    documentation_describes_every_action,
    files_are_sent_as_bytes,
    json_params_replace_the_sticky_ones,
    lines_end_with_cr_lf_or_lf_or_cr,
    lines_have_no_limit_where_the_operator_wants_none,
    long_lines_work_up_to_the_limit,
    modern_lets_the_speaker_hear_itself,
    modern_names_every_request,
    modern_refuses_long_lines_in_its_own_words,
    modern_words_answers_as_generation_29,
    modern_words_browser_answers_as_generation_29,
    param_add_without_words_stores_nothing,
    params_are_limited_in_number_and_size,
    params_are_scrubbed_where_the_operator_wants_it,
    params_stick_until_deleted,
    pipelined_verbs_are_done_in_order_and_have_their_own_numbers,
    rooms_are_joined_viewed_and_left,
    the_browser_transport_is_answered,
    the_server_adds_removes_and_speaks,
    the_server_ends_a_browsers_connection,
    the_socket_documents_commands_work_as_typed,
    the_welcome_and_the_goodbye_can_be_reworded,
    websocket_requests_are_answered_as_on_the_line,
    welcome_is_all_that_comes_unasked,
    what_is_said_reaches_the_other_members,
}

#[test]
fn every_transcript_is_played() {
    let files = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let mut names: Vec<String> = files.map(|file| file.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    let mut played: Vec<&str> = PLAYED.to_vec();
    played.sort_unstable();
    assert_eq!(names, played, "each file needs its line in the list above");
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/transcripts")
}

fn play(name: &str) {
    let stage = |settings: &str| -> Box<dyn Stage> {
        let settings: Vec<&str> = settings.lines().collect();
        Box::new(ServerStage { server: TestServer::with(&settings), recorded: Arc::default() })
    };
    if let Err(reason) = play_file(&folder().join(format!("{name}.txt")), stage) {
        panic!("{reason}");
    }
}

struct ServerStage {
    server: TestServer,
    /// What callbacks noted.
    recorded: Recorded,
}

type Recorded = Arc<Mutex<Vec<String>>>;

impl Stage for ServerStage {
    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    fn web_address(&self) -> SocketAddr {
        self.server.web_address()
    }

    fn connection_id(&mut self, client: SocketAddr) -> Option<String> {
        self.server.find(client).map(|id| id.to_string())
    }

    fn call(&mut self, call: &str) -> Result<Value, String> {
        self.server.wait(run(self.server.node(), &self.recorded, call))
    }
}

/// The calls that a transcript may make, by the names of the methods. Values are JSON without spaces, except for the last.
async fn run(node: &Node, recorded: &Recorded, call: &str) -> Result<Value, String> {
    let (name, rest) = call.split_once(' ').unwrap_or((call, ""));
    let words: Vec<&str> = rest.splitn(3, ' ').collect();
    let first_id = || ConnId::parse(words[0]).ok_or_else(|| format!("{} is no id", words[0]));
    let text = |error: CallError| error.to_string();
    let done = |()| Value::Null;
    let json = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| format!("not JSON: {error}: {text}"));
    match (name, &words[..]) {
        ("add_member", [_, room]) => node.add_member(first_id()?, room).await.map(done).map_err(text),
        ("add_room", [room]) => node.add_room(room).await.map(Value::from).map_err(text),
        ("announce_joins_and_leaves", [""]) => {
            node.add_join_callback(100, |change| change.broadcast("I have entered the room"));
            node.add_leave_callback(100, |change| change.broadcast("I have left the room"));
            Ok(Value::Null)
        }
        ("authorize", [_, room]) => node.authorize(first_id()?, room).await.map(Value::from).map_err(text),
        ("broadcast", [speaker, room, message]) => {
            let number = node.broadcast(speaker_of(&json(speaker)?), room, json(message)?).await.map_err(text)?;
            Ok(number.map_or_else(|| "nobody".into(), Value::from))
        }
        ("clear_authentication_pattern", [room]) => {
            node.clear_authentication_pattern(room).await.map(done).map_err(text)
        }
        ("connection", [_]) => {
            let info = node.connection(first_id()?).await.map_err(text)?;
            let state: Map<String, Value> =
                info.handle.state().iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
            Ok(json!({
                "id": info.handle.id().to_string(),
                "type": info.handle.connection_type().as_str(),
                "rooms": names(&info.rooms),
                "state": state,
            }))
        }
        ("destroy_room", [room]) => node.destroy_room(room).await.map(done).map_err(text),
        ("disconnect", [_]) => node.disconnect(first_id()?).await.map(done).map_err(text),
        ("reauthenticate", [_]) => {
            let done = node.reauthenticate(first_id()?).await.map_err(text)?;
            Ok(json!({"rooms": names(&done.rooms), "removed": names(&done.removed)}))
        }
        ("record_joins", [priority, label]) => {
            let (recorded, label) = (Arc::clone(recorded), (*label).to_owned());
            let priority = priority.parse().map_err(|_| "a priority is a number")?;
            node.add_join_callback(priority, move |_| recorded.lock().unwrap().push(label.clone()));
            Ok(Value::Null)
        }
        ("recorded", [""]) => Ok(std::mem::take(&mut *recorded.lock().unwrap()).into()),
        ("remove_member", [_, room]) => node.remove_member(first_id()?, room).await.map(done).map_err(text),
        ("room_exists", [room]) => node.room_exists(room).await.map(Value::from).map_err(text),
        ("room_status", [room]) => {
            let status = node.room_status(room).await.map_err(text)?;
            let members = status.members.iter().map(|member| {
                let id = member.id.to_string();
                (id.clone(), json!({"id": id, "joinedAt": member.joined_at}))
            });
            let members: Map<String, Value> = members.collect();
            Ok(json!({"room": status.room.as_str(), "membersCount": members.len(), "members": members}))
        }
        ("rooms", [""]) => node.rooms().await.map(|rooms| names(&rooms)).map_err(text),
        ("send_message", [_, rest @ ..]) => {
            node.send_message(first_id()?, json(&rest.join(" "))?).await.map(done).map_err(text)
        }
        ("set", [_, name, value]) => {
            let set = node.set_connection_state(first_id()?, name, json(value)?);
            set.map(done).map_err(|error| error.to_string())
        }
        ("set_authentication_pattern", [room, key, value]) => {
            node.set_authentication_pattern(room, key, json(value)?).await.map(done).map_err(text)
        }
        _ => Err(format!("no such call: {call}")),
    }
}

/// `{"connection":ID}`, or what a mock connection has.
fn speaker_of(json: &Value) -> Speaker {
    if let Some(id) = json["connection"].as_str().and_then(ConnId::parse) {
        return Speaker::from(id);
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let rooms = json["rooms"].as_array().map(|rooms| rooms.iter().filter_map(text).collect());
    MockConnection { id: text(&json["id"]), rooms }.into()
}

fn names(rooms: &[RoomName]) -> Value {
    rooms.iter().map(RoomName::as_str).collect()
}
