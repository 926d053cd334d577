//! The bot against a server that follows a script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use super::{BotError, Credentials, Figures, News, Pace, ResumingBot, Session};

const PATIENCE: Duration = Duration::from_secs(10);

/// One connection of the scripted server.
struct Script {
    stream: BufReader<TcpStream>,
}

impl Script {
    /// Takes the next connection, and expects this request first.
    fn accept(listener: &TcpListener, first: &Value) -> Self {
        let (stream, _) = listener.accept().unwrap();
        let mut script = Self { stream: BufReader::new(stream) };
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            script.stream.read_line(&mut line).unwrap();
        }
        script.stream.get_mut().write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
        assert_eq!(script.hear(), *first);
        script
    }

    /// The next message of the bot, of less than 64 KiB, under its mask of zeros.
    fn hear(&mut self) -> Value {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).unwrap();
        assert_eq!(head[0], 0x81, "a text frame");
        let length = match head[1] & 0x7f {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            length => usize::from(length),
        };
        let mut frame = vec![0; 4 + length];
        self.stream.read_exact(&mut frame).unwrap();
        serde_json::from_slice(&frame[4..]).unwrap()
    }

    fn say(&mut self, message: &Value) {
        let text = message.to_string();
        self.frame(0x81, text.as_bytes());
    }

    fn close(&mut self, code: u16) {
        self.frame(0x88, &code.to_be_bytes());
    }

    fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(short as u8),
            long => frame.extend_from_slice(&[126, (long >> 8) as u8, long as u8]),
        }
        frame.extend_from_slice(payload);
        self.stream.get_mut().write_all(&frame).unwrap();
    }
}

fn credentials() -> Credentials {
    Credentials::new("key", "secret")
}

fn began(event: &str, id: &str) -> Value {
    json!({"type": 1, "service": "gateway", "event": event, "data": {"session_id": id}})
}

fn event(s: u64) -> Value {
    json!({"type": 8, "service": "gateway", "event": "E", "data": {}, "s": s})
}

fn serve(script: impl FnOnce(TcpListener) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap(), thread::spawn(move || script(listener)))
}

fn bot(address: SocketAddr, pace: Pace) -> ResumingBot {
    ResumingBot::new(credentials(), pace, 7, move || Some(address))
}

fn news(bot: &mut ResumingBot) -> News {
    bot.next(PATIENCE).unwrap()
}

#[test]
fn a_lost_connection_is_resumed_behind_the_last_event() {
    let (address, server) = serve(|listener| {
        let mut first = Script::accept(&listener, &credentials().registration());
        first.say(&began("GATEWAY_READY", "one"));
        first.say(&event(1));
        first.say(&event(2));
        drop(first);
        let mut second = Script::accept(&listener, &credentials().resumption("one", Some(2)));
        second.say(&began("GATEWAY_RESUMED", "one"));
        second.say(&event(3));
        second.close(1012);
        let mut third = Script::accept(&listener, &credentials().resumption("one", Some(3)));
        third.say(&began("GATEWAY_RESUMED", "one"));
    });
    let mut bot = bot(address, Pace::quick());
    let seen: Vec<News> = (0..8).map(|_| news(&mut bot)).collect();
    assert_eq!(
        seen,
        [
            News::Ready,
            News::Event(event(1)),
            News::Event(event(2)),
            News::Lost(None),
            News::Resumed,
            News::Event(event(3)),
            News::Lost(Some(1012)),
            News::Resumed,
        ]
    );
    assert_eq!(bot.session(), Some(&Session { id: "one".to_owned(), last: 3 }));
    assert_eq!(bot.figures(), Figures { registered: 1, resumed: 2, lost: 2, ..Figures::default() });
    server.join().unwrap();
}

#[test]
fn a_session_that_is_gone_is_replaced_on_the_same_connection() {
    let (address, server) = serve(|listener| {
        let mut script = Script::accept(&listener, &credentials().resumption("old", Some(9)));
        script.say(&began("GATEWAY_INVALID", ""));
        assert_eq!(script.hear(), credentials().registration());
        script.say(&began("GATEWAY_READY", "new"));
        script.say(&event(1));
    });
    let session = Session { id: "old".to_owned(), last: 9 };
    let mut bot = bot(address, Pace::quick()).with_session(Some(session));
    assert_eq!([news(&mut bot), news(&mut bot), news(&mut bot)], [News::Invalid, News::Ready, News::Event(event(1))]);
    server.join().unwrap();
}

