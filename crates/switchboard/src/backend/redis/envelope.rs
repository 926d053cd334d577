//! A room message as it is kept in Redis and travels between nodes.
//!
//! What the sender's node writes is the *envelope*. The script that numbers it puts a *head* before it: epoch and number as text, and
//! the mark of the message before, by which nodes see that nothing was lost in between. Both are read as anything that comes from
//! outside: whatever is not as it must be is refused.

use switchboard_proto::event::{MessageExtra, RoomMessage, Sender};
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::json::RawJson;
use switchboard_proto::user::User;

use crate::backend::Draft;
use crate::hub::mail::{Address, ConnKey};

use super::feed::{Mark, Place};

/// How envelopes are written. Those of other versions are refused.
const VERSION: u8 = 1;

const ECHO: u8 = 1;
const ORIGIN: u8 = 1 << 1;
const USER: u8 = 1 << 2;
const ID: u8 = 1 << 3;
const ATTACHMENT: u8 = 1 << 4;
/// Above these bits: which kind of sender it is.
const SENDER: u8 = 5;

/// A message that has its number.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    pub(super) place: Place,
    /// The mark of the message before it; none: it is the first.
    pub(super) before: Option<Mark>,
    /// Its own.
    pub(super) mark: Mark,
    pub(super) message: RoomMessage,
    /// The connection that said it, if it is one of this node.
    pub(super) origin: Option<Address>,
    pub(super) echo: bool,
}

/// Writes the envelope of a message. `incarnation` is which life of which node its connection belongs to.
pub(super) fn write(draft: &Draft, mark: Mark, incarnation: u64) -> Vec<u8> {
    let extra = draft.extra.as_deref();
    let id = extra.and_then(|extra| extra.id.as_deref());
    let attachment = extra.and_then(|extra| extra.attachment.as_ref());
    let has = |flag: u8, it: bool| if it { flag } else { 0 };
    let sender = match draft.sender {
        Sender::Server => 0,
        Sender::Connection(_) => 1,
        Sender::Named(_) => 2,
    };
    let flags = has(ECHO, draft.echo)
        | has(ORIGIN, draft.origin.is_some())
        | has(USER, draft.user.is_some())
        | has(ID, id.is_some())
        | has(ATTACHMENT, attachment.is_some())
        | sender << SENDER;
    let texts = draft.body.as_str().len() + attachment.map_or(0, |json| json.as_str().len());
    let mut out = Vec::with_capacity(96 + texts);
    out.push(VERSION);
    out.extend(mark.0.to_be_bytes());
    out.push(flags);
    out.extend(draft.sent_at.to_be_bytes());
    if let Some(Address { worker, key }) = draft.origin {
        out.extend(incarnation.to_be_bytes());
        out.extend(worker.to_be_bytes());
        out.extend(key.slot.to_be_bytes());
        out.extend(key.generation.to_be_bytes());
    }
    match &draft.sender {
        Sender::Server => {}
        Sender::Connection(id) => out.extend(id.to_bytes()),
        Sender::Named(name) => write_text(&mut out, name),
    }
    if let Some(user) = &draft.user {
        write_text(&mut out, user.id());
        write_text(&mut out, user.name());
    }
    if let Some(id) = id {
        write_text(&mut out, id);
    }
    if let Some(attachment) = attachment {
        write_text(&mut out, attachment.as_str());
    }
    out.extend(draft.body.as_str().as_bytes());
    out
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    // Nothing that is said is as long as four GiB.
    out.extend((text.len() as u32).to_be_bytes());
    out.extend(text.as_bytes());
}

/// Reads what was published, or kept in the log: head and envelope. `None`: nobody of us wrote it.
pub(super) fn read(payload: &[u8], room: &RoomName, incarnation: u64) -> Option<Numbered> {
    let (place, rest) = read_place(payload)?;
    read_behind(rest, place, room, incarnation)
}

