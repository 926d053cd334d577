//! What waits to be written to one connection.
//!
//! Bounded in bytes. Order is kept: what is written is exactly what was queued, in that order, unless a named policy
//! dropped room messages, and then a notice says so in their place.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice, Write};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use switchboard_proto::call::{self, Content};
use switchboard_proto::id::RoomName;
use switchboard_proto::wire::WireFormat;

use super::mail::Delivery;
use super::{HubLimits, SlowConsumer};
use crate::visits::visit;

/// Room messages joined into one run of bytes, shared by all members of the worker that take all of them.
#[derive(Debug)]
pub struct Chunk {
    bytes: Bytes,
    room: RoomName,
    /// First and last number; 0: no message has one.
    first: u64,
    last: u64,
}

impl Chunk {
    /// Joins messages, of which there is one at least.
    pub(super) fn join(room: &RoomName, batch: &[&Delivery], format: WireFormat) -> Self {
        let bytes = match batch {
            [only] => only.message.bytes(format).clone(),
            many => {
                let mut joined =
                    Vec::with_capacity(many.iter().map(|delivery| delivery.message.bytes(format).len()).sum());
                for delivery in many {
                    joined.extend_from_slice(delivery.message.bytes(format));
                }
                Bytes::from(joined)
            }
        };
        let mut numbers = batch.iter().map(|delivery| delivery.message.message().number).filter(|number| *number != 0);
        let first = numbers.next().unwrap_or_default();
        Self { bytes, room: room.clone(), first, last: numbers.next_back().unwrap_or(first) }
    }

    /// Messages that were written already, the first and the last number of them.
    pub(super) fn written(room: &RoomName, bytes: Vec<u8>, first: u64, last: u64) -> Self {
        Self { bytes: bytes.into(), room: room.clone(), first, last }
    }
}

/// What waits to be written to one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The first piece, in place: an outbox that holds one piece for a moment allocates nothing.
    first: Option<Piece>,
    /// The other pieces, boxed: 8 bytes in every idle connection instead of 40.
    rest: Option<Box<Rest>>,
    /// Bytes of `first` that were written.
    written: usize,
    /// Bytes that the client asked for.
    own_bytes: usize,
    /// Bytes that it did not ask for.
    pushed_bytes: usize,
}

/// The pieces after the first one. Never empty.
#[derive(Debug, Default)]
struct Rest {
    /// The pieces that no drop has passed yet.
    pieces: VecDeque<Piece>,
    /// Only present after messages were dropped or missed.
    notices: Option<Box<Notices>>,
}

/// Finds the gap notice of a room without searching the queue, and remembers which pieces were passed when the oldest
/// messages were dropped.
///
/// Places are counted from the first piece that the queue ever held, so they stay valid while pieces leave at the
/// front.
#[derive(Debug)]
struct Notices {
    /// The pieces that a drop has passed: no room messages. They are written before [`Rest::pieces`].
    passed: VecDeque<Piece>,
    /// Place of each room's latest notice in `passed`.
    in_passed: HashMap<RoomName, u64>,
    /// Place of each room's latest notice in [`Rest::pieces`].
    in_pieces: HashMap<RoomName, u64>,
    /// How many pieces have left `passed`.
    passed_gone: u64,
    /// How many pieces have left [`Rest::pieces`].
    pieces_gone: u64,
    /// Place in [`Rest::pieces`] after the last room message or content: earlier notices are complete.
    open_from: u64,
}

#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    Direct(Box<[u8]>),
    Room(Rc<Chunk>),
    Gap(Box<Gap>),
    Content(Box<Stream>),
}

/// Room messages that were dropped, or never came.
#[derive(Debug)]
struct Gap {
    room: RoomName,
    /// 0: they had no numbers.
    first: u64,
    /// None: nobody knows.
    last: Option<u64>,
}

impl Gap {
    /// What a chunk that is dropped leaves behind.
    fn of(chunk: &Chunk) -> Self {
        Self { room: chunk.room.clone(), first: chunk.first, last: Some(chunk.last).filter(|last| *last != 0) }
    }

