//! The three levels of the line protocol, row by row, and clients of two generations against one server. Whole conversations
//! of each level are transcripts.

use std::collections::HashMap;

use serde_json::{Value, json};
use switchboard::node::Speaker;
use switchboard_testkit::client::LineClient;

use crate::support::TestServer;

const AUTO: &str = "servers.socket.compat=auto";
const CLASSIC: &str = "servers.socket.compat=classic";
const MODERN: &str = "servers.socket.compat=modern";

fn client(level: &str) -> (TestServer, LineClient) {
    let server = TestServer::with(&[level]);
    let client = server.connect();
    (server, client)
}

/// The names of an answer's members, sorted.
fn members(answer: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// Plays one line after the other against a server of a level, and returns the last answer.
fn last(level: &str, lines: &[&str]) -> Value {
    let (_server, mut client) = client(level);
    lines.iter().map(|line| client.ask(line)).last().unwrap()
}

#[test]
fn without_a_level_the_server_speaks_auto() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.ask("paramAdd messageId=m");
    let answer = client.ask("hello");
    let expected = json!({
        "error": "Error: unknown action or invalid apiVersion", "context": "response", "messageCount": 2, "messageId": "m",
    });
    assert_eq!(answer, expected);
}

#[test]
fn requests_are_numbered_or_named_by_level() {
    for (level, without, with) in [
        (AUTO, vec!["messageCount"], vec!["messageCount", "messageId"]),
        (CLASSIC, vec!["messageCount"], vec!["messageCount"]),
        (MODERN, vec!["messageId"], vec!["messageId"]),
    ] {
        let ids = |answer: &Value| -> Vec<String> {
            members(answer).into_iter().filter(|name| name.starts_with("message")).map(str::to_owned).collect()
        };
        let (_server, mut client) = client(level);
        // A verb, a refused verb, an action, a failed action, a file that is not there.
        let lines = ["paramsView", "roomAdd none", "randomNumber", "nope", "file none"];
        for line in lines {
            assert_eq!(ids(&client.ask(line)), without, "{level} {line}");
        }
        client.ask("paramAdd messageId=m");
        for line in lines {
            let answer = client.ask(line);
            assert_eq!(ids(&answer), with, "{level} {line}");
            assert!(answer["messageId"].is_null() || answer["messageId"] == "m", "{level} {line}");
        }
    }
}

#[test]
fn modern_gives_each_request_without_a_name_a_new_one() {
    let (_server, mut client) = client(MODERN);
    let mut names: Vec<String> =
        (0..100).map(|_| client.ask("paramsView")["messageId"].as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 100);
}

#[test]
fn refused_verbs_have_a_status_or_an_error_by_level_and_modern_names_the_room() {
    for (lines, classic, modern, has_data) in [
        (
            &["roomAdd defaultRoom", "roomAdd defaultRoom"][..],
            "connection already in this room",
            " (defaultRoom)",
            true,
        ),
        (&["roomAdd none"], "room does not exist", "", true),
        (&["roomLeave defaultRoom"], "connection not in this room", " (defaultRoom)", true),
        (&["say defaultRoom x"], "connection not in this room", " (defaultRoom)", false),
        (&["say defaultRoom"], "both room and message are required", "", false),
    ] {
        for level in [AUTO, CLASSIC] {
            let mut expected = json!({"status": classic, "context": "response", "messageCount": lines.len()});
            if has_data {
                expected["data"] = json!(false);
            }
            assert_eq!(last(level, lines), expected, "{level} {lines:?}");
        }
        let answer = last(MODERN, lines);
        assert_eq!(answer["error"], format!("{classic}{modern}"), "{lines:?}");
        assert_eq!(members(&answer), ["context", "error", "messageId"], "{lines:?}");
    }
    assert_eq!(last(CLASSIC, &["roomView r"])["status"], "not member of room r");
    assert_eq!(last(MODERN, &["roomView r"])["error"], "connection not in this room (r)");
}

#[test]
fn errors_of_actions_have_a_prefix_by_level() {
    for line in ["nope", "cacheTest"] {
        let told = |level| last(level, &[line])["error"].as_str().unwrap().to_owned();
        assert_eq!(told(AUTO), told(CLASSIC));
        assert_eq!(told(CLASSIC), format!("Error: {}", told(MODERN)));
    }
}