/// Reads what follows the place, and is all that the log has besides: the mark before, and the envelope.
pub(super) fn read_behind(bytes: &[u8], place: Place, room: &RoomName, incarnation: u64) -> Option<Numbered> {
    let (before, envelope) = bytes.split_first_chunk()?;
    let before = Some(Mark(u64::from_be_bytes(*before))).filter(|mark| mark.0 != 0);
    read_envelope(envelope, place, before, room, incarnation)
}

/// Reads an envelope without a head.
pub(super) fn read_envelope(
    envelope: &[u8],
    place: Place,
    before: Option<Mark>,
    room: &RoomName,
    incarnation: u64,
) -> Option<Numbered> {
    let mut rest = Reader(envelope);
    if rest.array()? != [VERSION] {
        return None;
    }
    let mark = Mark(u64::from_be_bytes(rest.array()?));
    let [flags] = rest.array()?;
    let sent_at = u64::from_be_bytes(rest.array()?);
    let origin = if flags & ORIGIN == 0 { None } else { rest.origin(incarnation)? };
    let sender = match flags >> SENDER {
        0 => Sender::Server,
        1 => Sender::Connection(ConnId::from_bytes(rest.array()?)),
        2 => Sender::Named(rest.text()?.into()),
        _ => return None,
    };
    let user = if flags & USER == 0 { None } else { Some(User::named(rest.text()?, rest.text()?).ok()?) };
    let id = if flags & ID == 0 { None } else { Some(rest.text()?.into()) };
    let attachment = if flags & ATTACHMENT == 0 { None } else { Some(rest.object()?) };
    let body = RawJson::from_stored(std::str::from_utf8(rest.0).ok()?)?;
    let extra = (id.is_some() || attachment.is_some()).then(|| Box::new(MessageExtra { id, attachment }));
    let Place { epoch, number } = place;
    let message = RoomMessage { room: room.clone(), number, sender, body, sent_at, epoch, user, extra };
    Some(Numbered { place, before, mark, message, origin, echo: flags & ECHO != 0 })
}

/// The head of a message whose number the store gave, for whoever publishes it without the store.
pub(super) fn write_head(place: Place, before: &[u8; 8], envelope: &[u8]) -> Vec<u8> {
    let mut payload = format!("{}-{}\n", place.epoch, place.number).into_bytes();
    payload.extend(before);
    payload.extend(envelope);
    payload
}

/// Reads epoch and number up to the line break, and what follows it.
pub(super) fn read_place(bytes: &[u8]) -> Option<(Place, &[u8])> {
    let end = memchr::memchr(b'\n', bytes.get(..bytes.len().min(42))?)?;
    Some((parse_place(std::str::from_utf8(&bytes[..end]).ok()?)?, &bytes[end + 1..]))
}