    /// What follows is missing too.
    fn extend(&mut self, later: &Self) {
        self.last = self.last.and(later.last);
    }
}

impl Rest {
    fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.notices.iter().flat_map(|notices| &notices.passed).chain(&self.pieces)
    }

    fn last_mut(&mut self) -> Option<&mut Piece> {
        let passed = self.notices.as_mut().map(|notices| &mut notices.passed);
        self.pieces.back_mut().or_else(|| passed?.back_mut())
    }

    fn push(&mut self, piece: Piece) {
        let closes = matches!(piece, Piece::Room(_) | Piece::Content(_));
        self.pieces.push_back(piece);
        if closes && let Some(notices) = &mut self.notices {
            notices.open_from = notices.pieces_gone + self.pieces.len() as u64;
        }
    }

    /// Takes the next piece to be written.
    fn pop(&mut self) -> Option<Piece> {
        let Some(notices) = &mut self.notices else { return self.pieces.pop_front() };
        let (piece, place, places) = match notices.passed.pop_front() {
            Some(piece) => {
                notices.passed_gone += 1;
                (piece, notices.passed_gone - 1, &mut notices.in_passed)
            }
            None => {
                let piece = self.pieces.pop_front()?;
                notices.pieces_gone += 1;
                (piece, notices.pieces_gone - 1, &mut notices.in_pieces)
            }
        };
        forget_place(places, &piece, place);
        Some(piece)
    }

    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.notices.as_ref().is_none_or(|notices| notices.passed.is_empty())
    }

    /// The places of notices, and the pieces that dropping has not passed.
    fn notices(&mut self) -> (&mut Notices, &mut VecDeque<Piece>) {
        let Self { pieces, notices } = self;
        let notices = notices.get_or_insert_with(|| {
            // There is no notice yet, or its place would be known.
            let open = pieces.iter().rev().take_while(|piece| !matches!(piece, Piece::Room(_) | Piece::Content(_)));
            let open_from = (pieces.len() - open.count()) as u64;
            Box::new(Notices {
                passed: VecDeque::new(),
                in_passed: HashMap::new(),
                in_pieces: HashMap::new(),
                passed_gone: 0,
                pieces_gone: 0,
                open_from,
            })
        });
        (notices, pieces)
    }

    /// Whether no room message and no content follows the first piece.
    fn is_open(&mut self) -> bool {
        let (notices, _) = self.notices();
        notices.open_from <= notices.pieces_gone
    }

    /// The notice of a room that no room message and no content follows.
    fn open_notice(&mut self, room: &RoomName) -> Option<&mut Gap> {
        let (notices, pieces) = self.notices();
        visit();
        let open = notices.in_pieces.get(room).filter(|place| **place >= notices.open_from);
        let piece = match (open, notices.in_passed.get(room)) {
            (Some(place), _) => pieces.get_mut((place - notices.pieces_gone) as usize),
            (None, Some(place)) if notices.open_from <= notices.pieces_gone => {
                notices.passed.get_mut((place - notices.passed_gone) as usize)
            }
            (None, _) => None,
        };
        match piece? {
            Piece::Gap(gap) => Some(gap),
            _ => None,
        }
    }

    fn push_notice(&mut self, gap: Gap) {
        let (notices, pieces) = self.notices();
        notices.in_pieces.insert(gap.room.clone(), notices.pieces_gone + pieces.len() as u64);
        pieces.push_back(Piece::Gap(Box::new(gap)));
    }

    /// Passes the oldest piece that no drop has passed yet: a room message becomes a notice. Returns the bytes that became
    /// free and those that were taken, or `None` if there is no such piece.
    ///
    /// Each piece is passed once, so that dropping costs no more than queueing did.
    fn pass_oldest(&mut self) -> Option<(usize, usize)> {
        let (notices, pieces) = self.notices();
        let piece = pieces.pop_front()?;
        visit();
        notices.pieces_gone += 1;
        forget_place(&mut notices.in_pieces, &piece, notices.pieces_gone - 1);
        let (piece, freed, taken) = match piece {
            Piece::Room(chunk) => {
                let (gap, freed) = (Gap::of(&chunk), chunk.bytes.len());
                if let Some(place) = notices.in_passed.get(&gap.room)
                    && let Some(Piece::Gap(earlier)) = notices.passed.get_mut((place - notices.passed_gone) as usize)
                {
                    earlier.extend(&gap);
                    return Some((freed, 0));
                }
                (Piece::Gap(Box::new(gap)), freed, Outbox::GAP_BYTES)
            }
            piece => (piece, 0, 0),
        };
        if let Piece::Gap(gap) = &piece {
            notices.in_passed.insert(gap.room.clone(), notices.passed_gone + notices.passed.len() as u64);
        }
        notices.passed.push_back(piece);
        Some((freed, taken))
    }
}

