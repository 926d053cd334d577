//! What the store has forgotten, and what is noted for nobody: members of dead nodes, rows that nobody wrote, names without rooms.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use redis::Value;
use switchboard_proto::id::{ConnId, RoomName};

use crate::backend::shared::{Comparison, Departed, Left, LeftRow, Remains};
use crate::backend::{BackendError, Pattern};
use crate::clock;

use super::super::script::Script;
use super::super::store::Answered;
use super::mirror::{Held, Life};
use super::row::{self, Row};
use super::{AGAIN, Inner, Listed, lock};

static LEFT: Script = Script::new(include_str!("left.lua"));
static LOOK: Script = Script::new(include_str!("look.lua"));
static RESTORE: Script = Script::new(include_str!("restore.lua"));
static STRIKE: Script = Script::new(include_str!("strike.lua"));

/// Members that are noted or removed in one step.
pub(super) const BATCH: usize = 256;

/// What was found of a room.
#[derive(Default)]
struct Found {
    /// Members of this node that are noted, with their places.
    own: HashMap<ConnId, u64>,
    /// Rows of nodes that this one does not know, and what is no row: name and text.
    odd: Vec<(Vec<u8>, Vec<u8>)>,
    /// The room was destroyed not long ago.
    is_gone: bool,
    /// What the store knows of it; none: there is no such room.
    life: Option<Life>,
    /// The life of the node that destroys it.
    closing: Option<u64>,
}

/// Nodes that live, or are being buried, as rows name them.
struct Known {
    alive: HashSet<String>,
    buried: HashSet<String>,
}

impl Inner {
    pub(super) async fn all_rooms(&self) -> Result<Vec<RoomName>, BackendError> {
        let [rooms, closing] = self.lists();
        let mut names = self.names(&rooms).await?;
        *lock(&self.listed) = names.iter().cloned().collect();
        names.extend(self.names(&closing).await?);
        names.extend(self.mirror().rooms().cloned());
        names.sort_unstable();
        names.dedup();
        lock(&self.dangling).retain(|name| names.binary_search(name).is_ok());
        Ok(names)
    }

    pub(super) async fn restore(&self, room: &RoomName, otherwise: Option<Pattern>) -> Result<bool, BackendError> {
        let known = self.mirror().life(room).cloned();
        let (made, version, pattern) = match (known, otherwise) {
            (Some(life), _) => (life.made, life.version, life.pattern),
            // Whoever knows better has a higher version.
            (None, Some(pattern)) => (clock::unix_ms(), 1, row::pattern_text(&pattern).into()),
            (None, None) => return Ok(false),
        };
        let keys = self.keys(room);
        let restored = self.store.change(&RESTORE, &[&keys.facts, &keys.gone], |command| {
            command.arg(made).arg(version).arg(&*pattern);
        });
        let answer = restored.await?;
        let Some([made, version, pattern]) = answer.list() else { return Ok(false) };
        let life = self.life(made, version, pattern).ok_or_else(|| self.store.odd("a room", &answer))?;
        self.mirror().learn(room, life);
        self.list(room, Listed::Open).await?;
        let held = self.mirror().members(room);
        self.note_again(room, held).await?;
        Ok(true)
    }

    /// Notes members again that have a place, as far as they are still held. How many were not noted.
    async fn note_again(&self, room: &RoomName, members: Vec<(ConnId, Held)>) -> Result<u64, BackendError> {
        let mut noted = 0;
        // Those without a place are about to be noted by whoever began it.
        let is_held =
            |(id, held): &(ConnId, Held)| held.order.is_some() && self.mirror().number(room, *id) == Some(held.number);
        let members: Vec<_> = members.into_iter().filter(is_held).collect();
        for batch in members.chunks(BATCH) {
            let rows: Vec<_> = batch.iter().map(|(id, held)| (*id, Arc::clone(&held.tail), held.order)).collect();
            let Some(places) = self.note(&AGAIN, room, &rows).await? else { break };
            for ((id, held), place) in batch.iter().zip(places) {
                if place == 0 {
                    // Another node has it now.
                    self.mirror().end(room, *id, Some(held.number));
                    continue;
                }
                noted += 1;
                // Whoever leaves is not held any more before the row is removed: one of the two removes it.
                let is_held = self.mirror().has(room, *id);
                if !is_held {
                    self.unnote(room, *id, None).await?;
                }
            }
        }
        Ok(noted)
    }

