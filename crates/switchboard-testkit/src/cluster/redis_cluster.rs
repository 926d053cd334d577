//! A Redis Cluster of six processes.

use std::process::Command;

use super::redis::{RedisOptions, RedisServer};
use super::{DEADLINE, within};

/// Three masters and three replicas. Dropping it kills them.
///
/// A master that is silent for a second is replaced by its replica; methods that wait end within [`DEADLINE`].
#[derive(Debug)]
pub struct RedisCluster {
    servers: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts six servers, joins them, and waits until all of them say that all slots are served.
    ///
    /// # Panics
    ///
    /// When `redis-server` or `redis-cli` is not installed, or the cluster does not come about.
    #[track_caller]
    pub fn start() -> Self {
        let options = RedisOptions::default().cluster().setting("cluster-node-timeout", "1000");
        let servers: Vec<RedisServer> = (0..6).map(|_| RedisServer::start_with(options.clone())).collect();
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "create"]).args(servers.iter().map(|server| server.address().to_string()));
        command.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let output = command.output().unwrap_or_else(|error| panic!("running redis-cli: {error}"));
        assert!(output.status.success(), "{output:?}");
        let cluster = Self { servers };
        cluster.await_ok();
        for server in &cluster.servers {
            if server.command(&["ROLE"]).starts_with("slave") {
                server.await_replication();
            }
        }
        cluster
    }

    /// Its servers.
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// One of them, to kill it, pause it or start it again.
    pub fn server_mut(&mut self, index: usize) -> &mut RedisServer {
        &mut self.servers[index]
    }

    /// The URLs of all servers, separated by commas.
    pub fn url(&self) -> String {
        let urls: Vec<String> = self.servers.iter().map(RedisServer::url).collect();
        urls.join(",")
    }

    /// Which server serves a slot, as those see it that run.
    ///
    /// # Panics
    ///
    /// When nobody serves it.
    #[track_caller]
    pub fn master_of_slot(&self, slot: u16) -> usize {
        let serves = |server: &RedisServer| {
            let nodes = server.try_command(&["CLUSTER", "NODES"]).map(|nodes| nodes.to_string()).unwrap_or_default();
            nodes.lines().any(|node| node.contains("myself,master") && has_slot(node, slot))
        };
        let found = self.servers.iter().position(serves);
        found.unwrap_or_else(|| panic!("nobody serves slot {slot}"))
    }

    /// The slot of a key.
    #[track_caller]
    pub fn slot_of(&self, key: &str) -> u16 {
        let server = self.running();
        server
            .command(&["CLUSTER", "KEYSLOT", key])
            .parse()
            .unwrap_or_else(|error| panic!("the slot of {key}: {error}"))
    }

    /// Kills the master of a slot, waits until its replica serves the slot, and returns who died.
    #[track_caller]
    pub fn kill_master_of_slot(&mut self, slot: u16) -> usize {
        let index = self.master_of_slot(slot);
        self.servers[index].kill();
        let is_served = || {
            let mut others = self.servers.iter().filter_map(|server| server.try_command(&["CLUSTER", "NODES"]).ok());
            others.any(|nodes| {
                nodes.to_string().lines().any(|node| node.contains("myself,master") && has_slot(node, slot))
            })
        };
        assert!(within(DEADLINE, is_served), "nobody takes over slot {slot}");
        self.await_ok();
        index
    }

    /// Begins to move a slot to another master, which until [`RedisCluster::finish_move`] is asked by ASK for keys that it has.
    ///
    /// `keys`: how many of its keys move at once; the others stay where they are for now.
    #[track_caller]
    pub fn begin_move(&self, slot: u16, to: usize, keys: usize) {
        let from = self.master_of_slot(slot);
        let (from_id, to_id) = (self.id(from), self.id(to));
        let slot = slot.to_string();
        self.servers[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        self.servers[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        self.migrate(&slot, from, to, keys);
    }

    /// Moves what is left of a slot to its new master, and tells all masters: who asks the old one is told MOVED.
    #[track_caller]
    pub fn finish_move(&self, slot: u16, to: usize) {
        let from = self.master_of_slot(slot);
        let (slot_text, to_id) = (slot.to_string(), self.id(to));
        while self.migrate(&slot_text, from, to, 100) > 0 {}
        // First who gets it and who has it, so that nobody else sends anybody to where it is not.
        let masters = (0..self.servers.len()).filter(|&index| index != to && index != from && self.is_master(index));
        for index in [to, from].into_iter().chain(masters) {
            self.servers[index].command(&["CLUSTER", "SETSLOT", &slot_text, "NODE", &to_id]);
        }
        self.await_ok();
    }

    /// Waits until all that run say that the cluster is well.
    #[track_caller]
    pub fn await_ok(&self) {
        let is_ok = |server: &RedisServer| match server.try_command(&["CLUSTER", "INFO"]) {
            Ok(info) => info.to_string().contains("cluster_state:ok"),
            // It was killed.
            Err(_) => true,
        };
        assert!(within(DEADLINE, || self.servers.iter().all(is_ok)), "the cluster is not well");
    }

    #[track_caller]
    fn running(&self) -> &RedisServer {
        let found = self.servers.iter().find(|server| server.try_command(&["PING"]).is_ok());
        found.unwrap_or_else(|| panic!("no server of the cluster runs"))
    }

    fn is_master(&self, index: usize) -> bool {
        self.servers[index].try_command(&["ROLE"]).is_ok_and(|role| role.to_string().starts_with("master"))
    }

    #[track_caller]
    fn id(&self, index: usize) -> String {
        self.servers[index].command(&["CLUSTER", "MYID"])
    }

    /// Moves at most so many keys of a slot, and returns how many.
    #[track_caller]
    fn migrate(&self, slot: &str, from: usize, to: usize, count: usize) -> usize {
        let keys = self.servers[from].command(&["CLUSTER", "GETKEYSINSLOT", slot, &count.to_string()]);
        let keys: Vec<&str> = keys.lines().collect();
        if !keys.is_empty() {
            let (address, port) = (self.servers[to].address(), self.servers[to].address().port().to_string());
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            words.extend(&keys);
            let answer = self.servers[from].command(&words);
            assert_eq!(answer, "OK", "moving {keys:?} to {address}");
        }
        keys.len()
    }
}

/// Whether a line of `CLUSTER NODES` lists a slot; one that moves is in brackets behind it, and does not count.
fn has_slot(node: &str, slot: u16) -> bool {
    node.split(' ').skip(8).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
    })
}

