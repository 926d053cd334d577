//! What nodes say to each other about gateway sessions.
//!
//! The store owns the truth about a session. Its *home* is the node that carries it, or carried it last: there what rooms say is
//! written into its log, and there it joins and leaves. Who carries a session from now on says so to all; whoever thought that it
//! did closes its connection, and forgets the session's seats.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use switchboard_proto::call::CallError;
use switchboard_proto::id::ConnId;
use switchboard_proto::json::RawJson;
use switchboard_proto::shard::ShardEvent;

use crate::backend::cluster::{NodeEntry, To};
use crate::backend::sessions::shards::{EndOfShard, EndedShard, ShardDelivery, ShardRecord};

use super::super::Node;
use super::super::chat::unavailable;
use super::super::gateway::applications::Application;
use super::wire::{conn_id, raw_json};

/// Something that all nodes, or the home of a session, should know.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Note {
    /// The sender carries a session from now on.
    Carried {
        #[serde(with = "conn_id")]
        session: ConnId,
        generation: u64,
    },
    /// A session is over.
    Ended {
        #[serde(with = "conn_id")]
        session: ConnId,
        why: Why,
    },
    /// The log of a session has grown.
    Grown {
        #[serde(with = "conn_id")]
        session: ConnId,
        last: u64,
        bytes: usize,
    },
    /// A shard has answered an interaction that nobody waits for at the sender's.
    Answered {
        application: String,
        id: String,
        #[serde(with = "raw_json")]
        data: RawJson,
    },
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Why {
    Asked,
    Expired,
    Replaced,
    Resharded,
}

impl From<EndOfShard> for Why {
    fn from(why: EndOfShard) -> Self {
        match why {
            EndOfShard::Asked => Self::Asked,
            EndOfShard::Expired => Self::Expired,
            EndOfShard::Replaced => Self::Replaced,
            EndOfShard::Resharded => Self::Resharded,
        }
    }
}

impl From<Why> for EndOfShard {
    fn from(why: Why) -> Self {
        match why {
            Why::Asked => Self::Asked,
            Why::Expired => Self::Expired,
            Why::Replaced => Self::Replaced,
            Why::Resharded => Self::Resharded,
        }
    }
}

impl Node {
    pub(super) fn heed_gateway(&self, _from: u16, note: Note) {
        match note {
            Note::Carried { session, generation } => self.heed_carried(session, generation),
            Note::Ended { session, why } => {
                let node = self.clone();
                self.spawn(Box::pin(async move {
                    let home = node.peers().map_or(0, super::Peers::slot);
                    let ended = EndedShard { id: session, owner: None, why: why.into(), rooms: Vec::new(), home };
                    node.shard_ended_here(ended).await;
                }));
            }
            Note::Grown { session, last, bytes } => self.log_has_grown(session, last, bytes),
            Note::Answered { application, id, data } => {
                if let Some(application) = self.application(&application) {
                    // Nobody waits here either: then nobody does.
                    self.answer_interaction_here(application, &id, data);
                }
            }
        }
    }

    /// Another node carries a session from now on.
    fn heed_carried(&self, session: ConnId, generation: u64) {
        let lives = &self.0.gateway.lives;
        if let Some(live) = lives.of_session(session).filter(|live| live.generation < generation)
            && lives.remove(&live)
        {
            self.tell_shard(&live, ShardEvent::Replaced(session));
        } else if lives.of_session(session).is_some() {
            // It has come back here since.
            return;
        }
        let node = self.clone();
        self.spawn(Box::pin(async move { node.let_go_of_rooms(session).await }));
    }

    /// This node carries a session from now on: all others should know, and its rooms are heard here.
    pub(in crate::node) fn tell_carried(&self, record: &ShardRecord, application: &Arc<Application>) {
        let Some(peers) = self.peers() else { return };
        let note = super::Note::Gateway(Note::Carried { session: record.id, generation: record.generation });
        // Whoever is not told learns from the store that it carries nothing any more.
        drop(peers.tell(To::Others, &note));
        let (node, session, application) = (self.clone(), record.id, Arc::clone(application));
        self.spawn(Box::pin(async move { node.take_home(session, &application).await }));
    }

