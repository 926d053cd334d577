//! Which commands of other nodes this one has handed to its connections.

use std::collections::{HashMap, VecDeque};

use switchboard_proto::command::CommandId;

/// Commands by the nodes that sent them, so that replies find their way. Bounded: `commands.carried_max`.
#[derive(Debug)]
pub(super) struct Carried {
    most: usize,
    nodes: HashMap<CommandId, u16>,
    /// The oldest first, each with when it is over.
    order: VecDeque<(u64, CommandId)>,
}

impl Carried {
    pub(super) fn new(most: usize) -> Self {
        Self { most, nodes: HashMap::new(), order: VecDeque::new() }
    }

    /// Remembers a command until its deadline, on the monotonic clock; longer, if one before it has a later one.
    pub(super) fn insert(&mut self, id: CommandId, node: u16, deadline_ms: u64, now_ms: u64) {
        while self.order.front().is_some_and(|(until_ms, _)| *until_ms <= now_ms)
            || self.order.len() >= self.most.max(1)
        {
            self.forget_oldest();
        }
        if self.most > 0 && self.nodes.insert(id, node).is_none() {
            self.order.push_back((deadline_ms, id));
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.order.pop_front() {
            self.nodes.remove(&id);
        }
    }

    /// Who sent a command.
    pub(super) fn node_of(&self, id: CommandId) -> Option<u16> {
        self.nodes.get(&id).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> CommandId {
        CommandId::from_random(number)
    }

    #[test]
    fn the_oldest_and_those_whose_time_is_over_are_forgotten() {
        let mut carried = Carried::new(2);
        carried.insert(id(1), 7, 100, 0);
        carried.insert(id(1), 7, 100, 0);
        carried.insert(id(2), 8, 50, 0);
        assert_eq!((carried.node_of(id(1)), carried.node_of(id(2))), (Some(7), Some(8)));
        carried.insert(id(3), 9, 200, 10);
        assert_eq!((carried.node_of(id(1)), carried.node_of(id(2))), (None, Some(8)), "there are two at most");
        carried.insert(id(4), 9, 300, 60);
        assert_eq!((carried.node_of(id(2)), carried.node_of(id(3))), (None, Some(9)));
        let mut none = Carried::new(0);
        none.insert(id(1), 7, 100, 0);
        assert_eq!(none.node_of(id(1)), None);
    }
}
