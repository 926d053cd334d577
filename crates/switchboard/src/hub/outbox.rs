//! What waits to be written to one connection.
//!
//! Bounded in bytes. Order is kept: what is written is exactly what was queued, in that order, unless a named policy
//! dropped room messages, and then a notice says so in their place.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use switchboard_proto::call::{self, Content};
use switchboard_proto::id::RoomName;
use switchboard_proto::wire::WireFormat;

use super::mail::Delivery;
use super::{HubLimits, SlowConsumer};

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
    #[allow(clippy::box_collection, reason = "8 bytes in every idle connection instead of 32")]
    rest: Option<Box<VecDeque<Piece>>>,
    /// Bytes of `first` that were written.
    written: usize,
    /// Bytes that the client asked for.
    own_bytes: usize,
    /// Bytes that it did not ask for.
    pushed_bytes: usize,
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
            self.rest.get_or_insert_default().push_back(piece);
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
        self.first = self.rest.as_mut().and_then(|rest| rest.pop_front());
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
            self.rest = None;
        }
    }

    fn last_mut(&mut self) -> Option<&mut Piece> {
        match &mut self.rest {
            Some(rest) => rest.back_mut(),
            None => self.first.as_mut(),
        }
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.first.iter().chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    /// Notes what is not queued. There is at most one notice per room behind the last room message.
    fn note_gap(&mut self, missing: Gap, limits: HubLimits) -> Pushed {
        let tail = self.rest.iter_mut().flat_map(|rest| rest.iter_mut().rev()).chain(self.first.iter_mut());
        for piece in tail {
            match piece {
                Piece::Gap(gap) if gap.room == missing.room => {
                    gap.extend(&missing);
                    return Pushed::Queued;
                }
                Piece::Gap(_) | Piece::Own(_) | Piece::Direct(_) => {}
                // A message of another room does not disturb this one's order, but the search has to end somewhere.
                Piece::Room(_) | Piece::Content(_) => break,
            }
        }
        // Notices may go beyond the limit, as far again as it reaches.
        if self.pushed_bytes > limits.max_outbox_bytes.saturating_mul(2) {
            return Pushed::Overflow;
        }
        self.pushed_bytes += Self::GAP_BYTES;
        self.push(Piece::Gap(Box::new(missing)));
        Pushed::Queued
    }

    /// Drops waiting room messages, the oldest first, until `length` more bytes fit. What has begun to be written stays.
    fn drop_oldest(&mut self, length: usize, limits: HubLimits) {
        let Some(rest) = &mut self.rest else { return };
        let mut kept: VecDeque<Piece> = VecDeque::with_capacity(rest.len());
        for piece in rest.drain(..) {
            match piece {
                Piece::Room(chunk) if self.pushed_bytes + length > limits.max_outbox_bytes => {
                    self.pushed_bytes -= chunk.bytes.len();
                    let gap = kept.iter_mut().rev().find_map(|piece| match piece {
                        Piece::Gap(gap) if gap.room == chunk.room => Some(gap),
                        _ => None,
                    });
                    match gap {
                        Some(gap) => gap.extend(&Gap::of(&chunk)),
                        None => {
                            self.pushed_bytes += Self::GAP_BYTES;
                            kept.push_back(Piece::Gap(Box::new(Gap::of(&chunk))));
                        }
                    }
                }
                piece => kept.push_back(piece),
            }
        }
        **rest = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::mail::Delivery;
    use switchboard_proto::event::{RoomMessage, Sender};
    use switchboard_proto::json::RawJson;
    use switchboard_proto::wire::Encoded;

    const FORMAT: WireFormat = WireFormat::ActionHeroLine;

    fn whole(bytes: Vec<u8>) -> call::Piece {
        call::Piece { consumed: bytes.len() as u64, bytes }
    }

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    fn chunk(name: &str, number: u64) -> Rc<Chunk> {
        let message = RoomMessage {
            room: room(name),
            number,
            sender: Sender::Server,
            body: RawJson::from_text(&"x".repeat(200)),
            sent_at: 0,
            epoch: 0,
            user: None,
            extra: None,
        };
        let delivery = Delivery { message: Arc::new(Encoded::new(message)), origin: None, echo: false };
        Rc::new(Chunk::join(&room(name), &[&delivery], FORMAT))
    }

    fn limits(messages: usize, slow_consumer: SlowConsumer) -> HubLimits {
        HubLimits { max_outbox_bytes: chunk("r", 1).bytes.len() * messages, slow_consumer }
    }

    /// Takes `step` bytes, then blocks, again and again.
    struct Narrow {
        taken: Vec<u8>,
        step: usize,
        ready: bool,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.ready = !self.ready;
            if !self.ready {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let length = bytes.len().min(self.step);
            self.taken.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let joined: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.write(&joined)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug)]
    struct Letters(u64);

    impl Content for Letters {
        fn length(&self) -> u64 {
            self.0
        }

        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            unreachable!("the test brings the pieces itself")
        }
    }

    fn written(outbox: &mut Outbox) -> String {
        let mut out = Vec::new();
        assert!(matches!(outbox.write_to(&mut out, FORMAT), Ok(Progress::Empty)));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_was_queued_is_written_in_order_however_narrow_the_socket() {
        for step in [1, 2, 3, 7, 100] {
            let mut outbox = Outbox::default();
            let roomy = limits(1000, SlowConsumer::Close);
            outbox.push_own(b"first ");
            outbox.push_own(b"second ");
            outbox.push_room(chunk("r", 1), roomy);
            outbox.push_direct(b"direct ", roomy);
            outbox.push_content(Arc::new(Letters(5)));
            outbox.push_own(b"last");
            assert!(outbox.has_content());
            let mut narrow = Narrow { taken: Vec::new(), step, ready: false };
            let mut pieces = vec![b"DE".to_vec(), b"ABC".to_vec()];
            loop {
                match outbox.write_to(&mut narrow, FORMAT).unwrap() {
                    Progress::Empty => break,
                    Progress::Blocked => {}
                    Progress::Waiting => panic!("the piece was brought at once"),
                    Progress::Wanted { offset, .. } => {
                        assert_eq!(offset, if pieces.len() == 2 { 0 } else { 3 });
                        assert!(outbox.fill(whole(pieces.pop().unwrap())));
                    }
                }
            }
            assert!(!outbox.has_content());
            let room = String::from_utf8(chunk("r", 1).bytes.to_vec()).unwrap();
            assert_eq!(String::from_utf8(narrow.taken).unwrap(), format!("first second {room}direct ABCDElast"));
            assert_eq!((outbox.own_bytes, outbox.pushed_bytes, outbox.written), (0, 0, 0));
        }
    }

    #[test]
    fn an_abandoned_outbox_keeps_only_what_has_begun() {
        let roomy = limits(1000, SlowConsumer::Close);
        let whole_chunk = String::from_utf8(chunk("r", 1).bytes.to_vec()).unwrap();
        for (step, expected) in [(0, "the end".to_owned()), (3, format!("{whole_chunk}the end"))] {
            let mut outbox = Outbox::default();
            for number in 1..4 {
                outbox.push_room(chunk("r", number), roomy);
            }
            let mut narrow = Narrow { taken: Vec::new(), step: step.max(1), ready: step == 0 };
            assert!(matches!(outbox.write_to(&mut narrow, FORMAT), Ok(Progress::Blocked)));
            outbox.abandon();
            outbox.push_own(b"the end");
            let begun = String::from_utf8(narrow.taken).unwrap();
            assert_eq!(begun + &written(&mut outbox), expected);
            assert_eq!((outbox.own_bytes, outbox.pushed_bytes, outbox.written), (0, 0, 0));
        }
    }

    #[test]
    fn what_never_came_is_told_once_and_within_the_limit() {
        let two = limits(2, SlowConsumer::Close);
        let mut outbox = Outbox::default();
        outbox.push_room(chunk("r", 1), two);
        for missing in [2..4, 4..6] {
            assert_eq!(outbox.push_gap(&room("r"), missing.start, Some(missing.end - 1), two), Pushed::Queued);
        }
        assert_eq!(outbox.push_gap(&room("s"), 7, None, two), Pushed::Queued);
        let text = written(&mut outbox);
        assert!(text.contains(r#"{"gap":{"first":2,"last":5},"room":"r","context":"api"}"#), "{text}");
        assert!(
            text.ends_with("{\"gap\":{\"first\":7,\"last\":null},\"room\":\"s\",\"context\":\"api\"}\r\n"),
            "{text}"
        );
        let mut rooms = (0..).map(|index| outbox.push_gap(&room(&format!("r{index}")), 1, None, two));
        assert!(rooms.by_ref().take(100).any(|pushed| pushed == Pushed::Overflow));
    }

    #[test]
    fn an_abandoned_content_ends_with_the_piece_that_has_begun() {
        // So much of the first piece was written.
        for (count, expected) in [(0, "the end"), (1, "ABCthe end"), (3, "ABCthe end")] {
            let mut outbox = Outbox::default();
            outbox.push_content(Arc::new(Letters(5)));
            outbox.push_own(b"dropped");
            assert!(matches!(outbox.write_to(&mut Vec::new(), FORMAT), Ok(Progress::Wanted { .. })));
            assert!(outbox.fill(whole(b"ABC".to_vec())));
            let mut narrow = Narrow { taken: Vec::new(), step: count.max(1), ready: count == 0 };
            assert_eq!(matches!(outbox.write_to(&mut narrow, FORMAT), Ok(Progress::Blocked)), count < 3);
            outbox.abandon();
            outbox.push_own(b"the end");
            let begun = String::from_utf8(narrow.taken).unwrap();
            assert_eq!(begun + &written(&mut outbox), expected);
            assert_eq!((outbox.own_bytes, outbox.pushed_bytes, outbox.written), (0, 0, 0));
        }
    }

    #[test]
    fn content_that_ends_early_is_told() {
        let mut outbox = Outbox::default();
        outbox.push_content(Arc::new(Letters(5)));
        assert!(matches!(outbox.write_to(&mut Vec::new(), FORMAT), Ok(Progress::Wanted { .. })));
        assert!(matches!(outbox.write_to(&mut Vec::new(), FORMAT), Ok(Progress::Waiting)));
        assert!(!outbox.fill(whole(Vec::new())));
    }

    #[test]
    fn fault_row_24_what_was_not_asked_for_overflows_at_the_limit_and_answers_do_not_count() {
        let mut outbox = Outbox::default();
        let limits = limits(2, SlowConsumer::Close);
        outbox.push_own(&[b'x'; 10_000]);
        assert_eq!(outbox.push_room(chunk("r", 1), limits), Pushed::Queued);
        assert_eq!(outbox.push_room(chunk("r", 2), limits), Pushed::Queued);
        assert_eq!(outbox.push_room(chunk("r", 3), limits), Pushed::Overflow);
        assert_eq!(outbox.push_direct(b"x", limits), Pushed::Overflow);
    }

    fn numbers(text: &str) -> Vec<String> {
        text.lines()
            .map(|line| match line.strip_prefix("{\"gap\":{\"first\":") {
                Some(gap) => format!("gap {}", gap.replace(",\"last\":", "-").split('}').next().unwrap()),
                None => line.split("\"room\":").nth(1).unwrap()[1..2].to_owned(),
            })
            .collect()
    }

    #[test]
    fn dropping_the_newest_tells_one_gap_per_room_at_the_end() {
        let mut outbox = Outbox::default();
        let limits = limits(2, SlowConsumer::DropNewest);
        for number in 1..=5 {
            assert_eq!(outbox.push_room(chunk("r", number), limits), Pushed::Queued);
            assert_eq!(outbox.push_room(chunk("s", number), limits), Pushed::Queued);
        }
        assert_eq!(numbers(&written(&mut outbox)), ["r", "s", "gap 2-5", "gap 2-5"]);
        assert_eq!(outbox.pushed_bytes, 0);
    }

    #[test]
    fn dropping_the_oldest_tells_the_gap_where_they_were() {
        let mut outbox = Outbox::default();
        let limits = limits(4, SlowConsumer::DropOldest);
        for number in 1..=6 {
            assert_eq!(outbox.push_room(chunk("r", number), limits), Pushed::Queued);
        }
        // The first may be half written, so it stays; the notice takes room as well.
        assert_eq!(numbers(&written(&mut outbox)), ["r", "gap 2-4", "r", "r"]);
        assert_eq!(outbox.pushed_bytes, 0);
    }

    #[test]
    fn an_empty_outbox_is_small() {
        assert!(size_of::<Piece>() <= 24, "{}", size_of::<Piece>());
        assert!(size_of::<Outbox>() <= 56, "{}", size_of::<Outbox>());
    }
}
