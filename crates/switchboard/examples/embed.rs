//! A server inside a program of your own.
//!
//! ```text
//! $ cargo run --example embed
//! switchboard ready socket=127.0.0.1:5000 admin=127.0.0.1:9090
//! ```
//!
//! In a second window:
//!
//! ```text
//! $ telnet localhost 5000
//! {"welcome":"Hello! Welcome to the actionhero api","context":"api"}
//! > roomAdd lobby
//! {"status":"OK","context":"response","data":true,"messageCount":1}
//! {"greeting":"You are number 1 in lobby"}
//! ```
//!
//! Now type `dinner is ready` in the first window. The second one shows it; `from` is 0 because the server speaks:
//!
//! ```text
//! {"message":"dinner is ready","room":"lobby","from":0,"context":"user","sentAt":…}
//! ```
//!
//! Control-D in the first window stops the server. The second one is told and closed:
//!
//! ```text
//! {"status":"Bye!","context":"api"}
//! Connection closed by foreign host.
//! ```

#![allow(clippy::print_stdout, reason = "the program talks to whoever started it")]

use std::error::Error;
use std::io::BufRead;

use serde_json::json;
use switchboard::node::Speaker;
use switchboard::node::hooks::MembershipChange;
use switchboard::proto::call::CallError;
use switchboard::{Config, Node, Server};

const ROOM: &str = "lobby";

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
        // An empty line is no message: the node would refuse it.
        if !line.is_empty() {
            announce(server.node(), &line).await?;
        }
    }
    server.stop().await;
    Ok(())
}

/// Starts a server with one room, whose newcomers are greeted. Clients can connect when this returns.
pub(crate) async fn start(config: Config) -> Result<Server, Box<dyn Error>> {
    let server = Server::builder(config).setup(|node| node.add_join_callback(100, greet)).start().await?;
    server.node().add_room(ROOM).await?;
    Ok(server)
}

/// Says something to everybody in the room. Whoever is not inside does not hear it.
pub(crate) async fn announce(node: &Node, text: &str) -> Result<(), CallError> {
    node.broadcast(Speaker::server(), ROOM, text).await?;
    Ok(())
}

/// Callbacks cannot wait, so what has to wait becomes a task.
fn greet(change: &MembershipChange) {
    let (connection, room) = (change.connection().clone(), change.room().clone());
    tokio::spawn(async move {
        let status = connection.node().room_status(room.as_str()).await?;
        let greeting = format!("You are number {} in {room}", status.members.len());
        // A direct message: this client alone gets it, as it is.
        connection.send_message(json!({ "greeting": greeting })).await
    });
}
