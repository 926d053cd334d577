//! The player against a server that says whatever the test wants.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use serde_json::json;

use super::*;

const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

/// Answers each line as `answer` says.
struct Echo(SocketAddr);

impl Echo {
    fn start(answer: fn(&str, u16) -> Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            while let Ok((socket, peer)) = listener.accept() {
                thread::spawn(move || serve(socket, peer.port(), answer));
            }
        });
        Self(address)
    }
}

/// A client that goes away in the middle ends its own thread only.
fn serve(mut socket: TcpStream, port: u16, answer: fn(&str, u16) -> Vec<u8>) {
    let lines = BufReader::new(socket.try_clone().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        if line == "quit" || socket.write_all(&answer(&line, port)).is_err() {
            return;
        }
    }
}

impl Stage for Echo {
    fn address(&self) -> SocketAddr {
        self.0
    }

    fn connection_id(&mut self, _: SocketAddr) -> Option<String> {
        Some(ID.to_owned())
    }

    fn call(&mut self, call: &str) -> Result<Value, String> {
        match call {
            "nothing" => Ok(Value::Null),
            "no" => Err(format!("no {ID}")),
            call => Ok(json!({ "called": call })),
        }
    }
}

/// Every line comes back as it is; sentinels look like answers anyhow.
fn same(line: &str, _: u16) -> Vec<u8> {
    match line.strip_prefix("roomView ") {
        Some(room) => format!("{{\"status\":\"{room}\"}}\r\n").into_bytes(),
        None => line.replace("|", "\r\n").into_bytes().into_iter().chain(*b"\r\n").collect(),
    }
}

fn told(transcript: &str) -> String {
    play(transcript, &mut Echo::start(same)).err().unwrap_or_else(|| "met".to_owned())
}

#[track_caller]
fn not_met(transcript: &str, line: usize) {
    let told = told(transcript);
    assert!(told.starts_with(&format!("{line}:")), "{told}");
}

#[test]
fn members_may_come_in_any_order_and_every_one_counts() {
    let met = "C1> (connects)\nC1> {\"a\":1,\"b\":[{\"c\":2}]}\nS1< {\"b\":[{\"c\":2}],\"a\":1}\n";
    assert_eq!(told(met), "met");
    for expected in [
        r#"{"a":1}"#,
        r#"{"a":1,"b":[{"c":2}],"d":null}"#,
        r#"{"a":1,"b":[{"c":2.0}]}"#,
        r#"{"a":"1","b":[{"c":2}]}"#,
        r#"{"a":1,"b":[{"c":2},1]}"#,
        r#"{"a":1,"b":[]}"#,
    ] {
        not_met(&format!("C1> (connects)\nC1> {{\"a\":1,\"b\":[{{\"c\":2}}]}}\nS1< {expected}\n"), 3);
    }
}

#[test]
fn a_placeholder_stands_for_its_kind_of_value_only() {
    let now = now();
    let id = json!(ID);
    let other = json!("1f8fad5b-d9cb-469f-a165-70867728950e");
    for (placeholder, good, bad) in [
        ("{ms}", json!(now), vec![json!(now - 8_000_000), json!(now.to_string()), json!(1.5)]),
        ("{n}", json!(0), vec![json!(-1), json!(now), json!("1")]),
        ("{random}", json!(0.5), vec![json!(1.0), json!(-0.1), json!("0.5")]),
        ("{uuid}", id.clone(), vec![json!("x"), json!(1), json!(ID.to_uppercase()), json!(ID.replace("-4", "-1"))]),
        ("\"{uuid}\"", id.clone(), vec![json!("x")]),
        ("\"{uuid:C1}\"", id.clone(), vec![other]),
        ("\"<{uuid:C1}>\"", json!(format!("<{ID}>")), vec![id.clone()]),
        ("{\"{uuid:C1}\":1}", json!({ ID: 1 }), vec![json!({"x": 1}), json!({})]),
    ] {
        let play = |value: &Value| told(&format!("C1> (connects)\nC1> [{value}]\nS1< [{placeholder}]\n"));
        assert_eq!(play(&good), "met", "{placeholder}");
        for bad in bad {
            assert!(play(&bad).starts_with("3:"), "{placeholder} {bad}");
        }
    }
    assert_eq!(told("C1> (connects)\nC1> {\"a\":[]}\nS1< {json}\n"), "met");
}

