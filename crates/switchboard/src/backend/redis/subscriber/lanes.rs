//! Sorts published messages into bounded queues: pure, without a clock, a lock or a runtime.
//!
//! Messages of rooms are handed on in the order of arrival. When the worker of a room is full, that room gets a
//! *lane*: its messages wait there, and the other rooms go on. Messages of nodes have a queue of their own.
//! Messages of rooms that do not fit are dropped and their room is marked: the log of the room has them. Messages
//! of nodes are in no log, so a lost one is reported.

use std::collections::{HashMap, VecDeque};

/// A published message that waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) channel: String,
    pub(super) payload: Vec<u8>,
}

impl Published {
    /// Bytes of a message in addition to its payload and the name of its channel.
    const OVERHEAD: usize = 64;

    fn bytes(&self) -> usize {
        Self::OVERHEAD + self.channel.len() + self.payload.len()
    }
}

/// Work for the task that hands messages of rooms on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Hand this message on; if that has to wait, call [`Sorter::begin`].
    Deliver(Published),
    /// The lanes are full: hand this message on if its worker has space, else call [`Sorter::refuse`].
    DeliverOrRefuse(Published),
    /// Messages of this channel were dropped and a lane was opened: wait until its workers have space, then call
    /// [`Sorter::resume`].
    Opened(String),
}

/// Next step of a lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// Hand this message on, and resume again.
    Deliver(Vec<u8>),
    /// Messages were dropped: compare the room with its log, and resume again.
    Compare,
    /// The lane is empty and has ended.
    End,
}

/// Messages of a room whose worker is full.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Vec<u8>>,
    /// Bytes of the message that is being handed on.
    in_hand_bytes: usize,
    /// Bytes that this lane counts, those in hand included.
    bytes: usize,
    /// Messages may be missing.
    is_to_compare: bool,
}

/// All messages that have arrived and wait for this node.
#[derive(Debug)]
pub(super) struct Sorter {
    /// Messages of nodes.
    nodes: VecDeque<Published>,
    node_bytes: usize,
    has_lost_node_message: bool,
    /// Messages of rooms that have not been sorted.
    arrived: VecDeque<Published>,
    arrived_bytes: usize,
    /// Rooms whose worker is full, by channel.
    lanes: HashMap<String, Lane>,
    lane_bytes: usize,
    /// Lanes without a task.
    begun: Vec<String>,
    /// How many messages were dropped since the last [`Sorter::take_dropped`].
    dropped: u64,
    max_bytes: usize,
}

impl Sorter {
    /// Bytes that a lane counts in addition to its messages: its task and its entry.
    const LANE_BYTES: usize = 512;