    /// A session is over that has its home elsewhere. `false`: its home is here, or nowhere any more.
    pub(in crate::node) fn tell_ended(&self, ended: &EndedShard) -> bool {
        let Some(peers) = self.peers() else { return false };
        let is_elsewhere = peers.others().contains(&ended.home);
        if is_elsewhere {
            let note = super::Note::Gateway(Note::Ended { session: ended.id, why: ended.why.into() });
            drop(peers.tell(To::Node(ended.home), &note));
        }
        is_elsewhere
    }

    /// The log of a session has grown that has its home elsewhere, unless the store has told it.
    pub(in crate::node) fn tell_grown(&self, delivery: &ShardDelivery, bytes: usize) {
        let Some(peers) = self.peers() else { return };
        if delivery.home != peers.slot() && !self.0.sessions.tells_growth() {
            let note = Note::Grown { session: delivery.session, last: delivery.seq, bytes };
            drop(peers.tell(To::Node(delivery.home), &super::Note::Gateway(note)));
        }
    }

    /// An interaction was answered that nobody waits for here.
    pub(in crate::node) fn tell_answered(&self, application: &Application, id: &str, data: RawJson) {
        if let Some(peers) = self.peers() {
            let note = Note::Answered { application: application.id().to_owned(), id: id.to_owned(), data };
            drop(peers.tell(To::Others, &super::Note::Gateway(note)));
        }
    }

    /// The home of a session, if that is another living node.
    pub(super) async fn home_elsewhere(&self, session: ConnId) -> Result<Option<u16>, CallError> {
        let Some(peers) = self.peers() else { return Ok(None) };
        if self.0.gateway.lives.of_session(session).is_some() {
            return Ok(None);
        }
        let now_ms = self.0.gateway.clock.now_ms();
        let record = self.0.sessions.shard(session, now_ms).await.map_err(unavailable)?;
        let home = record.ok_or(CallError::NoSuchConnection)?.home;
        Ok(Some(home).filter(|home| peers.others().contains(home)))
    }

    /// A node is dead, and it is up to this one to put its affairs in order: its sessions have their home here from now on. The result
    /// are those.
    pub(in crate::node) async fn adopt_gateway_sessions(&self, dead: &NodeEntry) -> Result<Vec<ConnId>, CallError> {
        let gateway = &self.0.gateway;
        let own = self.peers().map_or(0, super::Peers::slot);
        if gateway.applications.is_empty() {
            return Ok(Vec::new());
        }
        let adopting = self.0.sessions.adopt_shards(dead.slot, own, gateway.clock.now_ms());
        let adopted = adopting.await.map_err(unavailable)?;
        for record in &adopted {
            if let Some(application) = gateway.applications.by_id(&record.fleet.application) {
                self.take_home(record.id, application).await;
            }
        }
        Ok(adopted.into_iter().map(|record| record.id).collect())
    }

    /// Forgets the gateway sessions of this node, which other nodes adopted when they took it for dead. Their
    /// connections are closed as all others are, with 1012: 4020 would tell bots not to come back.
    pub(in crate::node) async fn let_go_of_sessions(&self) {
        for live in self.0.gateway.lives.all() {
            self.0.gateway.lives.remove(&live);
        }
        self.let_go_of_all_rooms().await;
    }

    /// The store may have lost what it had confirmed: no session is what it was.
    pub(in crate::node) async fn end_gateway_sessions(&self) {
        let mut sessions = self.seated_sessions();
        sessions.extend(self.0.gateway.lives.all().iter().map(|live| live.session));
        sessions.sort_unstable();
        sessions.dedup();
        let home = self.peers().map_or(0, super::Peers::slot);
        for id in sessions {
            let ended = EndedShard { id, owner: None, why: EndOfShard::Expired, rooms: Vec::new(), home };
            self.shard_ended_here(ended).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_through_as_what_they_are() {
        let session = ConnId::session_from_random(9).on_node(3);
        for note in [
            Note::Carried { session, generation: 4 },
            Note::Ended { session, why: Why::Resharded },
            Note::Grown { session, last: 5, bytes: 6 },
            Note::Answered { application: "a".into(), id: "1".into(), data: RawJson::from_parsed(r#"{"type":4}"#) },
        ] {
            let text = serde_json::to_string(&note).unwrap();
            let read: Note = serde_json::from_str(&text).unwrap();
            assert_eq!(format!("{read:?}"), format!("{note:?}"));
        }
        assert!(serde_json::from_str::<Note>(r#"{"carried":{"session":"nobody","generation":1}}"#).is_err());
    }
}
