//! Everything at once: lines, WebSockets, requests over HTTP and an operator in one room, with every hook on. What each of
//! them hears is checked message for message, what the backend is asked question for question.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use switchboard::action::{Action, ActionResult, ActionSpec, Input, Reply, Request};
use switchboard::node::Speaker;
use switchboard::proto::id::ConnId;
use switchboard_testkit::client::LineClient;
use switchboard_testkit::http::HttpClient;
use switchboard_testkit::raw_http::RawHttp;

use crate::admin::{TOKEN, anybody};
use crate::http::JSON;
use crate::http_backend::{Asked, Backend, Reaction, SECRET, yes};
use crate::peer::eventually;
use crate::support::TestServer;

const ROOM: &str = "hall";
/// How many messages everybody says who speaks.
const MESSAGES: usize = 40;
/// Who connects, in this order, so that the backend knows them by their badges.
const GUESTS: [(&str, Wire); 8] = [
    ("line 1", Wire::Line),
    ("line 2", Wire::Line),
    ("web 1", Wire::Web),
    ("web 2", Wire::Web),
    ("silent line", Wire::Line),
    ("silent web", Wire::Web),
    ("late", Wire::Web),
    ("banned", Wire::Line),
];
/// Those who speak for themselves, from the beginning to the end.
const SPEAKERS: std::ops::Range<usize> = 0..4;
/// Hears everything; the next one too, but for what requests over HTTP say on its behalf.
const SILENT_LINE: usize = 4;
const SILENT_WEB: usize = 5;
/// Has no ticket when it connects: an operator gives it one later.
const LATE: usize = 6;
/// The backend does not want it in the room.
const BANNED: usize = 7;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    Line,
    Web,
}

/// Who said it, and what.
type Heard = (String, Value);

/// A client that keeps what it hears of the room while it waits for answers.
struct Guest {
    name: &'static str,
    wire: Wire,
    client: LineClient,
    heard: Vec<(Value, Value)>,
}

impl Guest {
    fn connect(server: &TestServer, (name, wire): (&'static str, Wire)) -> Self {
        let client = match wire {
            Wire::Line => LineClient::tcp(server.address()),
            Wire::Web => LineClient::web(server.web_address(), "/primus"),
        };
        let mut guest = Self { name, wire, client: client.unwrap(), heard: Vec::new() };
        assert_eq!(guest.client.read_json()["context"], "api", "the welcome comes first");
        guest
    }

    /// The next message that is an answer; `None`: what came was a message of the room.
    #[track_caller]
    fn read(&mut self) -> Option<Value> {
        let mut line = self.client.read_json();
        if line["context"] == "response" {
            return Some(line);
        }
        assert_eq!((&line["context"], &line["room"]), (&json!("user"), &json!(ROOM)), "{line}");
        self.heard.push((line["from"].take(), line["message"].take()));
        None
    }

    /// Asks in the words of its wire.
    #[track_caller]
    fn ask(&mut self, line: &str, event: Value) -> Value {
        match self.wire {
            Wire::Line => self.client.send(line),
            Wire::Web => self.client.send(&event.to_string()),
        }
        loop {
            if let Some(answer) = self.read() {
                return answer;
            }
        }
    }

    #[track_caller]
    fn join(&mut self) -> Value {
        self.ask(&format!("roomAdd {ROOM}"), json!({"event": "roomAdd", "room": ROOM}))["status"].take()
    }

    #[track_caller]
    fn say(&mut self, text: &str) -> Value {
        self.ask(&format!("say {ROOM} {text}"), json!({"event": "say", "room": ROOM, "message": text}))["status"].take()
    }

    #[track_caller]
    fn details(&mut self) -> Value {
        self.ask("detailsView", json!({"event": "detailsView"}))["data"].take()
    }

    #[track_caller]
    fn run_greet(&mut self) -> Value {
        let params = json!({"action": "greet", "who": self.name});
        let line = json!({"action": "greet", "params": {"who": self.name}});
        self.ask(&line.to_string(), json!({"event": "action", "params": params}))["greeting"].take()
    }

    /// Says its messages one after the other, and asks an action of the backend now and then.
    fn speak(&mut self) {
        for index in 0..MESSAGES {
            assert_eq!(self.say(&text(self.name, index)), told(index), "{} {index}", self.name);
            if index % 10 == 0 {
                assert_eq!(self.run_greet(), json!(format!("hello {}", self.name)));
            }
        }
    }

    /// Reads until it has heard this.
    #[track_caller]
    fn hear_until(&mut self, last: &str) {
        while self.heard.last().is_none_or(|(_, message)| message != last) {
            assert_eq!(self.read(), None, "{} waits for the room", self.name);
        }
    }
}

/// The `index`th message of somebody, as it is sent.
fn text(name: &str, index: usize) -> String {
    let kind = match index % 5 {
        1 => "rude",
        3 => "plain",
        _ => "fine",
    };
    format!("{name}: {index} {kind}")
}

/// What the speaker is told about it.
fn told(index: usize) -> &'static str {
    if index % 5 == 1 { "mind your words" } else { "OK" }
}

