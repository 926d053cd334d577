//! A room of the floor, and what a turn has gathered for it.

use std::ops::Range;

use super::wire::Wire;

#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: Box<[u8]>,
    pub(super) members: Vec<u32>,
    /// The messages of this turn, one behind the other, and who said which piece.
    gathered: Vec<u8>,
    pieces: Vec<(u32, Range<usize>)>,
}

impl Room {
    pub(super) fn new(name: &[u8]) -> Self {
        Self { name: name.into(), members: Vec::new(), gathered: Vec::new(), pieces: Vec::new() }
    }

    /// Whether this turn has brought nothing yet.
    pub(super) fn is_quiet(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Adds the message that `write` appends.
    pub(super) fn gather(&mut self, sender: u32, write: impl FnOnce(&[u8], &mut Vec<u8>)) {
        let start = self.gathered.len();
        write(&self.name, &mut self.gathered);
        self.pieces.push((sender, start..self.gathered.len()));
    }

    /// Sends what was gathered with one write per member; a member who spoke gets it without its own pieces.
    pub(super) fn send_gathered(&mut self, wire: &mut Wire, scratch: &mut Vec<u8>) {
        for &(sender, _) in &self.pieces {
            wire.mark_speaker(sender, true);
        }
        for &member in &self.members {
            if !wire.is_speaker(member) {
                wire.send(member, &self.gathered);
                continue;
            }
            scratch.clear();
            for (_, piece) in self.pieces.iter().filter(|(sender, _)| *sender != member) {
                scratch.extend_from_slice(&self.gathered[piece.clone()]);
            }
            wire.send(member, scratch);
            wire.mark_speaker(member, false);
        }
        self.gathered.clear();
        self.pieces.clear();
    }
}