/// Forgets the place of a notice that is no longer there, unless the room has a later one.
fn forget_place(places: &mut HashMap<RoomName, u64>, piece: &Piece, place: u64) {
    if let Piece::Gap(gap) = piece
        && places.get(&gap.room) == Some(&place)
    {
        places.remove(&gap.room);
    }
}

/// Content of which one piece at a time is in memory.
#[derive(Debug)]
struct Stream {
    content: Arc<dyn Content>,
    /// Where the next piece begins.
    offset: u64,
    /// The piece at hand.
    piece: Vec<u8>,
    asked: bool,
}

/// Whether something could be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits, or was dropped under a policy that says so.
    Queued,
    /// Too much waits already.
    Overflow,
}

/// How far writing came.
#[derive(Debug)]
pub enum Progress {
    /// Nothing waits any more.
    Empty,
    /// The socket takes no more for now.
    Blocked,
    /// The next piece of a content is needed first.
    Wanted {
        /// Of which.
        content: Arc<dyn Content>,
        /// From where on.
        offset: u64,
    },
    /// A piece of a content was asked for before and has not come.
    Waiting,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Direct(bytes) => bytes,
            Self::Room(chunk) => &chunk.bytes,
            Self::Gap(_) => &[],
            Self::Content(stream) => &stream.piece,
        }
    }
}

