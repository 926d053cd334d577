//! The order of room messages, with several workers and many senders at once: one for all members, nothing twice, nothing
//! missing; and what the answers to joining, saying and leaving promise about it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use serde_json::{Value, json};
use switchboard::node::Speaker;
use switchboard_testkit::client::LineClient;

use crate::support::TestServer;

const FOUR_WORKERS: &str = "node.workers=4";
const SENDERS: usize = 16;
const LISTENERS: usize = 16;
const MESSAGES: usize = 150;
/// A sender waits for its answers after so many, so that all of them speak all the time.
const BURST: usize = 10;

/// What one member heard: senders by their place, and what each said.
type Heard = Vec<(usize, usize)>;

/// Every sender says its messages in bursts, all of them at once; each client reads until it has heard `expected` messages and, if it
/// speaks, all answers. Returns what each heard, senders first.
fn talk(server: &TestServer, expected_by_sender: usize, expected_by_listener: usize) -> Vec<Heard> {
    let clients = server.connect_into(SENDERS + LISTENERS, &["defaultRoom"]);
    let ids = clients.iter().map(|client| server.id_of(client).to_string());
    let places: Arc<HashMap<String, usize>> = Arc::new(ids.zip(0..).collect());
    let start = Arc::new(Barrier::new(clients.len()));
    let talkers = clients.into_iter().enumerate().map(|(place, client)| {
        let (places, start) = (Arc::clone(&places), Arc::clone(&start));
        thread::spawn(move || {
            start.wait();
            let (said, expected) =
                if place < SENDERS { (MESSAGES, expected_by_sender) } else { (0, expected_by_listener) };
            let (heard, mut client) = talk_and_listen(client, said, expected, &places);
            client.expect_silence();
            heard
        })
    });
    let talkers: Vec<_> = talkers.collect();
    talkers.into_iter().map(|talker| talker.join().unwrap()).collect()
}

fn talk_and_listen(
    mut client: LineClient,
    said: usize,
    expected: usize,
    places: &HashMap<String, usize>,
) -> (Heard, LineClient) {
    let mut heard = Vec::with_capacity(expected);
    let (mut asked, mut answered) = (0, 0);
    while heard.len() < expected || answered < said {
        if answered < said && asked == answered {
            let burst: Vec<String> = (asked..asked + BURST).map(|index| format!("say defaultRoom {index}")).collect();
            client.send_together(&burst.iter().map(String::as_str).collect::<Vec<_>>());
            asked += BURST;
        }
        let line = client.read_json();
        if line["context"] == "response" {
            assert_eq!(line["status"], "OK", "{line}");
            answered += 1;
            // One number went to joining.
            assert_eq!(line["messageCount"], answered + 1);
        } else {
            let index = line["message"].as_str().unwrap().parse().unwrap();
            heard.push((places[line["from"].as_str().unwrap()], index));
        }
    }
    (heard, client)
}

/// Every sender's messages stand in the order in which it sent them, each once.
#[track_caller]
fn assert_complete(heard: &Heard, from: impl Fn(usize) -> bool) {
    for sender in 0..SENDERS {
        let said: Vec<usize> = heard.iter().filter(|(by, _)| *by == sender).map(|(_, index)| *index).collect();
        let expected: Vec<usize> = if from(sender) { (0..MESSAGES).collect() } else { Vec::new() };
        assert_eq!(said, expected, "what sender {sender} said");
    }
}

#[test]
fn every_member_hears_one_order_without_a_gap_or_a_repetition_and_the_speaker_not_itself() {
    let server = TestServer::with(&[FOUR_WORKERS]);
    let heard = talk(&server, (SENDERS - 1) * MESSAGES, SENDERS * MESSAGES);
    let order = &heard[SENDERS];
    assert_complete(order, |_| true);
    for (place, member) in heard.iter().enumerate() {
        let without_own: Heard = order.iter().copied().filter(|(by, _)| *by != place).collect();
        assert_eq!(*member, without_own, "member {place}");
    }
    let interleaved = order.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
    assert!(interleaved > SENDERS, "they really spoke at once");
}

