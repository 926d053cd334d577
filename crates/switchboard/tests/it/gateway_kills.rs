//! Bots and the server are killed, and nothing that was published is lost, doubled or reordered.
//!
//! The real program keeps sessions in a file, publishers send again what was not acknowledged, under the same id, and a bot
//! resumes. `SWITCHBOARD_KILLS` says how often the program is killed.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use switchboard_testkit::client::PATIENCE;
use switchboard_testkit::gateway::{Credentials, GatewayClient, Heard, News, Pace, ResumingBot};
use switchboard_testkit::http::HttpAnswer;

use super::peer::Folder;
use super::program::Program;

/// How often the program is killed if nobody says otherwise.
const KILLS: usize = 5;

/// How many publish at a time; the events of each must come in its order.
pub(super) const PUBLISHERS: usize = 4;

pub(super) fn credentials() -> Credentials {
    Credentials::new("3f0c", "correct-horse")
}

/// Where the program listens at the moment, if it does.
#[derive(Clone, Default)]
struct Place(Arc<Mutex<Option<SocketAddr>>>);

impl Place {
    fn find(&self) -> Option<SocketAddr> {
        *self.0.lock().unwrap()
    }

    fn set(&self, address: Option<SocketAddr>) {
        *self.0.lock().unwrap() = address;
    }
}

/// The program, and the folder that outlives it.
struct Site {
    program: Option<Program>,
    place: Place,
    folder: Folder,
}

impl Site {
    fn start() -> Self {
        let folder = Folder::new();
        let data = folder.join("data").display().to_string();
        let config = format!(
            "[backend]\nkind = \"file\"\n[node]\nworkers = 2\ndata_dir = \"{data}\"\n\
             [servers.gateway]\nreplay_max_events = 100000\nreplay_max_bytes = \"64MiB\"\nrate_messages = 0\n\
             [[gateway.applications]]\nid = \"822\"\npublic_key = \"3f0c\"\nsecret = \"correct-horse\"\n"
        );
        folder.write("switchboard.toml", config);
        let mut site = Self { program: None, place: Place::default(), folder };
        site.restart();
        site
    }

    /// Kills the program if it runs, and starts it again.
    fn restart(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.signal(Signal::KILL);
            program.ended();
            self.place.set(None);
        }
        let config = self.folder.join("switchboard.toml").display().to_string();
        let program = Program::start(&["--config", &config]);
        self.place.set(Some(program.web().parse().unwrap()));
        self.program = Some(program);
    }

    fn bot(&self, seed: u64) -> ResumingBot {
        let place = self.place.clone();
        let pace = Pace { heartbeat: Duration::from_millis(500), ..Pace::quick() };
        ResumingBot::new(credentials(), pace, seed, move || place.find())
    }

    fn client(&self) -> GatewayClient {
        GatewayClient::connect(self.place.find().unwrap()).unwrap()
    }

    /// Publishes until it is acknowledged.
    fn publish(&self, id: &str, data: &Value) {
        publish(&|| self.place.find(), id, data);
    }
}

/// Where the program is at the moment, if it is anywhere.
pub(super) type Find<'a> = &'a dyn Fn() -> Option<SocketAddr>;

/// Publishes until it is acknowledged, under the same id whatever happens to the program meanwhile.
pub(super) fn publish(find: Find<'_>, id: &str, data: &Value) {
    let body = json!({"event": "COUNTED", "data": data, "id": id}).to_string();
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        match find().map(|address| post(address, &body)) {
            Some(Ok(Some(answer))) if answer.status == 202 => return,
            Some(Ok(Some(answer))) if answer.status != 503 => panic!("{id}: {answer:?}"),
            // Refused, broken off, or nobody there.
            _ => thread::park_timeout(Duration::from_millis(5)),
        }
        assert!(Instant::now() < deadline, "{id} cannot be published");
    }
}

/// `None`: the program ended before it had answered.
fn post(address: SocketAddr, body: &str) -> io::Result<Option<HttpAnswer>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "POST /gateway/events HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nIdentification: 822\r\n\
         Secret: correct-horse\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, received) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let promised =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    Ok(HttpAnswer::parse(&answer).filter(|_| promised == Some(received.len())))
}

/// Publishes one event after the other until it is told to stop, and returns how many were acknowledged.
pub(super) fn keep_publishing(
    find: impl Fn() -> Option<SocketAddr> + Send + 'static,
    publisher: usize,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<u64> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            publish(&find, &format!("{publisher}-{count}"), &json!([publisher, count]));
            count += 1;
        }
        count
    })
}

/// What came of each publisher.
#[derive(Default)]
pub(super) struct Ledger(pub(super) [u64; PUBLISHERS]);