impl Outbox {
    /// Most pieces that one write names.
    const IO_SLICES: usize = 64;
    /// What a gap notice counts until it is written.
    const GAP_BYTES: usize = 96;

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.own_bytes + self.pushed_bytes
    }

    /// Whether a content waits, or part of one.
    pub fn has_content(&self) -> bool {
        self.pieces().any(|piece| matches!(piece, Piece::Content(_)))
    }

    /// Bytes still to be written, contents that are not in memory included. Falls with every byte that is written.
    pub fn remaining(&self) -> u64 {
        let left = |piece: &Piece| match piece {
            Piece::Content(stream) => {
                stream.piece.len() as u64 + (stream.content.length().saturating_sub(stream.offset))
            }
            piece => piece.bytes().len() as u64,
        };
        self.pieces().map(left).sum::<u64>().saturating_sub(self.written as u64)
    }

    /// Queues bytes that the client asked for.
    pub fn push_own(&mut self, bytes: &[u8]) {
        self.own_bytes += bytes.len();
        if let Some(Piece::Own(last)) = self.last_mut() {
            last.extend_from_slice(bytes);
        } else {
            self.push(Piece::Own(bytes.to_vec()));
        }
    }

    /// Queues bytes that the client did not ask for. They are never dropped: beyond the limit they overflow.
    pub fn push_direct(&mut self, bytes: &[u8], limits: HubLimits) -> Pushed {
        if self.pushed_bytes + bytes.len() > limits.max_outbox_bytes {
            return Pushed::Overflow;
        }
        self.pushed_bytes += bytes.len();
        self.push(Piece::Direct(bytes.into()));
        Pushed::Queued
    }

    /// Queues room messages, or does what the policy says when too much waits.
    pub fn push_room(&mut self, chunk: Rc<Chunk>, limits: HubLimits) -> Pushed {
        let length = chunk.bytes.len();
        if self.pushed_bytes + length > limits.max_outbox_bytes {
            match limits.slow_consumer {
                SlowConsumer::Close => return Pushed::Overflow,
                SlowConsumer::DropNewest => return self.note_gap(Gap::of(&chunk), limits),
                SlowConsumer::DropOldest => {
                    self.drop_oldest(length, limits);
                    if self.pushed_bytes + length > limits.max_outbox_bytes {
                        return self.note_gap(Gap::of(&chunk), limits);
                    }
                }
            }
        }
        self.pushed_bytes += length;
        self.push(Piece::Room(chunk));
        Pushed::Queued
    }

    /// Queues a notice that messages of a room are missing.
    pub fn push_gap(&mut self, room: &RoomName, first: u64, last: Option<u64>, limits: HubLimits) -> Pushed {
        self.note_gap(Gap { room: room.clone(), first, last }, limits)
    }

    /// Queues a content behind what waits.
    pub fn push_content(&mut self, content: Arc<dyn Content>) {
        self.push(Piece::Content(Box::new(Stream { content, offset: 0, piece: Vec::new(), asked: false })));
    }

    /// Brings the piece that [`Progress::Wanted`] asked for. `false` when the content ended too early, which leaves
    /// nothing but to end the connection.
    pub fn fill(&mut self, piece: call::Piece) -> bool {
        match &mut self.first {
            Some(Piece::Content(stream)) => {
                let ends_early = piece.consumed == 0 && stream.offset < stream.content.length();
                stream.offset += piece.consumed;
                stream.piece = piece.bytes;
                stream.asked = false;
                self.written = 0;
                !ends_early
            }
            _ => true,
        }
    }

    /// Drops everything of which nothing has been written. Of a content the piece at hand is kept, if it has begun: what
    /// follows it stands where the next piece would.
    pub fn abandon(&mut self) {
        self.rest = None;
        if let Some(Piece::Content(stream)) = &mut self.first {
            self.first = Some(Piece::Own(std::mem::take(&mut stream.piece)));
        }
        let begun = match &self.first {
            Some(piece) if self.written > 0 && self.written < piece.bytes().len() => piece.bytes().len(),
            _ => {
                self.first = None;
                self.written = 0;
                0
            }
        };
        let is_own = matches!(self.first, Some(Piece::Own(_)));
        (self.own_bytes, self.pushed_bytes) = if is_own { (begun, 0) } else { (0, begun) };
    }

    /// Writes until nothing waits or `out` takes no more.
    ///
    /// # Errors
    ///
    /// Those of `out`, except "would block".
    pub fn write_to(&mut self, out: &mut impl Write, format: WireFormat) -> io::Result<Progress> {
        loop {
            match &mut self.first {
                None => return Ok(Progress::Empty),
                Some(Piece::Gap(gap)) => {
                    let mut notice = Vec::with_capacity(Self::GAP_BYTES);
                    format.write_gap(&gap.room, gap.first, gap.last, &mut notice);
                    if notice.is_empty() {
                        self.pop();
                        continue;
                    }
                    self.pushed_bytes = self.pushed_bytes - Self::GAP_BYTES + notice.len();
                    self.first = Some(Piece::Direct(notice.into()));
                    continue;
                }
                Some(Piece::Content(stream)) if self.written == stream.piece.len() => {
                    if stream.offset >= stream.content.length() {
                        self.written = 0;
                        self.pop();
                        continue;
                    }
                    if stream.asked {
                        return Ok(Progress::Waiting);
                    }
                    stream.asked = true;
                    stream.piece = Vec::new();
                    self.written = 0;
                    return Ok(Progress::Wanted { content: Arc::clone(&stream.content), offset: stream.offset });
                }
                Some(_) => {}
            }
            let written = match self.write_once(out) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.advance(written);
        }
    }

    fn write_once(&self, out: &mut impl Write) -> io::Result<usize> {
        let Some(first) = &self.first else { return Ok(0) };
        let head = &first.bytes()[self.written..];
        let Some(rest) = &self.rest else { return out.write(head) };
        if matches!(first, Piece::Content(_)) {
            return out.write(head);
        }
        let mut slices = [IoSlice::new(head); Self::IO_SLICES];
        let mut count = 1;
        for piece in rest.iter().take(Self::IO_SLICES - 1) {
            if matches!(piece, Piece::Content(_) | Piece::Gap(_)) {
                break;
            }
            slices[count] = IoSlice::new(piece.bytes());
            count += 1;
        }
        out.write_vectored(&slices[..count])
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = &self.first {
            let left = first.bytes().len() - self.written;
            if written < left || matches!(first, Piece::Content(_)) {
                self.written += written;
                return;
            }
            written -= left;
            self.written = 0;
            self.pop();
            if written == 0 {
                return;
            }
        }
    }

    fn push(&mut self, piece: Piece) {
        if self.first.is_none() {
            self.first = Some(piece);
        } else {
            self.rest.get_or_insert_default().push(piece);
        }
    }

    fn pop(&mut self) {
        match &self.first {
            Some(Piece::Own(bytes)) => self.own_bytes -= bytes.len(),
            Some(Piece::Direct(bytes)) => self.pushed_bytes -= bytes.len(),
            Some(Piece::Room(chunk)) => self.pushed_bytes -= chunk.bytes.len(),
            Some(Piece::Gap(_)) => self.pushed_bytes -= Self::GAP_BYTES,
            Some(Piece::Content(_)) | None => {}
        }
        self.first = self.rest.as_mut().and_then(|rest| rest.pop());
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
            self.rest = None;
        }
    }

    fn last_mut(&mut self) -> Option<&mut Piece> {
        match &mut self.rest {
            Some(rest) => rest.last_mut(),
            None => self.first.as_mut(),
        }
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.first.iter().chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    /// Notes messages that are not queued. A notice is extended as long as no room message and no content follows it: a
    /// message of another room would not disturb the order, but one place for all rooms is less to keep.
    fn note_gap(&mut self, missing: Gap, limits: HubLimits) -> Pushed {
        if let Some(notice) = self.open_notice(&missing.room) {
            notice.extend(&missing);
            return Pushed::Queued;
        }
        // Notices may go beyond the limit, as far again as it reaches.
        if self.pushed_bytes > limits.max_outbox_bytes.saturating_mul(2) {
            return Pushed::Overflow;
        }
        self.pushed_bytes += Self::GAP_BYTES;
        if self.first.is_none() {
            self.first = Some(Piece::Gap(Box::new(missing)));
        } else {
            self.rest.get_or_insert_default().push_notice(missing);
        }
        Pushed::Queued
    }

    fn open_notice(&mut self, room: &RoomName) -> Option<&mut Gap> {
        let Some(rest) = &mut self.rest else { return Self::notice_of(&mut self.first, room) };
        if rest.open_notice(room).is_some() {
            // Looked up again, because a borrow that is returned on one path only lasts on both.
            return rest.open_notice(room);
        }
        if rest.is_open() { Self::notice_of(&mut self.first, room) } else { None }
    }

    fn notice_of<'a>(piece: &'a mut Option<Piece>, room: &RoomName) -> Option<&'a mut Gap> {
        match piece {
            Some(Piece::Gap(gap)) if gap.room == *room => Some(gap),
            _ => None,
        }
    }

    /// Drops waiting room messages, the oldest first, until `length` more bytes fit. The first piece stays, because part of
    /// it may have been written.
    fn drop_oldest(&mut self, length: usize, limits: HubLimits) {
        let Some(rest) = &mut self.rest else { return };
        while self.pushed_bytes + length > limits.max_outbox_bytes {
            let Some((freed, taken)) = rest.pass_oldest() else { return };
            self.pushed_bytes = self.pushed_bytes - freed + taken;
        }
    }
}

#[cfg(test)]
mod tests;