/// Reads epoch and number with a hyphen in between, as the ids of the log have them.
pub(super) fn parse_place(text: &str) -> Option<Place> {
    let (epoch, number) = text.split_once('-')?;
    // Not all that Rust takes for a number was written by the script.
    let parse = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
    Some(Place { epoch: parse(epoch)?, number: parse(number)? }).filter(|place| place.number > 0)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn object(&mut self) -> Option<RawJson> {
        RawJson::from_stored(self.text()?).filter(|json| json.as_str().starts_with('{'))
    }

    /// The inner `None`: it is not of this node, in this life.
    fn origin(&mut self, incarnation: u64) -> Option<Option<Address>> {
        let of = u64::from_be_bytes(self.array()?);
        let worker = u16::from_be_bytes(self.array()?);
        let slot = u32::from_be_bytes(self.array()?);
        let generation = u32::from_be_bytes(self.array()?);
        Some((of == incarnation).then_some(Address { worker, key: ConnKey { slot, generation } }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn room() -> RoomName {
        RoomName::parse("lobby").unwrap()
    }

    fn drafts() -> impl Strategy<Value = Draft> {
        let sender = prop_oneof![
            Just(Sender::Server),
            any::<[u8; 16]>().prop_map(|bytes| Sender::Connection(ConnId::from_bytes(bytes))),
            ".{0,20}".prop_map(|name| Sender::Named(name.into())),
        ];
        let address = (any::<u16>(), any::<u32>(), any::<u32>())
            .prop_map(|(worker, slot, generation)| Address { worker, key: ConnKey { slot, generation } });
        let user = proptest::option::of("[a-z]{1,9}".prop_map(|id| User::named(&id, "Ä b").unwrap()));
        let attachment = proptest::option::of(Just(RawJson::from_parsed(r#"{"msg":"x","a":[1,2]}"#)));
        let extra = (proptest::option::of(".{0,20}"), attachment).prop_map(|(id, attachment)| {
            (id.is_some() || attachment.is_some())
                .then(|| Box::new(MessageExtra { id: id.map(Into::into), attachment }))
        });
        let rest = (any::<u64>(), proptest::option::of(address), any::<bool>());
        (sender, ".*", rest, user, extra).prop_map(|(sender, body, (sent_at, origin, echo), user, extra)| Draft {
            room: room(),
            sender,
            body: RawJson::from_text(&body),
            sent_at,
            origin,
            echo,
            user,
            extra,
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_as_it_was(draft in drafts(), mark in any::<u64>(), number in 1_u64..) {
            let place = Place { epoch: 7, number };
            let payload = write_head(place, &5_u64.to_be_bytes(), &write(&draft, Mark(mark), 9));
            let read_back = read(&payload, &room(), 9).unwrap();
            prop_assert_eq!((read_back.place, read_back.mark, read_back.before), (place, Mark(mark), Some(Mark(5))));
            prop_assert_eq!((read_back.origin, read_back.echo), (draft.origin, draft.echo));
            let message = read_back.message;
            prop_assert_eq!((message.number, message.epoch, message.sent_at), (number, 7, draft.sent_at));
            prop_assert_eq!((message.sender, message.body), (draft.sender, draft.body));
            prop_assert_eq!((message.user, message.extra), (draft.user, draft.extra));
            prop_assert_eq!(read(&payload, &room(), 8).unwrap().origin, None, "of another life of the node");
        }

        #[test]
        fn fault_row_13_bytes_that_nobody_wrote_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(read) = read(&bytes, &room(), 1) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(read.message.body.as_str()).is_ok());
            }
        }

        #[test]
        fn fault_row_13_an_envelope_that_was_changed_on_its_way_does_no_harm(
            draft in drafts(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut payload = write_head(Place { epoch: 1, number: 2 }, &[0; 8], &write(&draft, Mark(3), 4));
            for (at, byte) in changes {
                let at = at.index(payload.len());
                payload[at] = byte;
            }
            for bytes in [&payload[..], &payload[..cut.index(payload.len())]] {
                if let Some(read) = read(bytes, &room(), 4) {
                    let body = read.message.body.as_str();
                    prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok() && !body.contains('\n'));
                }
            }
        }
    }

    #[test]
    fn fault_row_13_a_body_that_is_no_json_is_refused() {
        let place = Place { epoch: 1, number: 1 };
        let draft = Draft {
            room: room(),
            sender: Sender::Server,
            body: RawJson::from_text("x"),
            sent_at: 1,
            origin: None,
            echo: false,
            user: None,
            extra: None,
        };
        let envelope = write(&draft, Mark(1), 1);
        let head = &envelope[..envelope.len() - 3];
        let with = |body: &[u8]| read_envelope(&[head, body].concat(), place, None, &room(), 1).map(drop);
        assert_eq!(with(br#"{"a":[1]}"#), Some(()));
        for bad in [&b""[..], b"x", b"\"x", b"1 2", b"[1,\n2]", b"\"\xff\"", b"\"\n\""] {
            assert_eq!(with(bad), None, "{bad:?}");
        }
        for text in ["1", "1-", "-1", "1-0", "+1-1", "1-1-1", "18446744073709551616-1", "a-1"] {
            assert_eq!(parse_place(text), None, "{text}");
        }
    }
}