#[test]
fn what_is_missing_or_comes_twice_is_an_error() {
    for (came, is_gap) in [(3, true), (1, false)] {
        let (address, server) = serve(move |listener| {
            let mut script = Script::accept(&listener, &credentials().registration());
            script.say(&began("GATEWAY_READY", "one"));
            script.say(&event(1));
            script.say(&event(came));
        });
        let mut bot = bot(address, Pace::quick());
        bot.next_event(PATIENCE).unwrap();
        match bot.next_event(PATIENCE) {
            Err(BotError::Gap { expected: 2, came: 3 }) => assert!(is_gap),
            Err(BotError::Duplicate { came: 1 }) => assert!(!is_gap),
            other => panic!("{other:?}"),
        }
        server.join().unwrap();
    }
}

#[test]
fn after_some_codes_there_is_no_coming_back() {
    for code in [4004, 4010, 4012, 4020] {
        let (address, server) = serve(move |listener| {
            Script::accept(&listener, &credentials().registration()).close(code);
        });
        let mut bot = bot(address, Pace::quick());
        for _ in 0..2 {
            assert!(matches!(bot.next(PATIENCE), Err(BotError::Fatal(same)) if same == code), "{code}");
        }
        server.join().unwrap();
    }
}

#[test]
fn after_some_codes_the_session_is_over_and_a_new_one_begins() {
    for code in [4022, 4027] {
        let (address, server) = serve(move |listener| {
            let mut script = Script::accept(&listener, &credentials().registration());
            script.say(&began("GATEWAY_READY", "one"));
            script.close(code);
            Script::accept(&listener, &credentials().registration()).say(&began("GATEWAY_READY", "two"));
        });
        let mut bot = bot(address, Pace::quick());
        let seen = [news(&mut bot), news(&mut bot), news(&mut bot)];
        assert_eq!(seen, [News::Ready, News::Lost(Some(code)), News::Ready]);
        server.join().unwrap();
    }
}

#[test]
fn a_bot_that_is_told_to_leave_hears_what_still_comes_and_resumes() {
    let (address, server) = serve(|listener| {
        let mut first = Script::accept(&listener, &credentials().registration());
        first.say(&began("GATEWAY_READY", "one"));
        first.say(
            &json!({"type": 7, "service": "gateway", "event": "GATEWAY_RECONNECT", "data": {"reconnect_after_ms": 50}}),
        );
        first.say(&event(1));
        let mut second = Script::accept(&listener, &credentials().resumption("one", Some(1)));
        second.say(&began("GATEWAY_RESUMED", "one"));
    });
    let mut bot = bot(address, Pace::quick());
    let seen: Vec<News> = (0..4).map(|_| news(&mut bot)).collect();
    assert_eq!(seen, [News::Ready, News::Event(event(1)), News::Lost(None), News::Resumed]);
    server.join().unwrap();
}

#[test]
fn pings_acknowledge_and_a_server_that_does_not_answer_is_left() {
    let pace = Pace { heartbeat: Duration::from_millis(100), ..Pace::quick() };
    let (address, server) = serve(|listener| {
        let mut first = Script::accept(&listener, &credentials().registration());
        first.say(&began("GATEWAY_READY", "one"));
        first.say(&event(1));
        assert_eq!(first.hear(), json!({"type": 3, "d": {"seq": 1}}));
        first.say(&json!({"type": 3, "service": "gateway", "event": "GATEWAY_PING", "data": {}}));
        assert_eq!(first.hear(), json!({"type": 3, "d": {"seq": 1}}));
        let mut second = Script::accept(&listener, &credentials().resumption("one", Some(1)));
        second.say(&began("GATEWAY_RESUMED", "one"));
    });
    let mut bot = bot(address, pace);
    let seen: Vec<News> = (0..4).map(|_| news(&mut bot)).collect();
    assert_eq!(seen, [News::Ready, News::Event(event(1)), News::Lost(None), News::Resumed]);
    assert_eq!(bot.figures().pings, 1);
    server.join().unwrap();
}

#[test]
fn whoever_is_asked_to_wait_registers_again_later() {
    let (address, server) = serve(|listener| {
        let mut script = Script::accept(&listener, &credentials().registration());
        let data = json!({"code": 4024, "reason": "start_concurrency", "request_type": 1, "retry_after_ms": 30});
        script.say(&json!({"type": 2, "service": "gateway", "event": "GATEWAY_ERROR", "data": data}));
        assert_eq!(script.hear(), credentials().registration());
        script.say(&began("GATEWAY_READY", "one"));
    });
    let mut bot = bot(address, Pace::quick());
    assert!(matches!(news(&mut bot), News::Other(error) if error["data"]["code"] == 4024));
    assert_eq!(news(&mut bot), News::Ready);
    server.join().unwrap();
}