#[test]
fn done_without_a_value_is_null_or_nothing_by_level() {
    for lines in [
        &["paramAdd a=1"][..],
        &["paramDelete a"],
        &["paramsDelete"],
        &["roomAdd defaultRoom", "say defaultRoom alone"],
    ] {
        for level in [AUTO, CLASSIC] {
            assert_eq!(last(level, lines).get("data"), Some(&Value::Null), "{level} {lines:?}");
        }
        let (server, mut client) = client(MODERN);
        let mut answers = lines.iter().map(|line| client.ask(line)).collect::<Vec<_>>();
        if answers.last().is_some_and(|answer| answer["context"] == "user") {
            // Its own message, which is not ordered against the answer.
            answers.push(client.read_json());
        }
        assert_eq!(members(answers.last().unwrap()), ["context", "messageId", "status"], "{lines:?}");
        drop(server);
    }
}

#[test]
fn an_input_that_is_zero_false_or_an_empty_list_is_missing_at_level_classic_only() {
    let missing = |level, key: Value| {
        let line = json!({"action": "cacheTest", "params": {"key": key, "value": "v"}}).to_string();
        last(level, &[&line]).get("error").is_some()
    };
    for key in [json!(0), json!(false), json!([])] {
        assert_eq!([AUTO, CLASSIC, MODERN].map(|level| missing(level, key.clone())), [false, true, false], "{key}");
    }
    for key in [json!(""), json!(null)] {
        assert!(missing(AUTO, key.clone()) && missing(MODERN, key.clone()), "{key}");
    }
    for key in [json!("0"), json!({}), json!(1)] {
        assert!(!missing(AUTO, key.clone()) && !missing(MODERN, key.clone()), "{key}");
    }
}

#[test]
fn only_modern_has_a_fingerprint_on_tcp_and_it_is_the_id() {
    for level in [AUTO, CLASSIC] {
        assert_eq!(last(level, &["detailsView"])["data"].get("fingerprint"), Some(&Value::Null));
    }
    let data = last(MODERN, &["detailsView"])["data"].clone();
    assert!(data["id"].is_string());
    assert_eq!(data["fingerprint"], data["id"]);
}

#[test]
fn the_goodbye_is_the_levels_unless_the_operator_wrote_one() {
    let own = "servers.socket.goodbye_message=So long";
    for (settings, told) in [
        (&[AUTO][..], "Bye!"),
        (&[CLASSIC], "Bye!"),
        (&[MODERN], "Bye"),
        (&[AUTO, own], "So long"),
        (&[MODERN, own], "So long"),
    ] {
        let server = TestServer::with(settings);
        let mut client = server.connect();
        assert_eq!(client.ask("quit"), json!({"status": told, "context": "api"}), "{settings:?}");
        client.expect_fin();
    }
}

