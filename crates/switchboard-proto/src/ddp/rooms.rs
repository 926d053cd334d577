//! Ids of rooms: the name, with `%` as `%25` and `/` as `%2F`, because a slash separates a room from an event. The room of
//! two users is `%d`, one of their ids, `%` and the other.
//!
//! Every room has one id, and no two have the same.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::id::RoomName;
use crate::user::User;

/// What the id of two users' room begins with: no name leads there.
const DIRECT: &str = "%d";

/// What may follow a `%` that is none of a separator: `%`, `/`, and a first digit that would make a separator look like
/// one of these.
const ESCAPES: [(&str, char); 4] = [("25", '%'), ("2F", '/'), ("32", '2'), ("33", '3')];

/// The id of a room.
pub(super) fn id_of(room: &RoomName) -> Cow<'_, str> {
    let Some((one, other)) = room.direct_users() else { return escaped(room.as_str()) };
    let mut id = format!("{DIRECT}{}%", escaped(one));
    let other = match ESCAPES.iter().find(|(code, _)| other.starts_with(code)) {
        Some(_) => {
            let (first, rest) = other.split_at(1);
            // Both are digits of one byte, and writing to a text cannot fail.
            let _ = write!(id, "%{:02X}", first.as_bytes()[0]);
            rest
        }
        None => other,
    };
    id.push_str(&escaped(other));
    Cow::Owned(id)
}

/// The room of an id; `None` where no room can have it.
pub(super) fn parse_id(id: &str) -> Option<RoomName> {
    let room = match id.strip_prefix(DIRECT) {
        Some(users) => {
            let (one, rest) = unescape(users);
            let (other, rest) = unescape(rest.strip_prefix('%')?);
            if !rest.is_empty() || User::new(&one).is_err() || User::new(&other).is_err() {
                return None;
            }
            RoomName::direct(&one, &other)
        }
        None => {
            let (name, rest) = unescape(id);
            if !rest.is_empty() {
                return None;
            }
            RoomName::parse(&name).ok()?
        }
    };
    // What is written in another way than ours is nobody's id.
    (id_of(&room) == id).then_some(room)
}

fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '/']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('%', "%25").replace('/', "%2F"))
}

/// The text up to the first `%` that begins no escape, and the rest from there on.
fn unescape(text: &str) -> (String, &str) {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((clean, behind)) = rest.split_once('%') {
        plain.push_str(clean);
        let Some((_, letter)) = ESCAPES.iter().find(|(code, _)| behind.starts_with(code)) else {
            return (plain, &rest[clean.len()..]);
        };
        plain.push(*letter);
        rest = &behind[2..];
    }
    plain.push_str(rest);
    (plain, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(name: &str) -> String {
        id_of(&RoomName::parse(name).unwrap()).into_owned()
    }

    fn direct(one: &str, other: &str) -> String {
        id_of(&RoomName::direct(one, other)).into_owned()
    }

    #[test]
    fn names_keep_their_text_but_for_percent_and_slash() {
        assert_eq!(id("general"), "general");
        assert_eq!(id("a/b%c"), "a%2Fb%25c");
        assert_eq!(id("%du1%u2"), "%25du1%25u2");
        assert_eq!(parse_id("a%2Fb%25c").unwrap().as_str(), "a/b%c");
    }

    #[test]
    fn the_room_of_two_users_has_both_ids_sorted() {
        assert_eq!(direct("u2", "u1"), "%du1%u2");
        assert_eq!(direct("a", "b%c"), "%da%b%25c");
        assert_eq!(direct("a", "25"), "%d25%a");
        // Each of these would otherwise be the room of two others.
        assert_eq!(direct("1", "25Y%Z"), "%d1%%325Y%25Z");
        assert_eq!(direct("1%Y", "25Z"), "%d1%25Y%%325Z");
    }

    #[test]
    fn what_is_written_otherwise_is_no_id() {
        for bad in [
            "", "%", "a%", "a%2fb", "a/b", "%32", "%d", "%da", "%da%", "%d%a", "%db%a", "%da%b%c", "%da%b/c", "a\u{1}b",
        ] {
            assert_eq!(parse_id(bad), None, "{bad:?}");
        }
    }

    /// Texts in which what must be escaped is common.
    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![Just("%"), Just("/"), Just("2"), Just("5"), Just("F"), Just("3"), Just("d"), Just("é")],
            1..6,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn every_name_comes_back_from_its_id(name in text()) {
            let room = RoomName::parse(&name).unwrap();
            prop_assert!(!id_of(&room).contains('/'));
            prop_assert_eq!(parse_id(&id_of(&room)), Some(room));
        }

        #[test]
        fn every_pair_of_users_comes_back_from_its_id(one in text(), other in text()) {
            let (one, other) = (one.replace('/', "-"), other.replace('/', "-"));
            let room = RoomName::direct(&one, &other);
            prop_assert_eq!(parse_id(&id_of(&room)), Some(room));
        }

        #[test]
        fn whatever_is_read_as_an_id_is_written_so(id in prop_oneof![any::<String>(), text()]) {
            if let Some(room) = parse_id(&id) {
                prop_assert_eq!(id_of(&room), id);
            }
        }
    }
}