/// What the backend makes of a message.
fn judge(message: &str) -> Reaction {
    match message.rsplit(' ').next() {
        Some("rude") => Reaction::Json(200, json!({"allow": false, "reason": "mind your words"})),
        Some("plain") => Reaction::Json(200, json!({"message": {"framed": message}})),
        _ => yes(),
    }
}

/// What the room hears of somebody's messages.
fn passed(name: &str) -> Vec<Value> {
    let rewrite = |index| match index % 5 {
        1 => None,
        3 => Some(json!({"framed": text(name, index)})),
        _ => Some(json!(text(name, index))),
    };
    (0..MESSAGES).filter_map(rewrite).collect()
}

/// The operator's backend. The state that it gives is what the room's pattern and its own later answers look at.
fn backend() -> Backend {
    let connects = AtomicUsize::new(0);
    Backend::start(move |asked| {
        let json = &asked.json;
        match json["hook"].as_str().unwrap() {
            "connect" if json["connection"]["type"] != "web" => {
                let badge = connects.fetch_add(1, Ordering::SeqCst);
                Reaction::Json(200, json!({"state": {"badge": badge, "ticket": badge != LATE}}))
            }
            "join" if json["connection"]["state"]["badge"] == BANNED => {
                Reaction::Json(200, json!({"allow": false, "reason": "you are banned"}))
            }
            "say" => judge(json["message"].as_str().unwrap()),
            "remote" => {
                Reaction::Json(200, json!({"greeting": format!("hello {}", json["params"]["who"].as_str().unwrap())}))
            }
            _ => yes(),
        }
    })
}

/// Says something in the room: under a name, or on behalf of a member.
struct Shout;

impl Action for Shout {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("shout").input(Input::required("as")).input(Input::required("text"))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let speaker = match ConnId::parse(request.text("as")?) {
            Some(member) => Speaker::from(member),
            None => Speaker::named(request.text("as")?),
        };
        let number = request.node().broadcast(speaker, ROOM, request.text("text")?).await?;
        Ok(Reply::new().with("number", number))
    }
}

/// Runs actions over HTTP, all on one connection: one that speaks for a member, one that speaks for nobody, and one of the
/// backend.
fn request(mut client: RawHttp, member: &str) {
    let mut post = |action: &str, body: Value| {
        client.request("POST", &format!("/api/{action}"), &[JSON], body.to_string().as_bytes()).json()
    };
    for index in 0..MESSAGES {
        let answer = post("shout", json!({"as": member, "text": text("silent web", index)}));
        match told(index) {
            "OK" => assert!(answer["number"].is_u64(), "{answer}"),
            refused => assert_eq!(answer["error"], format!("Error: {refused}")),
        }
        assert!(post("shout", json!({"as": "herald", "text": text("herald", index)}))["number"].is_u64());
        assert_eq!(post("greet", json!({"who": "page"}))["greeting"], "hello page");
    }
}

/// What an operator does meanwhile: speaks, and has one member come and go.
fn operate(operator: &HttpClient, late: &str) {
    let say = |text: &str| {
        operator.send("POST", &format!("/v1/rooms/{ROOM}/broadcast"), &json!({"message": text})).expect(200);
    };
    let member = format!("/v1/rooms/{ROOM}/members/{late}");
    say("before it may");
    operator.ask("PUT", &member).expect_error(403, "not_authorized");
    operator.send("PATCH", &format!("/v1/connections/{late}"), &json!({"state": {"ticket": true}})).expect(200);
    say("before it joins");
    operator.ask("PUT", &member).expect(201);
    for index in 0..MESSAGES {
        say(&format!("operator: {index}"));
    }
    operator.ask("DELETE", &member).expect(200);
    say("after it left");
}