    /// Queues that hold `max_bytes` together: a quarter is for messages of nodes, three eighths at most are for
    /// lanes.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            nodes: VecDeque::new(),
            node_bytes: 0,
            has_lost_node_message: false,
            arrived: VecDeque::new(),
            arrived_bytes: 0,
            lanes: HashMap::new(),
            lane_bytes: 0,
            begun: Vec::new(),
            dropped: 0,
            max_bytes,
        }
    }

    /// Limit of the messages in all lanes together.
    fn max_lane_bytes(&self) -> usize {
        self.max_bytes / 8 * 3
    }

    /// Takes a message of a node. A message that is larger than the whole queue fits when the queue is empty.
    pub(super) fn push_node(&mut self, message: Published) {
        let bytes = message.bytes();
        if !self.nodes.is_empty() && self.node_bytes + bytes > self.max_bytes / 4 {
            self.has_lost_node_message = true;
            return;
        }
        self.node_bytes += bytes;
        self.nodes.push_back(message);
    }

    /// Takes the next message of a node.
    pub(super) fn next_node(&mut self) -> Option<Published> {
        let message = self.nodes.pop_front()?;
        self.node_bytes -= message.bytes();
        Some(message)
    }

    /// Returns whether messages of nodes were lost since the last call.
    pub(super) fn take_lost_node_message(&mut self) -> bool {
        std::mem::take(&mut self.has_lost_node_message)
    }

    /// Takes a message of a room.
    pub(super) fn push_room(&mut self, message: Published) {
        let bytes = message.bytes();
        let used = self.arrived_bytes + self.lane_bytes.min(self.max_lane_bytes());
        if !self.arrived.is_empty() && used + bytes > self.max_bytes / 4 * 3 {
            self.drop_one(&message.channel);
            return;
        }
        self.arrived_bytes += bytes;
        self.arrived.push_back(message);
    }

    /// Takes the next step for rooms; messages of rooms with a lane are moved there.
    pub(super) fn next(&mut self) -> Option<Next> {
        loop {
            if let Some(channel) = self.begun.pop() {
                return Some(Next::Opened(channel));
            }
            let message = self.arrived.pop_front()?;
            self.arrived_bytes -= message.bytes();
            if !self.lanes.contains_key(&message.channel) {
                let has_space = self.lane_bytes < self.max_lane_bytes();
                return Some(if has_space { Next::Deliver(message) } else { Next::DeliverOrRefuse(message) });
            }
            self.queue(message);
        }
    }

    /// Adds a message to its lane, or drops it.
    fn queue(&mut self, message: Published) {
        let bytes = message.bytes();
        let (max_lane, max_all) = (self.max_bytes / 16, self.max_lane_bytes());
        let fits = |lane: &Lane| lane.bytes + bytes <= max_lane && self.lane_bytes + bytes <= max_all;
        match self.lanes.get_mut(&message.channel) {
            Some(lane) if fits(lane) => {
                lane.bytes += bytes;
                self.lane_bytes += bytes;
                lane.waiting.push_back(message.payload);
            }
            _ => self.drop_one(&message.channel),
        }
    }

    fn drop_one(&mut self, channel: &str) {
        self.dropped += 1;
        self.mark(channel);
    }

    /// Has a room compared with its log when its lane, which is begun if there is none, is empty.
    pub(super) fn mark(&mut self, channel: &str) {
        if let Some(lane) = self.lanes.get_mut(channel) {
            lane.is_to_compare = true;
            return;
        }
        self.lanes.insert(channel.to_owned(), Lane { bytes: Self::LANE_BYTES, is_to_compare: true, ..Lane::default() });
        self.lane_bytes += Self::LANE_BYTES;
        self.begun.push(channel.to_owned());
    }

    /// Drops the message that [`Sorter::next`] gave: its worker is full, and so are the lanes.
    pub(super) fn refuse(&mut self, message: &Published) {
        self.drop_one(&message.channel);
    }

    /// Begins a lane: handing on a message with a payload of `payload_bytes` has to wait.
    pub(super) fn begin(&mut self, channel: &str, payload_bytes: usize) {
        let in_hand_bytes = Published::OVERHEAD + channel.len() + payload_bytes;
        self.lane_bytes += in_hand_bytes;
        if let Some(lane) = self.lanes.get_mut(channel) {
            // It was marked after `next`. A second task would break the order of the room.
            lane.in_hand_bytes = in_hand_bytes;
            lane.bytes += in_hand_bytes;
            self.begun.retain(|begun| begun != channel);
            return;
        }
        self.lane_bytes += Self::LANE_BYTES;
        let bytes = Self::LANE_BYTES + in_hand_bytes;
        self.lanes.insert(channel.to_owned(), Lane { in_hand_bytes, bytes, ..Lane::default() });
    }

    /// The message that a lane handed on has been taken.
    pub(super) fn resume(&mut self, channel: &str) -> Resume {
        let Some(lane) = self.lanes.get_mut(channel) else { return Resume::End };
        let done = std::mem::take(&mut lane.in_hand_bytes);
        lane.bytes -= done;
        self.lane_bytes -= done;
        let next = lane.waiting.pop_front();
        match next {
            Some(payload) => {
                lane.in_hand_bytes = Published::OVERHEAD + channel.len() + payload.len();
                Resume::Deliver(payload)
            }
            None if std::mem::take(&mut lane.is_to_compare) => Resume::Compare,
            None => {
                self.lane_bytes -= lane.bytes;
                self.lanes.remove(channel);
                Resume::End
            }
        }
    }

    /// How many messages of rooms were dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Bytes of everything that waits.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.node_bytes + self.arrived_bytes + self.lane_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a payload, beside which lanes themselves count little.
    const PAYLOAD: usize = 10_000;

    fn message(channel: &str, payload: u8) -> Published {
        Published { channel: channel.to_owned(), payload: vec![payload; PAYLOAD] }
    }

    fn bytes() -> usize {
        message("a", 0).bytes()
    }

    #[test]
    fn a_room_whose_worker_is_full_lets_other_rooms_pass_and_keeps_its_own_order() {
        let mut lanes = Sorter::new(1 << 20);
        for (channel, payload) in [("a", 1), ("a", 2), ("b", 3), ("a", 4), ("b", 5)] {
            lanes.push_room(message(channel, payload));
        }
        assert_eq!(lanes.next(), Some(Next::Deliver(message("a", 1))));
        lanes.begin("a", PAYLOAD);
        assert_eq!(lanes.next(), Some(Next::Deliver(message("b", 3))));
        assert_eq!(lanes.next(), Some(Next::Deliver(message("b", 5))));
        assert_eq!(lanes.next(), None);
        assert_eq!(lanes.resume("a"), Resume::Deliver(vec![2; PAYLOAD]));
        assert_eq!(lanes.resume("a"), Resume::Deliver(vec![4; PAYLOAD]));
        assert_eq!(lanes.resume("a"), Resume::End);
        assert_eq!((lanes.bytes(), lanes.take_dropped()), (0, 0));
        lanes.push_room(message("a", 6));
        assert_eq!(lanes.next(), Some(Next::Deliver(message("a", 6))));
    }

    #[test]
    fn a_full_lane_drops_messages_of_its_room_only_and_the_room_is_compared_with_its_log() {
        let mut lanes = Sorter::new(1 << 20);
        lanes.push_room(message("a", 0));
        assert!(matches!(lanes.next(), Some(Next::Deliver(_))));
        lanes.begin("a", PAYLOAD);
        for payload in 0..100 {
            lanes.push_room(message("a", payload));
            lanes.push_room(message("b", payload));
            assert_eq!(lanes.next(), Some(Next::Deliver(message("b", payload))));
        }
        assert!(lanes.bytes() <= (1 << 20) / 16);
        let dropped = lanes.take_dropped();
        assert!(dropped > 0);
        for payload in 0..100 - dropped as u8 {
            assert_eq!(lanes.resume("a"), Resume::Deliver(vec![payload; PAYLOAD]));
        }
        assert_eq!(lanes.resume("a"), Resume::Compare);
        assert_eq!(lanes.resume("a"), Resume::End);
        assert_eq!(lanes.bytes(), 0);
    }

    #[test]
    fn messages_that_arrive_faster_than_they_are_sorted_are_dropped_and_their_rooms_are_compared() {
        let mut lanes = Sorter::new(bytes() * 4);
        for channel in ["a", "b", "c", "d", "d", "e"] {
            lanes.push_room(message(channel, 1));
        }
        assert_eq!(lanes.take_dropped(), 3);
        assert_eq!(lanes.next(), Some(Next::Opened("e".to_owned())));
        assert_eq!(lanes.next(), Some(Next::Opened("d".to_owned())));
        for channel in ["a", "b", "c"] {
            assert_eq!(lanes.next(), Some(Next::Deliver(message(channel, 1))));
        }
        assert_eq!(lanes.next(), None);
        for channel in ["d", "e"] {
            assert_eq!([lanes.resume(channel), lanes.resume(channel)], [Resume::Compare, Resume::End]);
        }
        assert_eq!(lanes.bytes(), 0);
    }

    #[test]
    fn messages_of_nodes_have_their_own_space_and_a_lost_one_is_reported() {
        let mut lanes = Sorter::new(bytes() * 8);
        while lanes.take_dropped() == 0 {
            lanes.push_room(message("a", 1));
        }
        for payload in [1, 2] {
            lanes.push_node(message("n", payload));
            assert!(!lanes.take_lost_node_message());
        }
        lanes.push_node(message("n", 3));
        assert!(lanes.take_lost_node_message() && !lanes.take_lost_node_message());
        assert_eq!([lanes.next_node(), lanes.next_node()], [Some(message("n", 1)), Some(message("n", 2))]);
        assert_eq!(lanes.next_node(), None);
    }

    #[test]
    fn a_room_that_is_marked_while_its_message_is_handed_on_has_one_lane() {
        let mut lanes = Sorter::new(1 << 20);
        lanes.push_room(message("a", 1));
        assert_eq!(lanes.next(), Some(Next::Deliver(message("a", 1))));
        lanes.mark("a");
        lanes.begin("a", PAYLOAD);
        assert_eq!(lanes.next(), None);
        assert_eq!([lanes.resume("a"), lanes.resume("a")], [Resume::Compare, Resume::End]);
        assert_eq!(lanes.bytes(), 0);
    }

    #[test]
    fn full_lanes_refuse_messages_of_further_rooms() {
        let mut lanes = Sorter::new(bytes() * 8);
        for channel in ["a", "b", "c", "d"] {
            lanes.push_room(message(channel, 1));
            match lanes.next() {
                Some(Next::Deliver(message)) => lanes.begin(channel, message.payload.len()),
                Some(Next::DeliverOrRefuse(message)) => lanes.refuse(&message),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(lanes.take_dropped(), 1);
        assert_eq!([lanes.resume("a"), lanes.resume("d")], [Resume::End, Resume::Compare]);
    }
}