    pub(super) async fn left_by(
        &self,
        owner: &str,
        room: &RoomName,
        cursor: Option<String>,
    ) -> Result<Remains, BackendError> {
        let members = self.keys(room).members;
        let cursor = cursor.as_deref().unwrap_or("0");
        let answer = self.store.link.run(&LEFT, &[&members], |command| {
            command.arg(owner).arg(cursor);
        });
        let answer = answer.await?;
        let Some([next, rows]) = answer.list() else { return Err(self.store.odd("members of a dead node", &answer)) };
        let next = next.text().ok_or_else(|| self.store.odd("members of a dead node", &answer))?;
        let rows = rows.list().unwrap_or_default().chunks_exact(2);
        let left = rows.filter_map(|pair| {
            let row = (pair[0].bytes()?.to_vec(), pair[1].bytes()?.to_vec());
            Some(LeftRow { departed: read(&row.0, &row.1)?, row })
        });
        Ok(Remains { left: left.collect(), next: (next != "0").then(|| next.to_owned()) })
    }

    /// Removes rows that have not changed since they were read. Returns the names of those that were removed.
    pub(super) async fn strike_rows(
        &self,
        room: &RoomName,
        rows: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<HashSet<Vec<u8>>, BackendError> {
        let members = self.keys(room).members;
        let struck = self.store.change(&STRIKE, &[&members], |command| {
            for (name, text) in rows {
                command.arg(name).arg(text);
            }
        });
        let answer = struck.await?;
        Ok(answer.list().unwrap_or_default().iter().filter_map(Answered::bytes).map(<[u8]>::to_vec).collect())
    }

    pub(super) async fn compare(&self, room: &RoomName) -> Result<Comparison, BackendError> {
        let standing = &self.store.standing;
        let (owner, generation) = (self.owner(), standing.generation());
        self.may_judge();
        // What begins after this is looked at the next time.
        let held = self.mirror().members(room);
        let known_before = self.mirror().life(room).cloned();
        let found = self.look(room, &owner).await?;
        let mut comparison = Comparison::default();
        if !standing.is_valid() || self.owner() != owner || standing.generation() != generation {
            return Ok(comparison);
        }
        let is_held = known_before.is_some();
        let Some(life) = found.life else {
            match (is_held, found.is_gone) {
                (true, true) => comparison.left = Left::Evict,
                (true, false) => {
                    if self.restore(room, None).await? {
                        comparison.mended.rooms += 1;
                        comparison.left = Left::Reopen;
                    }
                }
                (false, _) => comparison.mended.rooms += u64::from(self.drop_name(room).await?),
            }
            return Ok(comparison);
        };
        lock(&self.dangling).remove(room);
        if let Some(closing) = found.closing {
            if closing != standing.incarnation() && !self.known().await?.has(closing) {
                comparison.left = Left::Destroy;
            }
            return Ok(comparison);
        }
        // What was known in another generation says nothing about this one.
        let is_another = known_before.is_some_and(|known| known.generation == generation && known.made != life.made);
        if is_another {
            comparison.left = Left::Evict;
            return Ok(comparison);
        }
        let is_listed = lock(&self.listed).contains(room);
        if !is_listed {
            comparison.mended.rooms += u64::from(self.list(room, Listed::Open).await?);
        }
        let (version, pattern) = (life.version, Arc::clone(&life.pattern));
        self.mirror().learn(room, life);
        if self.mirror().checked(room).is_some_and(|checked| checked < version) {
            let pattern = row::pattern(&pattern).unwrap_or_else(nobody);
            comparison.left = Left::Recheck { version, pattern: Arc::new(pattern) };
        }

        let missing = held.into_iter().filter(|(id, _)| !found.own.contains_key(id)).collect();
        comparison.mended.missing += self.note_again(room, missing).await?;
        for (id, place) in found.own {
            let is_held = self.mirror().has(room, id);
            if !is_held && self.unnote(room, id, Some(place)).await? {
                comparison.mended.stale += 1;
            }
        }
        self.strike(room, found.odd, &mut comparison).await?;
        Ok(comparison)
    }

    /// Looks at everything that is noted of a room.
    async fn look(&self, room: &RoomName, owner: &str) -> Result<Found, BackendError> {
        let keys = self.keys(room);
        let keys = [&*keys.facts, &*keys.members, &*keys.gone];
        let others: Vec<_> = self.nodes.all().into_iter().map(|node| row::owner(node.slot, node.incarnation)).collect();
        let mut found = Found::default();
        let mut cursor = "0".to_owned();
        loop {
            let answer = self.store.link.run(&LOOK, &keys, |command| {
                command.arg(&cursor).arg(owner).arg(&others);
            });
            let answer = answer.await?;
            let Some([next, own, odd, gone, made, version, pattern, closing]) = answer.list() else {
                return Err(self.store.odd("a room", &answer));
            };
            for pair in own.list().unwrap_or_default().chunks_exact(2) {
                found.own.extend(pair[0].text().and_then(row::id).zip(pair[1].number()));
            }
            for pair in odd.list().unwrap_or_default().chunks_exact(2) {
                found.odd.extend(pair[0].bytes().map(<[u8]>::to_vec).zip(pair[1].bytes().map(<[u8]>::to_vec)));
            }
            found.is_gone = gone.number() == Some(1);
            found.life = self.life(made, version, pattern);
            found.closing = (*closing != Value::Nil).then(|| closing.number().unwrap_or_default());
            match next.text() {
                Some("0") => return Ok(found),
                Some(next) => next.clone_into(&mut cursor),
                None => return Err(self.store.odd("a room", &answer)),
            }
        }
    }

    /// A listed name has no room. It may be about to be made: it is taken off when it has none twice in a row.
    async fn drop_name(&self, room: &RoomName) -> Result<bool, BackendError> {
        if lock(&self.dangling).insert(room.clone()) {
            return Ok(false);
        }
        let was_listed = self.list(room, Listed::Nowhere).await?;
        lock(&self.dangling).remove(room);
        Ok(was_listed)
    }

    /// Removes rows of nodes that neither live nor are being buried: somebody wrote them too late. Whoever they were leaves now.
    async fn strike(
        &self,
        room: &RoomName,
        odd: Vec<(Vec<u8>, Vec<u8>)>,
        comparison: &mut Comparison,
    ) -> Result<(), BackendError> {
        if odd.is_empty() || !self.may_judge() {
            return Ok(());
        }
        // Asked after the rows were read: whoever wrote one was there before.
        let known = self.known().await?;
        if !known.alive.contains(&self.owner()) {
            // The store does not know this node either: it has forgotten who lives.
            return Ok(());
        }
        let is_nobodys = |(name, text): &(Vec<u8>, Vec<u8>)| match (row_id(name), parsed(text)) {
            (Some(_), Some(row)) => !known.alive.contains(row.owner) && !known.buried.contains(row.owner),
            _ => true,
        };
        let nobodys: Vec<_> = odd.into_iter().filter(is_nobodys).collect();
        for batch in nobodys.chunks(BATCH) {
            let struck = match self.strike_rows(room, batch).await {
                Ok(struck) => struck,
                // Only this node announces the members that are removed already. The next audit finds the others.
                Err(_) if !comparison.departed.is_empty() => return Ok(()),
                Err(error) => return Err(error),
            };
            for (name, text) in batch.iter().filter(|(name, _)| struck.contains(name)) {
                match read(name, text) {
                    Some(departed) => {
                        comparison.mended.foreign += 1;
                        comparison.departed.push(departed);
                    }
                    None => comparison.mended.garbage += 1,
                }
            }
        }
        Ok(())
    }

    /// Whether this node has known the store long enough for all others to have told it that they live. After it has forgotten
    /// something they need a moment.
    fn may_judge(&self) -> bool {
        let generation = self.store.standing.generation();
        let mut known = lock(&self.known);
        if known.0 != generation {
            *known = (generation, Instant::now());
        }
        known.1.elapsed() > self.nodes.lease() * 2
    }

    /// Who lives and who is being buried, as the store says now.
    async fn known(&self) -> Result<Known, BackendError> {
        let mut sets = [HashSet::new(), HashSet::new()];
        for (set, what) in sets.iter_mut().zip(["list", "graves"]) {
            let mut command = redis::cmd("HGETALL");
            command.arg(self.store.keys.nodes(what));
            let answer = self.store.read(command).await?;
            let mut add = |slot: &Value, entry: &Value| {
                let incarnation = entry.text().and_then(|entry| entry.split('\t').next()).map(str::to_owned);
                set.extend(slot.number().zip(incarnation).map(|(slot, incarnation)| format!("{slot}\t{incarnation}")));
            };
            match &answer {
                Value::Map(pairs) => pairs.iter().for_each(|(slot, entry)| add(slot, entry)),
                other => other.list().unwrap_or_default().chunks_exact(2).for_each(|pair| add(&pair[0], &pair[1])),
            }
        }
        let [alive, buried] = sets;
        Ok(Known { alive, buried })
    }
}

impl Known {
    /// Whether there is a node with this incarnation.
    fn has(&self, incarnation: u64) -> bool {
        let tail = format!("\t{incarnation}");
        self.alive.iter().chain(&self.buried).any(|owner| owner.ends_with(&tail))
    }
}

/// A pattern that nobody matches: for one that nobody can read.
fn nobody() -> Pattern {
    Pattern::new().with("", serde_json::Value::Null)
}

fn read(name: &[u8], text: &[u8]) -> Option<Departed> {
    Some(parsed(text)?.departed(row_id(name)?))
}

fn row_id(name: &[u8]) -> Option<ConnId> {
    row::id(std::str::from_utf8(name).ok()?)
}

fn parsed(text: &[u8]) -> Option<Row<'_>> {
    Row::parse(std::str::from_utf8(text).ok()?)
}
