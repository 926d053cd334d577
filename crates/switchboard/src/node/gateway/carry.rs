//! How a connection comes to carry a session, and how it ceases to.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use switchboard_proto::call::{Answer, CallError, Outcome};
use switchboard_proto::face::ConnFacts;
use switchboard_proto::id::ConnId;
use switchboard_proto::json::RawJson;
use switchboard_proto::shard::{
    AppCredentials, Began, FleetShard, Registration, Resumption, ShardAnswer, ShardEvent, ShardRefusal, ShardSessionId,
};

use crate::backend::sessions::shards::{
    BeginShard, EndOfShard, EndedShard, Fleet, Owner, ResumeShard, SessionHash, ShardRecord,
};
use crate::hub::mail::{Address, Ask};
use crate::op::Op;
use crate::random;
use crate::worker::calls::Caller;

use super::super::chat::unavailable;
use super::super::profile::Login;
use super::super::{ConnectionPatch, Node};
use super::applications::Application;
use super::live::{Live, Parts};

/// Bit of the flags that makes a session one of the development fleet.
const DEVELOPMENT: u64 = 1;

/// Random bytes of a session's id: 64 letters.
const SESSION_ID_BYTES: usize = 48;

impl Node {
    /// Begins a session.
    pub(super) async fn register(&self, caller: Caller, registration: Registration) -> Outcome {
        let Registration { credentials, shard, total, flags, client } = registration;
        let gateway = &self.0.gateway;
        let application = Arc::clone(gateway.applications.of(&credentials).ok_or(ShardRefusal::BadCredentials)?);
        // Before anything is made: what follows a session must not fail.
        client.clone().map(|data| self.read_client_data(&caller, data)).transpose()?;
        self.check_range(&application, shard, total)?;
        let max_shards = gateway.options.max_shards;
        let fixed_total = application.fixed_total();
        let development = flags & DEVELOPMENT != 0;
        if development && !application.allow_development {
            return Err(ShardRefusal::DevelopmentNotAllowed.into());
        }
        let (session, id) = new_session().map_err(|error| {
            tracing::error!(%error, "no session id could be made");
            CallError::Unavailable
        })?;
        let before = gateway.lives.of_connection(caller.facts.id);
        let begin = BeginShard {
            hash: SessionHash::of(&session),
            id,
            fleet: Fleet { application: application.user.shared_id(), development },
            shard,
            total,
            fixed_total,
            max_shards,
            flags,
            starts: gateway.options.starts,
            yields: gateway.options.yields,
            in_place_of: before.map(|live| (live.session, live.generation)),
            owner: self.owner(caller.facts.id),
            now_ms: gateway.clock.now_ms(),
        };
        let begun = match self.0.sessions.begin_shard(begin).await {
            Ok(begun) => begun,
            Err(error) => {
                gateway.note_unknown(id);
                return Err(unavailable(error));
            }
        };
        let begun = begun?;
        let record = begun.record.clone();
        let began = self.carry(caller, &application, session, record, 0, client).await;
        // Whoever was there before is told behind the answer, which does not wait for the rooms that are left.
        let node = self.clone();
        self.spawn(Box::pin(async move {
            for ended in begun.ended {
                node.shard_ended(ended).await;
            }
        }));
        began
    }

    /// Checks the claims of a handshake before it asks for a session. The registration checks what only the store knows.
    pub(super) fn check_part(&self, credentials: &AppCredentials, shard: u64, total: Option<u64>) -> Outcome {
        let application = self.0.gateway.applications.named(credentials).ok_or(ShardRefusal::BadCredentials)?;
        self.check_range(application, shard, total)?;
        Ok(Answer::Shard(ShardAnswer::Checked))
    }

    /// Refuses a shard that no fleet of the application can have, whatever the store says of the fleet.
    fn check_range(&self, application: &Application, shard: u64, total: Option<u64>) -> Result<(), ShardRefusal> {
        let most = u64::from(self.0.gateway.options.max_shards);
        let fixed = application.fixed_total().map(u64::from);
        let agrees = fixed.is_none() || total.is_none() || fixed == total;
        let end = total.or(fixed).unwrap_or(most);
        if agrees && shard < end && end <= most { Ok(()) } else { Err(ShardRefusal::InvalidShard) }
    }

