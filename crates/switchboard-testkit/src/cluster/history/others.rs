//! Leaves, presence, sessions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Entry, Event, Name, Violation};

/// A stay of a client in a room: where its entries are.
#[derive(Clone, Debug)]
pub(super) struct Stay {
    pub(super) client: u32,
    pub(super) member: Name,
    pub(super) joined: usize,
    pub(super) left: Option<usize>,
}

/// All stays by room, in the order of joining. Who joins again without having left has left then.
pub(super) fn stays(entries: &[Entry]) -> BTreeMap<Name, Vec<Stay>> {
    let mut stays: BTreeMap<Name, Vec<Stay>> = BTreeMap::new();
    let mut current: HashMap<(Name, u32), usize> = HashMap::new();
    for (at, entry) in entries.iter().enumerate() {
        match &entry.event {
            Event::Joined { client, room, member } => {
                let of_room = stays.entry(room.clone()).or_default();
                if let Some(before) = current.insert((room.clone(), *client), of_room.len()) {
                    of_room[before].left.get_or_insert(at);
                }
                of_room.push(Stay { client: *client, member: member.clone(), joined: at, left: None });
            }
            Event::Left { client, room } => {
                if let Some(stay) = current.get(&(room.clone(), *client)) {
                    stays.entry(room.clone()).or_default()[*stay].left.get_or_insert(at);
                }
            }
            _ => {}
        }
    }
    stays
}

pub(super) fn check_leaves(entries: &[Entry]) -> Vec<Violation> {
    let mut told: HashMap<(Name, Name), usize> = HashMap::new();
    for entry in entries {
        if let Event::LeaveTold { room, member } = &entry.event {
            *told.entry((room.clone(), member.clone())).or_default() += 1;
        }
    }
    let rooms: HashSet<Name> = told.keys().map(|(room, _)| room.clone()).collect();
    let mut violations = Vec::new();
    for (room, stays) in stays(entries).into_iter().filter(|(room, _)| rooms.contains(room)) {
        // A connection that joins, leaves and joins again is one member with several stays.
        let mut members: BTreeMap<Name, (u32, usize)> = BTreeMap::new();
        for stay in stays {
            members.entry(stay.member).or_insert((stay.client, 0)).1 += usize::from(stay.left.is_some());
        }
        for (member, (client, left)) in members {
            let told = told.get(&(room.clone(), member.clone())).copied().unwrap_or_default();
            if told != left {
                violations.push(Violation::Leaves { room: room.clone(), member, client, told, left });
            }
        }
    }
    violations
}

pub(super) fn check_presence(entries: &[Entry]) -> Vec<Violation> {
    let stays = stays(entries);
    let mut violations = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let Event::Presence { seen_by, room, members } = &entry.event else { continue };
        let is_in = |stay: &&Stay| stay.joined < at && stay.left.is_none_or(|left| left > at);
        let of_room = stays.get(room).map(Vec::as_slice).unwrap_or_default();
        let truth: BTreeSet<&Name> = of_room.iter().filter(is_in).map(|stay| &stay.member).collect();
        let shown: BTreeSet<&Name> = members.iter().collect();
        let [missing, extra]: [Vec<Name>; 2] = [
            truth.difference(&shown).copied().cloned().collect(),
            shown.difference(&truth).copied().cloned().collect(),
        ];
        if !missing.is_empty() || !extra.is_empty() {
            violations.push(Violation::Presence { room: room.clone(), seen_by: seen_by.clone(), missing, extra });
        }
    }
    violations
}

/// Threads of two owners write down what came in any order, but what one heard is in its order. So whatever earlier owners had
/// must be below what later ones had.
pub(super) fn check_sessions(entries: &[Entry]) -> Vec<Violation> {
    let mut sessions: BTreeMap<Name, BTreeMap<u64, Vec<(u64, u64)>>> = BTreeMap::new();
    for entry in entries {
        if let Event::SessionEvent { session, generation, seq, id } = &entry.event {
            sessions.entry(session.clone()).or_default().entry(*generation).or_default().push((*seq, *id));
        }
    }
    let mut violations = Vec::new();
    for (session, generations) in sessions {
        let events = generations
            .into_iter()
            .flat_map(|(generation, events)| events.into_iter().map(move |(seq, id)| (generation, seq, id)));
        let (mut latest, mut ids): (Option<(u64, u64)>, HashMap<u64, u64>) = (None, HashMap::new());
        for (generation, seq, id) in events {
            if let Some((before_generation, before)) = latest.filter(|(_, before)| before + 1 != seq) {
                let generations = [before_generation, generation];
                violations.push(Violation::SessionOrder { session: session.clone(), generations, before, then: seq });
            }
            latest = Some((generation, seq));
            if let Some(other) = ids.insert(id, seq).filter(|other| *other != seq) {
                violations.push(Violation::SessionDuplicate { session: session.clone(), id, seqs: [other, seq] });
            }
        }
    }
    violations
}
