//! Rules for rooms: who may enter, what is announced, what may be said.
//!
//! ```text
//! $ cargo run --example chat_rules
//! switchboard ready socket=127.0.0.1:5000 admin=127.0.0.1:9090
//! ```
//!
//! In a second window: the room `members` lets only those in for whom the server has noted that they are logged in.
//!
//! ```text
//! 1$ telnet localhost 5000
//! 1| {"welcome":"Hello! Welcome to the actionhero api","context":"api"}
//! 1> roomAdd members
//! 1| {"status":"not authorized to join room","context":"response","data":false,"messageCount":1}
//! 1> logIn
//! 1| {"loggedIn":true,"context":"response","messageCount":2}
//! 1> roomAdd members
//! 1| {"status":"OK","context":"response","data":true,"messageCount":3}
//! ```
//!
//! In a third window somebody else comes in. The second one hears two announcements, that of the lower priority first:
//!
//! ```text
//! 2$ telnet localhost 5000
//! 2| {"welcome":"Hello! Welcome to the actionhero api","context":"api"}
//! 2> logIn
//! 2| {"loggedIn":true,"context":"response","messageCount":1}
//! 2> roomAdd members
//! 2| {"status":"OK","context":"response","data":true,"messageCount":2}
//! 1| {"message":"I have entered the room","room":"members","from":"…","context":"user","sentAt":…}
//! 1| {"message":"Be kind to me","room":"members","from":"…","context":"user","sentAt":…}
//! ```
//!
//! Shouting is refused, and what is said is tidied up:
//!
//! ```text
//! 2> say members GOOD MORNING
//! 2| {"status":"please do not shout","context":"response","messageCount":3}
//! 2> say members   good    morning
//! 2| {"status":"OK","context":"response","data":null,"messageCount":4}
//! 1| {"message":"good morning","room":"members","from":"…","context":"user","sentAt":…}
//! ```
//!
//! Who logs out is looked at again, and is in the room no more:
//!
//! ```text
//! 2> logOut
//! 2| {"left":["members"],"context":"response","messageCount":5}
//! 1| {"message":"I have left the room","room":"members","from":"…","context":"user","sentAt":…}
//! 2> say members hello?
//! 2| {"status":"connection not in this room","context":"response","messageCount":6}
//! ```
//!
//! Control-C in the first window stops the server.

#![allow(clippy::print_stdout, reason = "the program talks to whoever started it")]

use std::error::Error;

use serde_json::Value;
use switchboard::action::{Action, ActionResult, ActionSpec, Reply, Request};
use switchboard::node::hooks::{SayMiddleware, Saying};
use switchboard::{Config, Node, Server};

const ROOM: &str = "members";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::default();
    config.servers.socket.bind = "127.0.0.1".to_owned();
    config.servers.web.enabled = false;
    let server = start(config).await?;
    println!("{}", server.ready_line());
    tokio::signal::ctrl_c().await?;
    server.stop().await;
    Ok(())
}

/// Starts a server with the room and its rules.
pub(crate) async fn start(config: Config) -> Result<Server, Box<dyn Error>> {
    let server = Server::builder(config).action(LogIn).action(LogOut).setup(add_rules).start().await?;
    let node = server.node();
    node.add_room(ROOM).await?;
    // Compared with the connection's server-only state, type included: the text "true" would not match.
    node.set_authentication_pattern(ROOM, "loggedIn", true).await?;
    Ok(server)
}

fn add_rules(node: &Node) {
    // Added first and heard second: the lower number comes first.
    node.add_join_callback(200, |change| change.broadcast("Be kind to me"));
    node.add_join_callback(100, |change| change.broadcast("I have entered the room"));
    node.add_leave_callback(100, |change| change.broadcast("I have left the room"));
    node.add_say_middleware(100, Manners);
}

/// Sees every message before it has its number, those of callbacks and of the server too.
struct Manners;

impl SayMiddleware for Manners {
    async fn say(&self, saying: &mut Saying) -> Result<(), String> {
        // A message is any JSON; what people say is a text.
        let Ok(text) = serde_json::from_str::<String>(saying.body().as_str()) else { return Ok(()) };
        if text.chars().any(char::is_alphabetic) && !text.chars().any(char::is_lowercase) {
            return Err("please do not shout".to_owned());
        }
        saying.set_body(text.split_whitespace().collect::<Vec<_>>().join(" "));
        Ok(())
    }
}

/// A real one would ask for a password: see the example `custom_action`.
struct LogIn;

impl Action for LogIn {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("logIn").describe("Notes that this connection may enter")
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        request.connection().set("loggedIn", true)?;
        Ok(Reply::new().with("loggedIn", true))
    }
}

struct LogOut;

impl Action for LogOut {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("logOut").describe("Forgets that and leaves the rooms that need it")
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let connection = request.connection();
        connection.set("loggedIn", Value::Null)?;
        // A change of state alone moves nobody: whoever wants the rooms to be looked at again says so.
        let result = request.node().reauthenticate(connection.id()).await?;
        let left: Vec<Value> = result.removed.iter().map(|room| room.as_str().into()).collect();
        Ok(Reply::new().with("left", left))
    }
}