    /// Goes on with a session.
    pub(super) async fn resume(&self, caller: Caller, resumption: Resumption) -> Outcome {
        let Resumption { credentials, session, shard, seq, client } = resumption;
        let gateway = &self.0.gateway;
        let application = Arc::clone(gateway.applications.of(&credentials).ok_or(ShardRefusal::BadCredentials)?);
        // Before anything is made: what follows a session must not fail.
        client.clone().map(|data| self.read_client_data(&caller, data)).transpose()?;
        let resume = ResumeShard {
            hash: SessionHash::of(&session),
            application: application.user.shared_id(),
            shard,
            seq,
            owner: self.owner(caller.facts.id),
            now_ms: gateway.clock.now_ms(),
        };
        let resumed = match self.0.sessions.resume_shard(resume).await {
            Ok(resumed) => resumed.ok_or(ShardRefusal::Invalid)?,
            Err(error) => {
                gateway.note_failure();
                return Err(unavailable(error));
            }
        };
        self.carry(caller, &application, session, resumed.record, resumed.after, client).await
    }

    /// The store has given a session to a connection of ours.
    async fn carry(
        &self,
        caller: Caller,
        application: &Arc<Application>,
        session: ShardSessionId,
        record: ShardRecord,
        after: u64,
        client: Option<RawJson>,
    ) -> Outcome {
        let gateway = &self.0.gateway;
        let connection = caller.facts.id;
        // What this process counted is newer than what the store was told.
        let carried = gateway.lives.of_session(record.id);
        let live = Arc::new(Live::new(Parts {
            session: record.id,
            generation: record.generation,
            application: Arc::clone(application),
            fleet: record.fleet.clone(),
            facts: caller.facts.clone(),
            address: caller.address,
            counts: carried.map_or(record.counts, |live| live.counters.counts()),
            after,
            last: record.last,
            // Not what its host was known to have received before: a client that resumes has dealt with no more than it says.
            received: record.received,
            log_bytes: record.log_bytes,
        }));
        let counters = Arc::clone(&live.counters);
        // If a later generation is here already, the client is told when it wants to read: a resume is answered as one.
        for other in gateway.lives.insert(live).iter().filter(|other| other.facts.id != connection) {
            self.tell_shard(other, ShardEvent::Replaced(other.session));
        }
        let login = Login { token: None, state: application.state.clone() };
        let is_here = self.0.registry.log_in(connection, application.user.clone(), login).is_ok();
        if !is_here {
            // It ended while the store worked.
            self.shard_connection_closed(connection);
            return Err(CallError::NoSuchConnection);
        }
        let tags = ConnectionPatch { tags: Some(application.tags.clone()), ..ConnectionPatch::default() };
        if !application.tags.is_empty() {
            // Checked when they were configured.
            let _ = self.0.registry.patch(connection, tags);
        }
        self.note_command_user(connection);
        if let Some(data) = client {
            self.set_client_data(&caller, data)?;
        }
        self.tell_carried(&record, application);
        let fleet = self.fleet(&record.fleet).await?;
        Ok(Answer::Shard(ShardAnswer::Began(Box::new(Began {
            id: record.id,
            session,
            application: application.user.shared_id(),
            flags: record.flags,
            after,
            last: record.last,
            counters,
            fleet,
            shard_total: record.fleet_total,
            takes_commands: self.takes_commands(connection),
        }))))
    }

    /// The fleet of the session that a connection carries, for whoever has the credentials of its application.
    pub(super) async fn own_fleet(&self, connection: ConnId, credentials: AppCredentials) -> Outcome {
        let gateway = &self.0.gateway;
        let application = gateway.applications.of(&credentials).ok_or(ShardRefusal::BadCredentials)?;
        let live = gateway.lives.of_connection(connection).ok_or(ShardRefusal::Replaced)?;
        if application.id() != live.application.id() {
            return Err(ShardRefusal::BadCredentials.into());
        }
        Ok(Answer::Shard(ShardAnswer::Fleet(self.fleet(&live.fleet).await?)))
    }

    /// What others see of a fleet, with what this node knows better than the store.
    async fn fleet(&self, fleet: &Fleet) -> Result<Vec<FleetShard>, CallError> {
        let gateway = &self.0.gateway;
        let records = self.0.sessions.fleet(fleet, gateway.clock.now_ms()).await.map_err(unavailable)?;
        Ok(records
            .into_iter()
            .map(|record| FleetShard {
                shard: record.shard,
                hash: record.id,
                development: record.fleet.development,
                disconnected: record.owner.is_none(),
                counts: gateway.lives.of_session(record.id).map_or(record.counts, |live| live.counters.counts()),
            })
            .collect())
    }