#[cfg(test)]
mod tests {
    use super::super::resp::Reply;
    use super::*;

    #[test]
    fn the_slots_of_a_node_are_read() {
        let node = "07c3 127.0.0.1:30001@31001 myself,master - 0 1426238317239 4 connected 0-5460 9000 [9001->-292f]";
        assert!(has_slot(node, 0) && has_slot(node, 5460) && has_slot(node, 9000));
        assert!(!has_slot(node, 5461) && !has_slot(node, 9001) && !has_slot("", 0));
    }

    #[test]
    fn a_slot_moves_by_ask_and_moved_and_a_master_is_replaced() {
        let mut cluster = RedisCluster::start();
        let slot = cluster.slot_of("{room}1");
        let from = cluster.master_of_slot(slot);
        for key in ["{room}1", "{room}2"] {
            cluster.servers()[from].command(&["SET", key, "value"]);
        }
        let to = (0..6).find(|&index| index != from && cluster.is_master(index)).unwrap();
        cluster.begin_move(slot, to, 1);
        let refusal = |cluster: &RedisCluster| -> String {
            let replies = ["{room}1", "{room}2"].map(|key| cluster.servers()[from].try_command(&["GET", key]).unwrap());
            replies.into_iter().find_map(|reply| matches!(reply, Reply::Refused(_)).then(|| reply.to_string())).unwrap()
        };
        assert_eq!(refusal(&cluster), format!("ASK {slot} {}", cluster.servers()[to].address()));
        cluster.finish_move(slot, to);
        assert_eq!(refusal(&cluster), format!("MOVED {slot} {}", cluster.servers()[to].address()));
        assert_eq!(cluster.master_of_slot(slot), to);
        assert_eq!(cluster.servers()[to].command(&["GET", "{room}2"]), "value");
        assert_eq!(cluster.kill_master_of_slot(slot), to);
        assert_ne!(cluster.master_of_slot(slot), to);
        assert_eq!(cluster.url().split(',').count(), 6);
    }
}