impl Ledger {
    /// Takes an event, which must be the next one of its publisher.
    pub(super) fn book(&mut self, event: &Value) {
        let [publisher, number] = [0, 1].map(|at| event["data"][at].as_u64().expect("it was published here"));
        let next = &mut self.0[publisher as usize];
        assert_eq!(number, *next, "of publisher {publisher}: {event}");
        *next += 1;
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// How often a test kills.
pub(super) fn kills() -> usize {
    std::env::var("SWITCHBOARD_KILLS").map_or(KILLS, |kills| kills.parse().expect("SWITCHBOARD_KILLS is a number"))
}

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Server,
    Bot,
    Both,
}

/// Kills at random moments under load, and looks for what was lost, doubled or reordered.
#[track_caller]
fn survive(who: Who, kills: usize, seed: u64) {
    let (mut site, mut random) = (Site::start(), fastrand::Rng::with_seed(seed));
    let mut bot = site.bot(seed);
    assert_eq!(bot.next(PATIENCE).unwrap(), News::Ready);
    let session = bot.session().unwrap().id.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let place = site.place.clone();
            keep_publishing(move || place.find(), publisher, &stop)
        })
        .collect();
    let (mut ledger, mut resumed) = (Ledger::default(), 0);
    for kill in 0..kills {
        // Sometimes in the middle of a replay, or before there is one.
        let wanted = ledger.sum() + random.u64(0..200);
        while ledger.sum() < wanted {
            ledger.book(&next_event(&mut bot));
        }
        if who != Who::Server {
            let kept = bot.session().cloned();
            resumed += bot.figures().resumed;
            assert_eq!(bot.figures().invalid, 0, "before kill {kill}");
            // What had reached it and was not dealt with dies with it.
            bot = site.bot(random.u64(..)).with_session(kept);
        }
        if who != Who::Bot {
            site.restart();
        }
    }
    stop.store(true, Ordering::Relaxed);
    let published: Vec<u64> = publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect();
    while ledger.sum() < published.iter().sum() {
        ledger.book(&next_event(&mut bot));
    }
    assert_eq!(ledger.0.as_slice(), published);
    assert_eq!(bot.session().unwrap().id, session, "one session throughout");
    assert_eq!(bot.figures().invalid, 0);
    assert!(kills == 0 || resumed + bot.figures().resumed > 0);
    // Behind the last one comes the next one, and nothing in between.
    site.publish("the last", &json!([0, published[0]]));
    ledger.book(&next_event(&mut bot));
}

#[track_caller]
pub(super) fn next_event(bot: &mut ResumingBot) -> Value {
    bot.next_event(PATIENCE).unwrap_or_else(|error| panic!("{error}; {bot:?}"))
}

#[test]
fn fault_row_36_nothing_is_lost_doubled_or_reordered_when_the_server_is_killed() {
    survive(Who::Server, kills(), 1);
}

#[test]
fn fault_row_36_nothing_is_lost_doubled_or_reordered_when_the_bot_is_killed() {
    survive(Who::Bot, 2 * kills(), 2);
}

#[test]
fn fault_row_36_nothing_is_lost_doubled_or_reordered_when_both_are_killed() {
    survive(Who::Both, kills().div_ceil(2), 3);
}

#[test]
fn an_event_that_was_sent_again_is_stored_once_though_the_server_was_killed_in_between() {
    let mut site = Site::start();
    let mut bot = site.bot(4);
    assert_eq!(bot.next(PATIENCE).unwrap(), News::Ready);
    for number in 0..3 {
        site.publish("same", &json!(0));
        assert_eq!(number == 0, bot.next_event(Duration::from_millis(100)).is_ok(), "time {number}");
        site.restart();
    }
    site.publish("other", &json!(1));
    assert_eq!(next_event(&mut bot)["s"], 2);
}

/// Everything that comes to some clients until one of them is closed: which one, with which code, and what came to each.
#[track_caller]
fn until_one_is_closed(clients: &mut [GatewayClient]) -> (usize, Option<u16>, Vec<Vec<Value>>) {
    let (deadline, mut came) = (Instant::now() + PATIENCE, vec![Vec::new(); clients.len()]);
    while Instant::now() < deadline {
        for (index, client) in clients.iter_mut().enumerate() {
            match client.next_until(Instant::now() + Duration::from_millis(2)).unwrap() {
                Some(Heard::Message(message)) => came[index].push(message),
                Some(Heard::Closed(code)) => return (index, code, came),
                None => {}
            }
        }
    }
    panic!("none was closed: {came:?}");
}

#[test]
fn fault_row_18_of_two_that_resume_at_once_one_has_the_session_and_the_other_is_told() {
    let site = Site::start();
    let mut owner = site.client();
    let session = owner.register(&credentials()).unwrap()["session_id"].as_str().unwrap().to_owned();
    for round in 0..20 {
        site.publish(&format!("missed in {round}"), &json!(round));
        let mut rivals = vec![site.client(), site.client()];
        for rival in &mut rivals {
            rival.send(&credentials().resumption(&session, Some(round)));
        }
        let (lost, code, came) = until_one_is_closed(&mut rivals);
        assert_eq!(code, Some(4020), "{came:?}");
        let complaint = came[lost].last().expect("it is told");
        assert_eq!((&complaint["event"], &complaint["data"]["code"]), (&json!("GATEWAY_ERROR"), &json!(4020)));
        // What it heard before is a beginning of what was missed, and nothing else.
        let heard: Vec<&Value> = came[lost].iter().filter_map(|message| message.get("s")).collect();
        assert!(heard.is_empty() || heard == [&json!(round + 1)], "{came:?}");
        let winner = &mut rivals[1 - lost];
        let mut came = came[1 - lost].clone();
        while came.len() < 2 {
            came.push(winner.hear());
        }
        assert_eq!((&came[0]["event"], &came[0]["data"]["session_id"]), (&json!("GATEWAY_RESUMED"), &json!(session)));
        assert_eq!((&came[1]["s"], came.len()), (&json!(round + 1), 2), "{came:?}");
        winner.ping(Some(round + 1));
        // Whoever had it before was told as well.
        if round == 0 {
            assert_eq!(owner.expect("COUNTED")["s"], 1);
            assert_eq!(owner.expect("GATEWAY_ERROR")["data"]["code"], 4020);
            assert_eq!(owner.closed(), Some(4020));
        }
        rivals.into_iter().for_each(GatewayClient::hang_up);
    }
}
