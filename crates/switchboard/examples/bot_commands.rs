//! A program that asks a bot to do something, and waits for the reply: `sendClientCommand`.
//!
//! ```text
//! $ cargo run --example bot_commands
//! switchboard ready socket=127.0.0.1:5000 admin=127.0.0.1:9090
//! ```
//!
//! In a second window you are the bot. You say who you are, which is this program's own rule, and that you take commands:
//!
//! ```text
//! $ telnet localhost 5000
//! {"welcome":"Hello! Welcome to the actionhero api","context":"api"}
//! > paramAdd name=bot
//! {"status":"OK","context":"response","data":null,"messageCount":1}
//! > signIn
//! {"signedIn":"bot","context":"response","messageCount":2}
//! > setCustomClientData {"commands":true}
//! {"status":"OK","context":"response","data":true,"messageCount":3}
//! ```
//!
//! Now type `pauseMessageStream` in the first window. The second one shows the command; answer it within two seconds, with its
//! `_id`. From then on the bot hears nothing of its rooms:
//!
//! ```text
//! {"context":"command","_id":"…","key":"pauseMessageStream","cmd":{"key":"pauseMessageStream"},"ts":…,"ttl_ms":…}
//! > replyClientCommand … {"success":true}
//! {"status":"OK","context":"response","data":true,"messageCount":4}
//! ```
//!
//! The first one shows the reply:
//!
//! ```text
//! {"success":true}, replied after …
//! ```
//!
//! Type `getLogs` in the first window, and do not answer this time:
//!
//! ```text
//! {"context":"command","_id":"…","key":"getLogs","cmd":{"key":"getLogs"},"ts":…,"ttl_ms":…}
//! ```
//!
//! ```text
//! timeout: bot didn't respond to the command in time (error-client-command-response-timeout)
//! ```
//!
//! The reply is an event as well, for whoever wants to hear of it and not wait: `listen resumeMessageStream`.
//!
//! ```text
//! {"context":"command","_id":"…","key":"resumeMessageStream","cmd":{"key":"resumeMessageStream"},"ts":…,"ttl_ms":…}
//! > replyClientCommand … {"success":true,"missed":2}
//! {"status":"OK","context":"response","data":true,"messageCount":5}
//! ```
//!
//! ```text
//! {"success":true,"missed":2}
//! ```

#![allow(clippy::print_stdout, reason = "the program talks to whoever started it")]

use std::error::Error;
use std::io::BufRead;
use std::time::Duration;

use switchboard::action::{Action, ActionResult, ActionSpec, Input, Reply, Request};
use switchboard::command::{ClientCommand, CommandOptions, CommandRefusal, Target};
use switchboard::node::User;
use switchboard::server::StartError;
use switchboard::{Config, Node, Server};

const LIMIT: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::default();
    config.servers.socket.bind = "127.0.0.1".to_owned();
    config.servers.web.enabled = false;
    let server = start(config).await?;
    println!("{}", server.ready_line());

    // Reading a terminal blocks, so it has a thread of its own.
    let (typed, mut lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if typed.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        let done = match line.strip_prefix("listen ") {
            Some(key) => listen(server.node(), key, |reply| println!("{reply}")).await,
            None => ask(server.node(), &line).await.map(|said| println!("{said}")),
        };
        if let Err(refusal) = done {
            println!("it was not sent: {refusal}");
        }
    }
    server.stop().await;
    Ok(())
}

/// Starts a server whose clients say who they are.
pub(crate) async fn start(config: Config) -> Result<Server, StartError> {
    Server::builder(config).action(SignIn).start().await
}

/// Asks the bot and waits: for its reply, or until it is clear that there is none.
pub(crate) async fn ask(node: &Node, key: &str) -> Result<String, CommandRefusal> {
    let options = CommandOptions { timeout: Some(LIMIT), ..CommandOptions::default() };
    let sent = node.send_client_command(bot(), ClientCommand::new(key)?, options).await?;
    let report = sent.report();
    Ok(match sent.reply() {
        Ok(reply) => format!("{}, replied after {} ms", reply.as_str(), report.latency_ms),
        Err(failure) => format!("{}: {failure} ({})", report.outcome.as_str(), failure.code),
    })
}

/// Asks the bot and does not wait. Whoever listens must do so before the command leaves, so its id is drawn first.
pub(crate) async fn listen(
    node: &Node,
    key: &str,
    heard: impl FnOnce(String) + Send + 'static,
) -> Result<(), CommandRefusal> {
    let id = node.fresh_command_id()?;
    node.on_client_command_response(id, |reply| heard(reply.as_str().to_owned()))?;
    let options = CommandOptions { id: Some(id), timeout: Some(LIMIT), ..CommandOptions::default() };
    let pending = node.begin_client_command(bot(), ClientCommand::new(key)?, options).await?;
    // A command that nobody waits for is taken back.
    tokio::spawn(pending);
    Ok(())
}

fn bot() -> Target {
    Target::User("bot".to_owned())
}

/// Says who a connection is. Yours would ask for a password.
struct SignIn;

impl Action for SignIn {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("signIn").describe("Says who you are").input(Input::required("name"))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let name = request.text("name")?.to_owned();
        let user = User::new(&name).map_err(|_| "that cannot be a name")?;
        let connection = request.connection();
        connection.node().set_connection_user(connection.id(), Some(user))?;
        Ok(Reply::new().with("signedIn", name))
    }
}
