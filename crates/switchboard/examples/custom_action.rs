//! Actions of your own, and middleware around them.
//!
//! ```text
//! $ cargo run --example custom_action
//! switchboard ready socket=127.0.0.1:5000 admin=127.0.0.1:9090
//! ```
//!
//! In a second window, an action with checked inputs. Params stick to the connection:
//!
//! ```text
//! $ telnet localhost 5000
//! {"welcome":"Hello! Welcome to the actionhero api","context":"api"}
//! > paramAdd a=20
//! {"status":"OK","context":"response","data":null,"messageCount":1}
//! > add
//! {"error":"Error: b is a required parameter for this action","context":"response","messageCount":2}
//! > paramAdd b=two
//! {"status":"OK","context":"response","data":null,"messageCount":3}
//! > add
//! {"error":"Error: b must be a number","context":"response","messageCount":4}
//! > paramAdd b=22
//! {"status":"OK","context":"response","data":null,"messageCount":5}
//! > add
//! {"sum":42.0,"context":"response","messageCount":6}
//! ```
//!
//! An action behind a login. JSON carries the params of one request:
//!
//! ```text
//! > secret
//! {"error":"Error: log in first","context":"response","messageCount":7}
//! > {"action":"login","params":{"password":"wrong"}}
//! {"error":"Error: wrong password","context":"response","messageCount":8}
//! > {"action":"login","params":{"password":"open sesame"}}
//! {"loggedIn":true,"answeredFor":"member","context":"response","messageCount":9}
//! > secret
//! {"secret":"the cake is in the fridge","answeredFor":"member","context":"response","messageCount":10}
//! ```
//!
//! Control-C in the first window stops the server.

#![allow(clippy::print_stdout, reason = "the program talks to whoever started it")]

use std::error::Error;

use serde_json::Value;
use switchboard::action::{Action, ActionResult, ActionSpec, Failure, Input, Middleware, Reply, Request};
use switchboard::server::StartError;
use switchboard::{Config, Server};

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

/// Starts a server with these actions beside the default ones.
pub(crate) async fn start(config: Config) -> Result<Server, StartError> {
    Server::builder(config).action(Add).action(Login).action(Secret).middleware(100, MembersOnly).start().await
}

struct Add;

impl Action for Add {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("add").describe("Adds two numbers").input(number("a")).input(number("b"))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let number = |name| request.param(name).and_then(Value::as_f64).unwrap_or_default();
        Ok(Reply::new().with("sum", number("a") + number("b")))
    }
}

/// A required number. What `paramAdd` stores is text, so text that reads as a number is turned into one first; what the
/// validator then refuses never reaches the action.
fn number(name: &'static str) -> Input {
    Input::required(name)
        .formatter(|value| match value.as_str().map(str::parse::<f64>) {
            Some(Ok(number)) => number.into(),
            _ => value,
        })
        .validator(move |value| if value.is_number() { Ok(()) } else { Err(format!("{name} must be a number")) })
}

/// Notes in the connection's server-only state who it is. No client can set or see that state.
struct Login;

impl Action for Login {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("login").describe("Opens the members' actions").input(Input::required("password"))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        if request.text("password")? != "open sesame" {
            return Err("wrong password".into());
        }
        request.connection().set("role", "member")?;
        Ok(Reply::new().with("loggedIn", true))
    }
}

struct Secret;

impl Action for Secret {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("secret").describe("Tells members something")
    }

    async fn run(&self, _: &mut Request) -> ActionResult {
        Ok(Reply::new().with("secret", "the cake is in the fridge"))
    }
}

/// Runs around every action, the default ones included.
struct MembersOnly;

impl Middleware for MembersOnly {
    async fn before(&self, request: &mut Request) -> Result<(), Failure> {
        if request.action().name() == "secret" && request.connection().get("role").is_none() {
            return Err("log in first".into());
        }
        Ok(())
    }

    async fn after(&self, request: &mut Request, result: &mut ActionResult) {
        if let (Ok(reply), Some(role)) = (result, request.connection().get("role")) {
            reply.set("answeredFor", role);
        }
    }
}