/// Params in one line, in one order.
fn params(params: &Value) -> String {
    let sorted: BTreeMap<&String, &Value> = params.as_object().unwrap().iter().collect();
    format!("{sorted:?}")
}

/// A question in one line, with the names of the guests instead of their ids.
fn question(asked: &Asked, names: &HashMap<String, &str>) -> Vec<String> {
    asked.verify();
    let json = &asked.json;
    let who = |connection: &Value| match names.get(connection["id"].as_str().unwrap()) {
        Some(name) => {
            let badge = GUESTS.iter().position(|(guest, _)| guest == name);
            let state = &connection["state"];
            assert!(json["hook"] == "connect" || state["badge"] == json!(badge), "{connection}");
            (*name).to_owned()
        }
        None => connection["type"].as_str().unwrap().to_owned(),
    };
    let (hook, text) = (json["hook"].as_str().unwrap(), |name: &str| json[name].as_str().unwrap());
    if hook == "leave" {
        assert_eq!(json["dropped"], 0);
        let leaves = json["leaves"].as_array().unwrap().iter();
        return leaves
            .map(|leave| format!("leave {} {}", leave["room"].as_str().unwrap(), who(&leave["connection"])))
            .collect();
    }
    let subject = match hook {
        "connect" => String::new(),
        "join" => text("room").to_owned(),
        "say" => format!("{} {}", text("room"), text("message")),
        _ => params(&json["params"]),
    };
    vec![format!("{hook} {} {subject}", who(&json["connection"]))]
}

/// Every question that the evening brings, sorted: who asks first is not said.
fn questions(member: &str) -> Vec<String> {
    let mut all = Vec::new();
    let action = |who: &str, asked: Value| {
        let hooks = if asked["action"] == "greet" { &["action", "remote"][..] } else { &["action"] };
        hooks.iter().map(|hook| format!("{hook} {who} {}", params(&asked))).collect::<Vec<_>>()
    };
    for (name, _) in GUESTS {
        all.push(format!("connect {name} "));
        all.push(format!("join {name} {ROOM}"));
        if name != "banned" {
            all.push(format!("leave {ROOM} {name}"));
        }
    }
    for (name, _) in &GUESTS[SPEAKERS] {
        all.extend((0..MESSAGES).map(|index| format!("say {name} {ROOM} {}", text(name, index))));
        for _ in (0..MESSAGES).step_by(10) {
            all.extend(action(name, json!({"action": "greet", "who": name})));
        }
    }
    for index in 0..MESSAGES {
        let spoken_for = text("silent web", index);
        all.push(format!("say silent web {ROOM} {spoken_for}"));
        all.extend((0..3).map(|_| "connect web ".to_owned()));
        all.extend(action("web", json!({"action": "shout", "as": member, "text": spoken_for})));
        all.extend(action("web", json!({"action": "shout", "as": "herald", "text": text("herald", index)})));
        all.extend(action("web", json!({"action": "greet", "who": "page"})));
    }
    all.sort_unstable();
    all
}

fn start(backend: &Backend) -> TestServer {
    let mut settings = vec![
        "admin.enabled=true".to_owned(),
        "admin.port=0".to_owned(),
        format!("admin.token={TOKEN}"),
        format!("hooks.secret={SECRET}"),
        "hooks.timeout=10s".to_owned(),
        "hooks.leave.interval=1ms".to_owned(),
        format!("rooms.starting=[{{name=\"{ROOM}\",auth={{ticket=true}}}}]"),
        format!("actions.remote=[{{name=\"greet\",url=\"{}\",required=[\"who\"]}}]", backend.url("greet")),
    ];
    let hooks = ["hooks.connect", "hooks.join", "hooks.say", "hooks.leave", "hooks.action"];
    settings.extend(hooks.iter().map(|hook| backend.setting(hook)));
    TestServer::build(&settings.iter().map(String::as_str).collect::<Vec<_>>(), |builder| builder.action(Shout))
}

/// Checks that the one who came late and left early heard one piece of the order: all that was said while it was inside.
fn assert_one_piece(piece: &[Heard], order: &[Heard]) {
    let place = |text: &str| order.iter().position(|(_, message)| message == text).unwrap();
    let begins = order.iter().position(|heard| *heard == piece[0]).unwrap();
    assert_eq!(piece, &order[begins..begins + piece.len()]);
    let end = begins + piece.len();
    assert!(place("before it joins") < begins && begins <= place("operator: 0"), "it hears from its joining on");
    assert!(place(&format!("operator: {}", MESSAGES - 1)) < end && end <= place("after it left"), "and not after it");
}

