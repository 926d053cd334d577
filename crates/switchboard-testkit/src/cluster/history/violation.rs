//! What a history has that it must not have.

use std::fmt;

use super::Name;

/// Something that must not have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// One number of a room is that of two messages (P1).
    NumberTwice {
        /// Where.
        room: Name,
        /// The number.
        number: u64,
        /// The messages' ids.
        ids: [u64; 2],
        /// Who heard which.
        clients: [u32; 2],
    },
    /// One message has two numbers (P1).
    Renumbered {
        /// Where.
        room: Name,
        /// The message's id.
        id: u64,
        /// Its numbers.
        numbers: [u64; 2],
        /// Who was told the second.
        client: u32,
    },
    /// A client heard an earlier number after a later one (P1).
    OutOfOrder {
        /// Who.
        client: u32,
        /// Where.
        room: Name,
        /// What it had heard or been told of before.
        before: u64,
        /// What came then.
        then: u64,
    },
    /// A client heard messages from before numbers began anew after messages from behind that (P1).
    OldEpoch {
        /// Who.
        client: u32,
        /// Where.
        room: Name,
        /// The first number of the older ones.
        first: u64,
    },
    /// A client missed messages and was not told (P2).
    SilentGap {
        /// Who.
        client: u32,
        /// Where.
        room: Name,
        /// The first number that is missing.
        first: u64,
        /// The last number that is missing.
        last: u64,
        /// How many in between were neither heard nor told of nor its own.
        missing: u64,
    },
    /// A client heard a message twice (P3).
    Duplicate {
        /// Who.
        client: u32,
        /// Where.
        room: Name,
        /// The message's id.
        id: u64,
    },
    /// A client that was there throughout neither heard an acknowledged message nor was told of a gap (P4).
    Lost {
        /// Who.
        client: u32,
        /// Where.
        room: Name,
        /// The message's id.
        id: u64,
        /// Its number, if anybody knows it.
        number: Option<u64>,
        /// Who said it.
        sender: u32,
    },
    /// A client heard a message of a room that it had not joined.
    Stray {
        /// Who.
        client: u32,
        /// Where.
        room: Name,
    },
    /// The leave of a member was not told as often as it left.
    Leaves {
        /// Where.
        room: Name,
        /// The id of its connection.
        member: Name,
        /// Whose connection.
        client: u32,
        /// How often it was told.
        told: usize,
        /// How often it left.
        left: usize,
    },
    /// The members that a node shows are not those that are there (P6).
    Presence {
        /// Where.
        room: Name,
        /// Who shows them.
        seen_by: Name,
        /// Members that are not shown.
        missing: Vec<Name>,
        /// Shown ones that are no members.
        extra: Vec<Name>,
    },
    /// The numbers of a session's events do not follow one another: two owners, a loss, or a repetition.
    SessionOrder {
        /// The session.
        session: Name,
        /// How often it had been taken before, when the earlier one came and when the later one did.
        generations: [u64; 2],
        /// The number before.
        before: u64,
        /// The number that came then.
        then: u64,
    },
    /// One event is in a session under two numbers.
    SessionDuplicate {
        /// The session.
        session: Name,
        /// The id under which it was published.
        id: u64,
        /// Its numbers.
        seqs: [u64; 2],
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NumberTwice { room, number, ids, clients } => write!(
                f,
                "room {room}: number {number} is message {} for client {} and message {} for client {}",
                ids[0], clients[0], ids[1], clients[1]
            ),
            Self::Renumbered { room, id, numbers, client } => {
                write!(
                    f,
                    "room {room}: message {id} has the number {}, and {} for client {client}",
                    numbers[0], numbers[1]
                )
            }
            Self::OutOfOrder { client, room, before, then } => {
                write!(f, "room {room}: client {client} heard number {then} after {before}")
            }
            Self::OldEpoch { client, room, first } => write!(
                f,
                "room {room}: client {client} heard number {first} and what follows after messages that others heard later"
            ),
            Self::SilentGap { client, room, first, last, missing } => write!(
                f,
                "room {room}: client {client} misses {missing} of the numbers {first} to {last} and was told of no gap"
            ),
            Self::Duplicate { client, room, id } => {
                write!(f, "room {room}: client {client} heard message {id} twice")
            }
            Self::Lost { client, room, id, number, sender } => {
                let number = number.map_or("without number".to_owned(), |number| format!("number {number}"));
                write!(
                    f,
                    "room {room}: client {client} never heard message {id} ({number}), which client {sender} was told is said"
                )
            }
            Self::Stray { client, room } => {
                write!(f, "room {room}: client {client} heard a message and had not joined")
            }
            Self::Leaves { room, member, client, told, left } => write!(
                f,
                "room {room}: the leave of member {member} (client {client}) was told {told} times, it left {left} times"
            ),
            Self::Presence { room, seen_by, missing, extra } => write!(
                f,
                "room {room}: {seen_by} does not show {} members {}, and shows {} that are none {}",
                missing.len(),
                few(missing),
                extra.len(),
                few(extra)
            ),
            Self::SessionOrder { session, generations, before, then } => write!(
                f,
                "session {session}: event {then} (generation {}) came after event {before} (generation {})",
                generations[1], generations[0]
            ),
            Self::SessionDuplicate { session, id, seqs } => {
                write!(f, "session {session}: what was published as {id} is event {} and event {}", seqs[0], seqs[1])
            }
        }
    }
}

/// Some names, for a person to look for.
fn few(names: &[Name]) -> String {
    let shown: Vec<&str> = names.iter().take(5).map(|name| &**name).collect();
    format!("({}{})", shown.join(", "), if names.len() > shown.len() { ", …" } else { "" })
}