    /// A connection has ended. Its session can be resumed from now on.
    pub(in crate::node) fn shard_connection_closed(&self, connection: ConnId) {
        let gateway = &self.0.gateway;
        let Some(live) = gateway.lives.remove_connection(connection) else { return };
        match self.0.sessions.detach_shard(live.note(), gateway.clock.now_ms()) {
            Op::Ready(detached) => self.note_detached(detached.map(drop)),
            Op::Wait(future) => {
                let node = self.clone();
                self.spawn(Box::pin(async move { node.note_detached(future.await.map(drop)) }));
            }
        }
    }

    fn note_detached(&self, detached: Result<(), crate::backend::BackendError>) {
        if let Err(error) = detached {
            unavailable(error);
            self.0.gateway.note_failure();
        }
    }

    /// The client ends its session.
    pub(super) async fn end_own_shard(&self, connection: ConnId) -> Outcome {
        let live = self.0.gateway.lives.remove_connection(connection).ok_or(ShardRefusal::NotRegistered)?;
        let ended = self.0.sessions.end_shard(live.session, Some(live.generation)).await;
        if ended.is_err() {
            self.0.gateway.note_failure();
        }
        if let Some(ended) = ended.map_err(unavailable)? {
            self.shard_ended(ended).await;
        }
        Ok(Answer::Shard(ShardAnswer::Done))
    }

    /// A session is over: whoever carries it is told, and its rooms are left.
    pub(super) async fn shard_ended(&self, ended: EndedShard) {
        if !self.tell_ended(&ended) {
            self.shard_ended_here(ended).await;
        }
    }

    /// The same at its home.
    pub(in crate::node) async fn shard_ended_here(&self, ended: EndedShard) {
        let event = match ended.why {
            EndOfShard::Replaced => ShardEvent::Replaced(ended.id),
            EndOfShard::Resharded => ShardEvent::Resharded(ended.id),
            EndOfShard::Asked | EndOfShard::Expired => ShardEvent::Ended(ended.id),
        };
        if let Some(live) = self.0.gateway.lives.remove_session(ended.id) {
            self.tell_shard(&live, event);
        }
        self.forget_shard_rooms(&ended).await;
    }

    /// Tells the connection that carries a session, or carried it until now. It is told at most once of each thing that waits.
    pub(in crate::node) fn tell_shard(&self, live: &Live, event: ShardEvent) {
        let Address { worker, key } = live.address;
        self.tell_soon(&self.0.workers[usize::from(worker)], Ask::Shard(key, event));
    }

    fn owner(&self, connection: ConnId) -> Owner {
        Owner { node: Arc::clone(&self.0.gateway.node), connection }
    }

    /// The connection that carries a session here, and where it lives.
    pub(in crate::node) fn carried(&self, session: ConnId) -> Option<(ConnFacts, Address)> {
        let live = self.0.gateway.lives.of_session(session)?;
        Some((live.facts.clone(), live.address))
    }

    /// The id of the connection that is meant: that which carries the session if it is one's, else itself.
    pub(in crate::node) fn connection_meant(&self, id: ConnId) -> ConnId {
        if !id.is_session() {
            return id;
        }
        self.0.gateway.lives.of_session(id).map_or(id, |live| live.facts.id)
    }
}

fn new_session() -> Result<(ShardSessionId, ConnId), ring::error::Unspecified> {
    let mut bytes = [0; SESSION_ID_BYTES];
    SystemRandom::new().fill(&mut bytes)?;
    let id = ConnId::session_from_random(random::bits()?);
    Ok((ShardSessionId::new(URL_SAFE_NO_PAD.encode(bytes)), id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_has_64_letters_of_the_alphabet_and_says_nothing_of_its_handle() {
        let (session, id) = new_session().unwrap();
        let text = session.as_str();
        assert_eq!(text.len(), 64);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')), "{text}");
        assert!(id.is_session() && !text.contains(&id.to_string()[..8]));
        assert_ne!(new_session().unwrap().0, session);
    }
}