fn now() -> u64 {
    u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

#[test]
fn a_port_is_the_clients_own() {
    fn port(line: &str, port: u16) -> Vec<u8> {
        match line {
            "right" => format!("{port}\r\n").into_bytes(),
            "wrong" => format!("{}\r\n", port ^ 1).into_bytes(),
            line => same(line, port),
        }
    }
    assert_eq!(play("C1> (connects)\nC1> right\nS1< {port}\n", &mut Echo::start(port)), Ok(()));
    assert!(play("C1> (connects)\nC1> wrong\nS1< {port}\n", &mut Echo::start(port)).unwrap_err().starts_with("3:"));
}

#[test]
fn lines_of_one_client_are_expected_in_order_and_those_of_two_are_independent() {
    assert_eq!(told("C1> (connects)\nC2> (connects)\nC1> 1\nC2> 2\nS2< 2\nS1< 1\n"), "met");
    not_met("C1> (connects)\nC1>> 1\nC1> 2\nS1< 2\nS1< 1\n", 4);
    assert_eq!(told("C1> (connects)\nC1>> 1\nC1>> 3\nC1> 2\nS1~ 2\nS1~ 1\nS1~ 3\n"), "met");
    not_met("C1> (connects)\nC1>> 1\nC1> 2\nS1~ 2\nS1~ 2\n", 4);
}

#[test]
fn what_is_left_over_is_told() {
    not_met("C1> (connects)\nC1> 1|2\nS1< 1\n", 3);
    not_met("C1> (connects)\nC1> 1|2\nS1< 1\nS1< (silence)\n", 4);
    assert_eq!(told("C1> (connects)\nC1> 1\nS1< 1\nS1< (silence)\n"), "met");
}

#[test]
fn a_line_ends_with_cr_lf() {
    fn bare(line: &str, _: u16) -> Vec<u8> {
        format!("{line}\n").into_bytes()
    }
    let told = play("C1> (connects)\nC1> 1\nS1< 1\n", &mut Echo::start(bare)).unwrap_err();
    assert!(told.contains("CR LF"), "{told}");
}

#[test]
fn doubled_members_and_escaped_letters_are_told() {
    not_met("C1> (connects)\nC1> {\"a\":1,\"a\":1}\nS1< {\"a\":1}\n", 3);
    not_met("C1> (connects)\nC1> \"\\u00e9\"\nS1< \"é\"\n", 3);
    assert_eq!(told("C1> (connects)\nC1> \"é\\\\u00e9 \\u0007:\"\nS1< \"é\\\\u00e9 \\u0007:\"\n"), "met");
}

#[test]
fn bytes_are_compared_exactly_and_the_end_is_an_end() {
    assert_eq!(
        told("C1> (connects)\nC1> (raw) \"a\\\\b\" * 2 \"\\x2e\\n\"\nS1< (bytes) \"a\\\\ba\\\\b.\\r\\n\"\n"),
        "met"
    );
    not_met("C1> (connects)\nC1> ab\nS1< (bytes) \"ac\"\n", 3);
    assert_eq!(told("C1> (connects)\nC1> quit\nS1< (end)\n"), "met");
    not_met("C1> (connects)\nC1> 1\nS1< (end)\n", 3);
    not_met("C1> (connects)\nC1> quit\nS1< 1\n", 3);
}

#[test]
fn calls_get_ids_and_their_results_are_compared() {
    let connect = "C1> (connects)\nC1> 1\nS1< 1\n";
    assert_eq!(told(&format!("{connect}API> do {{uuid:C1}}\nAPI< {{\"called\":\"do {{uuid:C1}}\"}}\n")), "met");
    assert_eq!(told(&format!("{connect}API> no\nAPI< refused: no {{uuid:C1}}\nAPI> nothing\nAPI< done\n")), "met");
    not_met("API> no\nAPI< refused: yes\n", 2);
    not_met("API> no\nAPI< done\n", 2);
    not_met("API> nothing\nAPI< refused: no\n", 2);
    not_met("API> other\nAPI< {\"called\":1}\n", 2);
}

#[test]
fn an_update_keeps_placeholders_and_finds_those_that_can_be_told() {
    let updated = |transcript: &str| Player::new(&mut Echo::start(same), true).play(transcript).unwrap();
    let now = now();
    let sent = format!(r#"{{"a":7,"b":"{ID}","c":{now},"d":"x","e":3}}"#);
    let transcript = format!("C1> (connects)\nC1> {sent}\nS1< {{\"a\":{{n}},\"b\":0,\"e\":4}}\n");
    let expected = r#"{"a":{n},"b":"{uuid:C1}","c":{ms},"d":"x","e":3}"#;
    assert_eq!(updated(&transcript), format!("C1> (connects)\nC1> {sent}\nS1< {expected}\n"));
    assert_eq!(updated("C1> (connects)\nC1> 1|2\nS1< ?\n"), "C1> (connects)\nC1> 1|2\nS1< 1\nS1< 2\n");
    assert_eq!(updated("C1> (connects)\nC1> quit\nS1< ?\n"), "C1> (connects)\nC1> quit\nS1< (end)\n");
    assert_eq!(updated("API> no\nAPI< ?\n"), "API> no\nAPI< refused: no 0f8fad5b-d9cb-469f-a165-70867728950e\n");
}

#[test]
fn settings_stand_at_the_head() {
    assert_eq!(settings("# x\nSET> a.b = 1\nSET> c = \"d\"\nC1> (connects)\n"), "a.b = 1\nc = \"d\"\n");
}