#[test]
fn one_room_of_all_protocols_hears_one_order_and_the_backend_every_question() {
    let backend = backend();
    let server = start(&backend);
    let operator = anybody(&server).with_token(TOKEN);
    let mut guests: Vec<Guest> = GUESTS.iter().map(|guest| Guest::connect(&server, *guest)).collect();
    let ids: Vec<String> = guests.iter_mut().map(|guest| guest.details()["id"].as_str().unwrap().to_owned()).collect();
    for (place, guest) in guests.iter_mut().enumerate() {
        let expected = match place {
            LATE => "not authorized to join room",
            BANNED => "you are banned",
            _ => "OK",
        };
        assert_eq!(guest.join(), expected, "{}", guest.name);
    }

    std::thread::scope(|scope| {
        for guest in &mut guests[SPEAKERS] {
            scope.spawn(|| guest.speak());
        }
        let client = RawHttp::connect(server.web_address()).unwrap();
        scope.spawn(|| request(client, &ids[SILENT_WEB]));
        scope.spawn(|| operate(&operator, &ids[LATE]));
    });
    let last =
        operator.send("POST", &format!("/v1/rooms/{ROOM}/broadcast"), &json!({"message": "the end"})).expect(200);
    for (place, guest) in guests.iter_mut().enumerate() {
        if !matches!(place, LATE | BANNED) {
            guest.hear_until("the end");
        }
        let rooms = guest.details()["rooms"].take();
        assert_eq!(rooms, if matches!(place, LATE | BANNED) { json!([]) } else { json!([ROOM]) }, "{}", guest.name);
        guest.client.expect_silence();
    }

    let names: HashMap<String, &str> = ids.iter().cloned().zip(GUESTS.iter().map(|(name, _)| *name)).collect();
    let heard: Vec<Vec<Heard>> = guests
        .iter_mut()
        .map(|guest| {
            let name = |from: &Value| match from.as_str() {
                Some(id) => names.get(id).map_or(id, |name| *name).to_owned(),
                None => from.to_string(),
            };
            guest.heard.drain(..).map(|(from, message)| (name(&from), message)).collect()
        })
        .collect();
    let order = &heard[SILENT_LINE];
    assert_eq!(last["number"], order.len(), "every number was heard");
    let said_by = |name: &str| -> Vec<Value> {
        order.iter().filter(|(from, _)| from == name).map(|(_, message)| message.clone()).collect()
    };
    for (name, _) in GUESTS[SPEAKERS].iter().chain(&[GUESTS[SILENT_WEB]]) {
        assert_eq!(said_by(name), passed(name), "{name}");
    }
    // Whoever speaks for no connection is not judged.
    assert_eq!(said_by("herald"), (0..MESSAGES).map(|index| json!(text("herald", index))).collect::<Vec<_>>());
    let numbered = (0..MESSAGES).map(|index| format!("operator: {index}"));
    let before = ["before it may", "before it joins"].map(str::to_owned);
    let after = ["after it left", "the end"].map(str::to_owned);
    let operators: Vec<Value> = before.into_iter().chain(numbered).chain(after).map(Value::from).collect();
    assert_eq!(said_by("0"), operators);
    assert_eq!(order.len(), 5 * passed("").len() + MESSAGES + operators.len(), "nobody else spoke");
    let interleaved = order.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
    assert!(interleaved > MESSAGES, "they really spoke at once");
    for place in SPEAKERS.chain([SILENT_WEB]) {
        let without_own: Vec<Heard> = order.iter().filter(|(from, _)| from != GUESTS[place].0).cloned().collect();
        assert_eq!(heard[place], without_own, "{}", GUESTS[place].0);
    }
    assert_one_piece(&heard[LATE], order);
    assert_eq!(heard[BANNED], []);

    let member = ids[SILENT_WEB].clone();
    drop(guests);
    eventually("everybody has left", || server.node().figures().connections == 0);
    let expected = questions(&member);
    let mut asked = Vec::new();
    while asked.len() < expected.len() {
        asked.extend(question(&backend.next(), &names));
    }
    asked.sort_unstable();
    for (asked, expected) in asked.iter().zip(&expected) {
        assert_eq!(asked, expected);
    }
    assert_eq!(asked.len(), expected.len());
    server.stop();
    assert_eq!(backend.others(), 0, "and nothing else");
}