/// It was the level of the line protocol that decided for browsers too.
#[test]
fn a_speaker_hears_itself_where_its_own_protocol_is_modern_and_everywhere_if_the_operator_wants_it() {
    let everybody = "rooms.echo_to_sender=true";
    let modern_web = "servers.websocket.compat=modern";
    for (settings, hears) in [
        (&[AUTO][..], [false, false]),
        (&[CLASSIC, "servers.websocket.compat=classic", "servers.web.compat=modern"], [false, false]),
        (&[MODERN], [true, false]),
        (&[modern_web], [false, true]),
        (&[MODERN, modern_web], [true, true]),
        (&[AUTO, everybody], [true, true]),
        (&[CLASSIC, everybody], [true, true]),
    ] {
        let server = TestServer::with(settings);
        let line = server.connect_into(1, &["defaultRoom"]).remove(0);
        let mut web = LineClient::web(server.web_address(), "/primus").unwrap();
        assert_eq!(web.read_json()["context"], "api");
        assert_eq!(web.ask(r#"{"event":"roomAdd","room":"defaultRoom"}"#)["status"], "OK");
        let says = ["say defaultRoom hello", r#"{"event":"say","room":"defaultRoom","message":"hello"}"#];
        let mut members = [line, web];
        for speaker in 0..2 {
            let id = server.id_of(&members[speaker]).to_string();
            members[speaker].send(says[speaker]);
            for (place, member) in members.iter_mut().enumerate() {
                let answers = usize::from(place == speaker);
                let messages = usize::from(place != speaker || hears[place]);
                let lines: Vec<Value> = (0..answers + messages).map(|_| member.read_json()).collect();
                let heard: Vec<&Value> = lines.iter().filter(|line| line["context"] == "user").collect();
                assert_eq!(heard.len(), messages, "{settings:?}, {speaker} to {place}");
                assert!(heard.iter().all(|line| line["message"] == "hello" && line["from"] == id), "{heard:?}");
                member.expect_silence();
            }
            // Whoever speaks for a connection speaks as that one.
            server.wait(server.node().broadcast(Speaker::named(&*id), "defaultRoom", "for it")).unwrap();
            for (place, member) in members.iter_mut().enumerate() {
                if place != speaker || hears[place] {
                    assert_eq!(member.read_json()["message"], "for it", "{settings:?}, {speaker} to {place}");
                }
                member.expect_silence();
            }
        }
    }
}

#[test]
fn a_client_that_matches_numbers_finds_every_answer() {
    for level in [AUTO, CLASSIC] {
        let (_server, mut client) = client(level);
        // As clients of the first generations do it: counting what they send, whatever it is, and many at once.
        let lines = ["paramAdd key=a", "randomNumber", "roomAdd defaultRoom", "nope", "detailsView", "file none"];
        let sent: Vec<&str> = lines.iter().copied().cycle().take(lines.len() * 5).collect();
        client.send_together(&sent);
        let mut answers = HashMap::new();
        for _ in &sent {
            let answer = client.read_json();
            answers.insert(answer["messageCount"].as_u64().unwrap(), answer);
        }
        assert_eq!(answers.len(), sent.len(), "no number comes twice");
        for (line, count) in sent.iter().zip(1..) {
            let answer = &answers[&count];
            let fits = match *line {
                "paramAdd key=a" => answer["data"].is_null() && answer["status"] == "OK",
                "randomNumber" => answer["randomNumber"].is_number(),
                "roomAdd defaultRoom" => answer["data"].is_boolean(),
                "detailsView" => answer["data"]["id"].is_string(),
                _ => answer["error"].is_string(),
            };
            assert!(fits, "{level} {line}: {answer}");
        }
    }
}

#[test]
fn a_client_that_matches_message_ids_finds_every_answer() {
    for level in [AUTO, MODERN] {
        let (_server, mut client) = client(level);
        // As the client of generation 29 does it: it names each request in a line of its own before.
        let requests = [
            "randomNumber",
            r#"{"action":"sleepTest","params":{"sleepDuration":50}}"#,
            "roomAdd defaultRoom",
            "roomAdd defaultRoom",
            "detailsView",
            "nope",
        ];
        for (index, request) in requests.iter().enumerate() {
            client.send_together(&[&format!("paramAdd messageId=id-{index}"), request]);
        }
        let mut answers: HashMap<String, Vec<Value>> = HashMap::new();
        for _ in 0..requests.len() * 2 {
            let answer = client.read_json();
            let id = answer["messageId"].as_str().unwrap_or_default().to_owned();
            answers.entry(id).or_default().push(answer);
        }
        for (index, request) in requests.iter().enumerate() {
            let of_request = |answer: &&Value| match *request {
                "randomNumber" => answer["randomNumber"].is_number(),
                "detailsView" => answer["data"]["id"].is_string(),
                "nope" => answer["error"].as_str().is_some_and(|text| text.contains("unknown action")),
                "roomAdd defaultRoom" if index == 2 => answer["data"] == true,
                "roomAdd defaultRoom" => answer.to_string().contains("connection already in this room"),
                _ => answer["sleepDuration"] == 50,
            };
            let found = answers.get(&format!("id-{index}")).map(Vec::as_slice).unwrap_or_default();
            assert_eq!(found.iter().filter(of_request).count(), 1, "{level} {request}: {found:?}");
        }
    }
}
