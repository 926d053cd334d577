//! An outbox writes every piece that was queued, or a notice of those that are missing.

use super::*;
use crate::hub::mail::Delivery;
use crate::visits::{assert_no_growth, visits_of};
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
    assert!(text.ends_with("{\"gap\":{\"first\":7,\"last\":null},\"room\":\"s\",\"context\":\"api\"}\r\n"), "{text}");
    let mut rooms = (0..).map(|index| outbox.push_gap(&room(&format!("r{index}")), 1, None, two));
    assert!(rooms.by_ref().take(100).any(|pushed| pushed == Pushed::Overflow));
}

#[test]
fn an_abandoned_content_ends_with_the_piece_that_has_begun() {
    // `count` bytes of the first piece were written.
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

/// An outbox as a list that is searched and rebuilt at every step. Nothing is written in between.
#[derive(Default)]
struct Naive {
    pieces: Vec<NaivePiece>,
    pushed_bytes: usize,
}

enum NaivePiece {
    Own,
    Room(usize, u64),
    Gap(usize, u64, u64),
}

const NAMES: [&str; 3] = ["r", "s", "t"];

impl Naive {
    fn push_room(&mut self, room: usize, number: u64, limits: HubLimits) -> Pushed {
        let length = chunk(NAMES[room], number).bytes.len();
        if self.pushed_bytes + length > limits.max_outbox_bytes {
            if limits.slow_consumer == SlowConsumer::DropOldest {
                self.drop_oldest(length, limits);
            }
            if self.pushed_bytes + length > limits.max_outbox_bytes {
                return self.note_gap(room, number, limits);
            }
        }
        self.pushed_bytes += length;
        self.pieces.push(NaivePiece::Room(room, number));
        Pushed::Queued
    }

    fn drop_oldest(&mut self, length: usize, limits: HubLimits) {
        let mut kept: Vec<NaivePiece> = Vec::new();
        for (index, piece) in std::mem::take(&mut self.pieces).into_iter().enumerate() {
            match piece {
                NaivePiece::Room(room, number) if index > 0 && self.pushed_bytes + length > limits.max_outbox_bytes => {
                    self.pushed_bytes -= chunk(NAMES[room], number).bytes.len();
                    let passed = kept.iter_mut().skip(1).rev();
                    let mut gaps = passed.filter_map(|piece| match piece {
                        NaivePiece::Gap(other, _, last) if *other == room => Some(last),
                        _ => None,
                    });
                    if let Some(last) = gaps.next() {
                        *last = number;
                        continue;
                    }
                    drop(gaps);
                    self.pushed_bytes += Outbox::GAP_BYTES;
                    kept.push(NaivePiece::Gap(room, number, number));
                }
                piece => kept.push(piece),
            }
        }
        self.pieces = kept;
    }

    fn note_gap(&mut self, room: usize, number: u64, limits: HubLimits) -> Pushed {
        for piece in self.pieces.iter_mut().rev() {
            match piece {
                NaivePiece::Gap(other, _, last) if *other == room => {
                    *last = number;
                    return Pushed::Queued;
                }
                NaivePiece::Room(..) => break,
                NaivePiece::Gap(..) | NaivePiece::Own => {}
            }
        }
        if self.pushed_bytes > limits.max_outbox_bytes * 2 {
            return Pushed::Overflow;
        }
        self.pushed_bytes += Outbox::GAP_BYTES;
        self.pieces.push(NaivePiece::Gap(room, number, number));
        Pushed::Queued
    }

    fn written(&self) -> Vec<String> {
        let word = |piece: &NaivePiece| match piece {
            NaivePiece::Own => "own".to_owned(),
            NaivePiece::Room(room, _) => NAMES[*room].to_owned(),
            NaivePiece::Gap(_, first, last) => format!("gap {first}-{last}"),
        };
        self.pieces.iter().map(word).collect()
    }
}

proptest::proptest! {
    #[test]
    fn what_is_dropped_and_told_is_what_a_list_that_is_searched_would_drop_and_tell(
        steps in proptest::collection::vec((0..4_usize, 0..3_usize), 0..80),
        messages in 1..6_usize,
        is_oldest in proptest::bool::ANY,
    ) {
        let limits = limits(messages, if is_oldest { SlowConsumer::DropOldest } else { SlowConsumer::DropNewest });
        let (mut outbox, mut naive) = (Outbox::default(), Naive::default());
        for (number, (step, at)) in (1..).zip(steps) {
            match step {
                0 => {
                    outbox.push_own(b"{\"own\":0,\"room\":\"own\"}\n");
                    naive.pieces.push(NaivePiece::Own);
                }
                1 => proptest::prop_assert_eq!(
                    outbox.push_gap(&room(NAMES[at]), number, Some(number), limits),
                    naive.note_gap(at, number, limits)
                ),
                _ => proptest::prop_assert_eq!(
                    outbox.push_room(chunk(NAMES[at], number), limits),
                    naive.push_room(at, number, limits)
                ),
            }
            proptest::prop_assert_eq!(outbox.pushed_bytes, naive.pushed_bytes);
        }
        let text = written(&mut outbox);
        let words = text.lines().map(|line| if line.contains("own") { "own".to_owned() } else { numbers(line).remove(0) });
        proptest::prop_assert_eq!(words.collect::<Vec<_>>(), naive.written());
        proptest::prop_assert_eq!((outbox.own_bytes, outbox.pushed_bytes), (0, 0));
    }
}

/// Visits of a thousand pushes into an outbox that is full of `waiting` messages of as many rooms.
fn visits_at_the_limit(waiting: usize, slow_consumer: SlowConsumer) -> u64 {
    let mut outbox = Outbox::default();
    let limits = limits(waiting, slow_consumer);
    let names: Vec<_> = (0..waiting / 20).map(|index| format!("r{}", 100_000 + index)).collect();
    let chunks: Vec<_> = names.iter().map(|name| chunk(name, 1)).collect();
    let mut push = |count: usize| {
        for chunk in chunks.iter().cycle().take(count) {
            assert_eq!(outbox.push_room(Rc::clone(chunk), limits), Pushed::Queued);
        }
    };
    push(waiting * 2);
    visits_of(|| push(1000))
}

#[test]
fn pushing_at_the_limit_costs_the_same_however_much_waits() {
    for slow_consumer in [SlowConsumer::DropOldest, SlowConsumer::DropNewest] {
        let [few, many] = [1000, 20_000].map(|waiting| visits_at_the_limit(waiting, slow_consumer));
        assert_no_growth(few, many);
    }
}

#[test]
fn an_empty_outbox_is_small() {
    assert!(size_of::<Piece>() <= 24, "{}", size_of::<Piece>());
    assert!(size_of::<Outbox>() <= 56, "{}", size_of::<Outbox>());
}
