//! What is written in Redis about a member, and about who may join.
//!
//! A row is text with tabs in between: its place in the order of joining, the node's number, which life of that node, when it
//! joined, and as JSON what others need to know when its node cannot tell them any more. A script takes the first three apart.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchboard_proto::call::{ConnectionType, Member};
use switchboard_proto::face::{ConnFacts, Fingerprint, Remote};
use switchboard_proto::id::ConnId;
use switchboard_proto::user::User;

use crate::backend::shared::Departed;
use crate::backend::{NewMember, Pattern};

/// The JSON of a row.
#[derive(Serialize, Deserialize)]
struct Facts<'a> {
    kind: &'a str,
    /// Without one it is a Unix socket, or nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    nowhere: bool,
    at: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    user: Option<[std::borrow::Cow<'a, str>; 2]>,
}

/// A row that could be read.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) order: u64,
    /// Number and life of its node, as [`owner`] writes them.
    pub(super) owner: &'a str,
    pub(super) joined_at: u64,
    facts: &'a str,
}

/// Whose a row is: the node's number and which life of it.
pub(super) fn owner(slot: u16, incarnation: u64) -> String {
    format!("{slot}\t{incarnation}")
}

/// A row without its place in the order of joining.
pub(super) fn tail(owner: &str, member: &NewMember) -> String {
    let NewMember { facts, user, joined_at, .. } = member;
    let (ip, port) = match facts.remote {
        Remote::Ip(ip, port) => (Some(ip), port),
        Remote::Unix | Remote::Nowhere => (None, 0),
    };
    let told = Facts {
        kind: facts.kind.as_str(),
        ip,
        port,
        nowhere: facts.remote == Remote::Nowhere,
        at: facts.connected_at,
        fingerprint: facts.fingerprint().map(Into::into),
        user: user.as_ref().map(|user| [user.id().into(), user.name().into()]),
    };
    // Such a struct can always be written.
    let told = serde_json::to_string(&told).unwrap_or_default();
    format!("{owner}\t{joined_at}\t{told}")
}

impl<'a> Row<'a> {
    /// Reads a row. What nobody wrote is none.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (order, rest) = text.split_once('\t')?;
        let mut tabs = rest.match_indices('\t').map(|(at, _)| at);
        let (_, owner_ends, joined_ends) = (tabs.next()?, tabs.next()?, tabs.next()?);
        let owner = &rest[..owner_ends];
        let (slot, incarnation) = owner.split_once('\t')?;
        (slot.parse::<u16>().ok()? > 0 && incarnation.parse::<u64>().is_ok()).then_some(())?;
        let joined_at = rest[owner_ends + 1..joined_ends].parse().ok()?;
        Some(Self { order: order.parse().ok()?, owner, joined_at, facts: &rest[joined_ends + 1..] })
    }

    pub(super) fn member(&self, id: ConnId) -> Member {
        Member { id, joined_at: self.joined_at }
    }

    /// Who it is. What was written by another version, and is not understood, is left out.
    pub(super) fn departed(&self, id: ConnId) -> Departed {
        let told: Option<Facts<'_>> = serde_json::from_str(self.facts).ok();
        let kind_of = |word: &str| ConnectionType::ALL.into_iter().find(|kind| kind.as_str() == word);
        let kind = told.as_ref().and_then(|told| kind_of(told.kind)).unwrap_or(ConnectionType::Socket);
        let remote = match &told {
            Some(Facts { ip: Some(ip), port, .. }) => Remote::Ip(*ip, *port),
            Some(Facts { nowhere: false, .. }) => Remote::Unix,
            _ => Remote::Nowhere,
        };
        let connected_at = told.as_ref().map_or(0, |told| told.at);
        let fingerprint = told.as_ref().and_then(|told| told.fingerprint.as_deref()).map(Fingerprint::from);
        let user = told.as_ref().and_then(|told| told.user.as_ref());
        let user = user.and_then(|[id, name]| User::named(id, name).ok());
        Departed { facts: ConnFacts { id, kind, remote, connected_at, fingerprint }, user }
    }
}