#[test]
fn with_echo_to_sender_the_speaker_hears_itself_in_its_place_in_that_order() {
    let server = TestServer::with(&[FOUR_WORKERS, "rooms.echo_to_sender=true"]);
    let heard = talk(&server, SENDERS * MESSAGES, SENDERS * MESSAGES);
    assert_complete(&heard[0], |_| true);
    for member in &heard {
        assert_eq!(*member, heard[0]);
    }
}

#[test]
fn numbers_of_a_room_rise_by_one_whoever_speaks() {
    const EACH: u64 = 200;
    let server = TestServer::with(&[FOUR_WORKERS]);
    let mut member = server.connect_into(1, &["defaultRoom"]).remove(0);
    let speakers: Vec<_> = (0..8)
        .map(|speaker| {
            let node = server.node().clone();
            server.spawn(async move {
                let mut numbers = Vec::new();
                for index in 0..EACH {
                    let body = json!([speaker, index]);
                    let number = node.broadcast(Speaker::server(), "defaultRoom", body.clone()).await;
                    numbers.push((number.unwrap().unwrap(), body));
                }
                assert!(numbers.is_sorted_by_key(|(number, _)| *number), "each hears its own numbers rise");
                numbers
            })
        })
        .collect();
    let mut numbers: Vec<(u64, Value)> =
        speakers.into_iter().flat_map(|speaker| server.wait(speaker).unwrap()).collect();
    numbers.sort_unstable_by_key(|(number, _)| *number);
    assert!(numbers.iter().map(|(number, _)| *number).eq(1..=8 * EACH));
    // And that is the order in which they are heard.
    for (_, body) in numbers {
        assert_eq!(member.read_json()["message"], body);
    }
}

#[test]
fn what_is_pipelined_behind_a_join_finds_it_done() {
    let server = TestServer::with(&[FOUR_WORKERS]);
    let mut witness = server.connect_into(1, &["defaultRoom"]).remove(0);
    let mut clients: Vec<LineClient> = (0..20).map(|_| server.connect()).collect();
    for round in 0..20 {
        for client in &mut clients {
            client.send_together(&[
                "roomAdd defaultRoom",
                &format!("say defaultRoom {round}"),
                "roomLeave defaultRoom",
            ]);
        }
        for client in &mut clients {
            let mut answers = Vec::new();
            while answers.len() < 3 {
                let line = client.read_json();
                if line["context"] == "response" {
                    answers.push((line["status"].clone(), line["messageCount"].as_u64().unwrap() - round * 3));
                }
            }
            assert_eq!(answers, [(json!("OK"), 1), (json!("OK"), 2), (json!("OK"), 3)]);
        }
        for _ in 0..clients.len() {
            assert_eq!(witness.read_json()["message"], round.to_string());
        }
    }
    witness.expect_silence();
}

/// The next answer; what others say before is passed over.
fn answer(client: &mut LineClient) -> Value {
    loop {
        let line = client.read_json();
        if line["context"] == "response" {
            return line;
        }
    }
}

