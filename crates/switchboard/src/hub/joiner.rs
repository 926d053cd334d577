//! What one turn brought to a room, joined once for each way of hearing it.

use std::rc::Rc;

use switchboard_proto::call::RoomKind;
use switchboard_proto::id::RoomName;
use switchboard_proto::time::Stamps;
use switchboard_proto::wire::WireFormat;

use super::mail::Delivery;
use super::outbox::Chunk;

/// Joins the messages that one turn brought to a room.
pub(super) struct Joiner<'a> {
    room: &'a RoomName,
    kind: RoomKind,
    batch: &'a [Delivery],
    stamps: &'a Stamps,
    /// The time of each message in formats that are stamped, the same in all of them; made when first needed.
    stamped: Vec<u64>,
    chunks: [Option<Rc<Chunk>>; WireFormat::COUNT],
}

impl<'a> Joiner<'a> {
    pub(super) fn new(room: &'a RoomName, kind: RoomKind, batch: &'a [Delivery], stamps: &'a Stamps) -> Self {
        Self { room, kind, batch, stamps, stamped: Vec::new(), chunks: [const { None }; WireFormat::COUNT] }
    }

    /// All of the messages, shared.
    pub(super) fn all(&mut self, format: WireFormat) -> Rc<Chunk> {
        match &self.chunks[format.index()] {
            Some(chunk) => Rc::clone(chunk),
            None => {
                let chunk = self.some(format, |_| true);
                self.chunks[format.index()] = Some(Rc::clone(&chunk));
                chunk
            }
        }
    }

    /// Those of the messages that are wanted, of which there is one at least.
    pub(super) fn some(&mut self, format: WireFormat, is_wanted: impl Fn(&Delivery) -> bool) -> Rc<Chunk> {
        let batch = self.batch;
        let wanted = batch.iter().enumerate().filter(|(_, delivery)| is_wanted(delivery));
        if !format.is_stamped() {
            let wanted: Vec<&Delivery> = wanted.map(|(_, delivery)| delivery).collect();
            return Rc::new(Chunk::join(self.room, &wanted, format));
        }
        if self.stamped.is_empty() {
            let sent_at = batch.iter().map(|delivery| delivery.message.message().sent_at);
            self.stamped = sent_at.map(|sent_at| self.stamps.next(sent_at)).collect();
        }
        let mut bytes = Vec::new();
        let (mut first, mut last) = (0, 0);
        for (index, delivery) in wanted {
            let message = delivery.message.message();
            format.write_stamped(message, self.kind, self.stamped[index], &mut bytes);
            last = message.number.max(last);
            first = if first == 0 { last } else { first };
        }
        Rc::new(Chunk::written(self.room, bytes, first, last))
    }
}