/// The name of a member's row.
pub(super) fn name(id: ConnId) -> String {
    format!("{:032x}", u128::from_be_bytes(id.to_bytes()))
}

/// Whose row it is by its name.
pub(super) fn id(name: &str) -> Option<ConnId> {
    crate::hex::bytes(name).map(ConnId::from_bytes)
}

/// A pattern as text; empty: everybody.
pub(super) fn pattern_text(pattern: &Pattern) -> String {
    if pattern.0.is_empty() { String::new() } else { serde_json::json!(pattern.0).to_string() }
}

/// A pattern that was kept. What nobody wrote is none: nobody may join then.
pub(super) fn pattern(text: &str) -> Option<Pattern> {
    if text.is_empty() {
        return Some(Pattern::default());
    }
    let pairs: Vec<(String, Value)> = serde_json::from_str(text).ok()?;
    (!pairs.is_empty()).then_some(Pattern(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(remote: Remote, fingerprint: Option<&str>, user: Option<User>) -> NewMember {
        let facts = ConnFacts {
            id: ConnId::from_random(7),
            kind: ConnectionType::Ddp,
            remote,
            connected_at: 11,
            fingerprint: fingerprint.map(Fingerprint::from),
        };
        NewMember { facts, user, joined_at: 13, checked: 0 }
    }

    #[test]
    fn whoever_reads_a_row_knows_who_it_was() {
        let user = User::named("u\"1", "Ü\\ser").unwrap();
        for (remote, fingerprint, user) in [
            (Remote::Ip([127, 0, 0, 1].into(), 5000), Some("a\t\"b"), Some(user)),
            (Remote::Unix, None, None),
            (Remote::Nowhere, None, None),
        ] {
            let member = member(remote, fingerprint, user.clone());
            let text = format!("3\t{}", tail(&owner(2, u64::MAX), &member));
            let row = Row::parse(&text).unwrap();
            assert_eq!((row.order, row.owner, row.joined_at), (3, &*owner(2, u64::MAX), 13));
            let Departed { facts, user: read } = row.departed(member.facts.id);
            assert_eq!((facts.id, facts.kind, facts.remote), (member.facts.id, ConnectionType::Ddp, remote));
            assert_eq!((facts.connected_at, facts.fingerprint(), read), (11, fingerprint, user));
        }
    }

    #[test]
    fn fault_row_53_rows_that_nobody_wrote_are_none() {
        for bad in ["", "1", "1\t2\t3\t4", "x\t1\t1\t1\t{}", "1\t0\t1\t1\t{}", "1\t70000\t1\t1\t{}", "1\t1\tx\t1\t{}"] {
            assert!(Row::parse(bad).is_none(), "{bad:?}");
        }
        let strange = Row::parse("1\t2\t3\t4\t[]").unwrap().departed(ConnId::from_random(1));
        assert_eq!((strange.facts.remote, strange.facts.connected_at, strange.user), (Remote::Nowhere, 0, None));
        assert_eq!((id("7"), id(&"x".repeat(32))), (None, None));
        assert_eq!(id(&name(ConnId::from_random(9))), Some(ConnId::from_random(9)));
    }

    #[test]
    fn fault_row_53_a_pattern_that_nobody_wrote_lets_nobody_in() {
        for kept in [Pattern::new(), Pattern::new().with("a", 1).with("b", "x").with("c", true)] {
            assert_eq!(pattern(&pattern_text(&kept)), Some(kept));
        }
        for bad in ["[]", "{}", "x", "[[1,2]]", "[[\"a\"]]"] {
            assert_eq!(pattern(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn fault_row_13_no_text_makes_reading_a_row_panic(text in "(\\PC|\t){0,60}") {
            if let Some(row) = Row::parse(&text) {
                row.departed(ConnId::from_random(1));
            }
            pattern(&text);
            id(&text);
        }
    }
}
