//! Two nodes of a cluster in one program, with Redis between them: one room, whichever node its members are with.
//!
//! Redis must be there; what the nodes keep in it has the prefix `two-nodes`.
//!
//! ```text
//! $ redis-server --port 6379 &
//! $ cargo run --example two_nodes -- redis://127.0.0.1:6379
//! node a: switchboard ready socket=127.0.0.1:5000
//! node b: switchboard ready socket=127.0.0.1:5001
//! ```
//!
//! In a second window, with the first node:
//!
//! ```text
//! $ telnet localhost 5000
//! > roomAdd lobby
//! ```
//!
//! In a third one, with the other node:
//!
//! ```text
//! $ telnet localhost 5001
//! > roomAdd lobby
//! > say lobby good evening
//! ```
//!
//! The second window shows it. `roomView lobby` names both members in either of them. What is typed in the first window is said to
//! all, and `move`, typed there, has the first node put everybody of the other one into the room `balcony`. Control-D stops both nodes.

#![allow(clippy::print_stdout, reason = "the program talks to whoever started it")]

use std::error::Error;
use std::io::BufRead;

use switchboard::config::{BackendKind, RedisServers};
use switchboard::node::Speaker;
use switchboard::proto::call::CallError;
use switchboard::{Config, Node, Server};

const ROOM: &str = "lobby";
const OTHER_ROOM: &str = "balcony";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let redis = RedisServers::parse(&url).ok_or("the argument is the URL of a Redis server")?;
    let a = start(config("a", 5000, redis.clone())).await?;
    let b = start(config("b", 5001, redis)).await?;
    println!("node a: {}\nnode b: {}", a.ready_line(), b.ready_line());

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
        match line.as_str() {
            "" => {}
            "move" => println!("{} moved", move_all(a.node(), b.node()).await?),
            line => drop(a.node().broadcast(Speaker::server(), ROOM, line).await?),
        }
    }
    a.stop().await;
    b.stop().await;
    Ok(())
}

/// The configuration of a node. All nodes of a cluster have the same backend and the same rooms.
pub(crate) fn config(name: &str, port: u16, redis: RedisServers) -> Config {
    let mut config = Config::default();
    config.node.name = name.to_owned();
    config.servers.socket.bind = "127.0.0.1".to_owned();
    config.servers.socket.port = port;
    config.servers.web.enabled = false;
    config.admin.enabled = false;
    config.backend.kind = BackendKind::Redis;
    config.backend.redis.url = redis;
    config.backend.redis.prefix = "two-nodes".to_owned();
    config
}

/// Starts a node with its rooms, if no other node has made them. Clients can connect when this returns.
pub(crate) async fn start(config: Config) -> Result<Server, Box<dyn Error>> {
    let server = Server::builder(config).start().await?;
    for room in [ROOM, OTHER_ROOM] {
        server.node().add_room(room).await?;
    }
    Ok(server)
}

/// Has one node put all connections of another one into a room: a connection's id is enough, wherever it is.
pub(crate) async fn move_all(mover: &Node, holder: &Node) -> Result<usize, CallError> {
    let mut moved = 0;
    for id in holder.connection_ids() {
        match mover.add_member(id, OTHER_ROOM).await {
            Ok(()) => moved += 1,
            // It is there already, or gone.
            Err(CallError::AlreadyMember(_) | CallError::NoSuchConnection) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(moved)
}