/// Somebody who says 1, 2, 3, … until told to stop.
struct Counter {
    /// The last number whose saying may have begun.
    begun: Arc<AtomicU64>,
    /// The last number whose saying was answered.
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Counter {
    fn start(mut client: LineClient) -> Self {
        let (begun, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, done, stopped) = (Arc::clone(&begun), Arc::clone(&answered), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
                client.send(&format!("say defaultRoom {number}"));
                let answer = answer(&mut client);
                assert_eq!(answer["status"], "OK", "{answer}");
                done.store(number, Ordering::SeqCst);
            }
        });
        Self { begun, answered, stop, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

#[test]
fn after_the_answer_to_a_join_nothing_is_missing_and_after_the_answer_to_a_leave_nothing_arrives() {
    let server = TestServer::with(&[FOUR_WORKERS]);
    // Enough of them to be with every worker.
    let mut visitors: Vec<LineClient> = (0..40).map(|_| server.connect()).collect();
    let counter = Counter::start(server.connect_into(1, &["defaultRoom"]).remove(0));
    for _ in 0..5 {
        for visitor in &mut visitors {
            let answered = counter.answered.load(Ordering::SeqCst);
            // A message may stand before the answer: the join is done by then.
            visitor.send("roomAdd defaultRoom");
            let mut heard: Vec<u64> = Vec::new();
            let number = |line: &Value| line["message"].as_str().unwrap().parse::<u64>().unwrap();
            loop {
                let line = visitor.read_json();
                if line["context"] == "response" {
                    assert_eq!(line["data"], true, "{line}");
                    break;
                }
                heard.push(number(&line));
            }
            let begun = counter.begun.load(Ordering::SeqCst);
            while heard.len() < 3 {
                heard.push(number(&visitor.read_json()));
            }
            assert!(heard[0] <= begun + 1, "{} was the first heard, {begun} may have been said before", heard[0]);
            assert!(heard[0] > answered, "{} was said before it came", heard[0]);
            visitor.send("roomLeave defaultRoom");
            loop {
                let line = visitor.read_json();
                if line["context"] == "response" {
                    assert_eq!(line["data"], true, "{line}");
                    break;
                }
                heard.push(number(&line));
            }
            assert!(heard.windows(2).all(|pair| pair[1] == pair[0] + 1), "nothing is missing or repeated: {heard:?}");
            visitor.expect_silence();
        }
    }
    counter.end();
}

#[test]
fn a_member_evicted_while_others_speak_hears_nothing_more() {
    let server = TestServer::with(&[FOUR_WORKERS]);
    let node = server.node();
    let mut visitors: Vec<LineClient> = (0..40).map(|_| server.connect()).collect();
    let counter = Counter::start(server.connect_into(1, &["defaultRoom"]).remove(0));
    for visitor in &mut visitors {
        let id = server.id_of(visitor);
        server.wait(node.add_member(id, "defaultRoom")).unwrap();
        // It hears at least one message as a member.
        let first = visitor.read_json();
        server.wait(node.remove_member(id, "defaultRoom")).unwrap();
        let mut last = first["message"].as_str().unwrap().parse::<u64>().unwrap();
        // What was on its way when the call returned stands before what is asked now.
        visitor.send("detailsView");
        let details = loop {
            let line = visitor.read_json();
            if line["context"] == "response" {
                break line;
            }
            let number = line["message"].as_str().unwrap().parse::<u64>().unwrap();
            assert_eq!(number, last + 1);
            last = number;
        };
        assert_eq!(details["data"]["rooms"], json!([]));
        visitor.expect_silence();
    }
    counter.end();
}

#[test]
fn requests_of_one_connection_are_answered_in_order_while_its_room_is_loud() {
    let server = TestServer::with(&[FOUR_WORKERS]);
    let counters: Vec<Counter> = server.connect_into(4, &["defaultRoom"]).into_iter().map(Counter::start).collect();
    let mut client = server.connect_into(1, &["defaultRoom"]).remove(0);
    let lines: Vec<String> = (0..500).map(|index| format!("paramAdd key={index}")).collect();
    client.send_together(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    for count in 2..502 {
        assert_eq!(answer(&mut client)["messageCount"], count);
    }
    counters.into_iter().for_each(Counter::end);
}

/// Bytes and the end behind them may be told by one event, and no second one follows: the end was never read, and the
/// connection stayed in its rooms.
#[test]
fn what_was_asked_right_before_the_end_is_answered_and_the_end_is_seen() {
    let server = TestServer::start();
    let mut witness = server.connect_into(1, &["defaultRoom"]).remove(0);
    for _ in 0..100 {
        let mut client = server.connect_into(1, &["defaultRoom"]).remove(0);
        client.send("say defaultRoom last words");
        client.half_close().unwrap();
        assert_eq!(client.read_json()["status"], "OK");
        client.expect_fin();
        assert_eq!(witness.read_json()["message"], "last words");
        assert_eq!(witness.ask("roomView defaultRoom")["data"]["membersCount"], 1);
    }
}
