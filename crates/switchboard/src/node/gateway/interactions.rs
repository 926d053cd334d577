//! Interactions: what a platform tells an application over HTTP, and waits a moment to be answered.
//!
//! An interaction is an event for one shard. While its request waits there is an entry in [`Waiting`], which the shard's answer
//! takes out; what waits for nothing any more takes itself out.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use switchboard_proto::gateway::items;
use switchboard_proto::json::{self, JsonLimits, RawJson};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::backend::sessions::shards::ShardTarget;
use crate::clock;

use super::super::Node;
use super::applications::Application;
use super::events::{OWN_ID, PublishError};
use super::signature::SignedBody;

/// Longest id of an interaction.
const MAX_ID_BYTES: usize = 64;

/// Longest body that names no application and is checked against every key nevertheless, as the platform's first ping may be.
/// Strangers pay with their bandwidth for what they make us compute.
const MAX_UNNAMED_BYTES: usize = 4096;

/// Why an interaction is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum InteractionError {
    /// No application's platform has signed it. What is wrong is not told.
    #[error("not signed")]
    Unsigned,
    /// It was signed, and is no interaction.
    #[error("no interaction")]
    Malformed,
    /// It is longer than a log may be.
    #[error("too large")]
    TooLarge,
    /// Too many wait for an answer.
    #[error("too many interactions")]
    TooMany,
    /// It could not be handed to its shard.
    #[error("unavailable")]
    Unavailable,
}

/// Interactions that wait for the answer of their shard.
#[derive(Debug)]
pub(super) struct Waiting {
    most: usize,
    answers: Mutex<HashMap<Key, oneshot::Sender<RawJson>>>,
}

/// The application's id, and that of the interaction: nobody answers for another application.
type Key = (Arc<str>, Box<str>);

impl Waiting {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Self {
        Self { most, answers: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, oneshot::Sender<RawJson>>> {
        // Nothing under this lock can panic half way.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait. `Ok(None)`: somebody waits for the same already.
    fn begin(self: &Arc<Self>, key: Key) -> Result<Option<Wait>, InteractionError> {
        let mut answers = self.lock();
        let is_full = answers.len() >= self.most;
        match answers.entry(key.clone()) {
            Entry::Occupied(_) => Ok(None),
            Entry::Vacant(_) if is_full => Err(InteractionError::TooMany),
            Entry::Vacant(place) => {
                let (sender, answer) = oneshot::channel();
                place.insert(sender);
                Ok(Some(Wait { waiting: Arc::clone(self), key, answer }))
            }
        }
    }

    /// Takes an answer to whoever waits for it. `false`: nobody does. One that nobody waits for, or not any more, is worth nothing.
    fn answer(&self, key: &Key, answer: RawJson) -> bool {
        let waiting = self.lock().remove(key);
        // Whoever has just gone away does not read it.
        waiting.map(|waiting| drop(waiting.send(answer))).is_some()
    }
}

/// One that waits. Dropping it ends that.
struct Wait {
    waiting: Arc<Waiting>,
    key: Key,
    answer: oneshot::Receiver<RawJson>,
}

impl Drop for Wait {
    fn drop(&mut self) {
        // Once it is answered, somebody else may wait for the same.
        self.answer.close();
        if let Entry::Occupied(waiting) = self.waiting.lock().entry(self.key.clone())
            && waiting.get().is_closed()
        {
            waiting.remove();
        }
    }
}

/// What an interaction is about, as far as anybody here asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ping = 1,
    Command,
    Component,
    Autocomplete,
    Modal,
}

impl Kind {
    fn of(number: u64) -> Option<Self> {
        let kinds = [Self::Ping, Self::Command, Self::Component, Self::Autocomplete, Self::Modal];
        kinds.into_iter().find(|kind| *kind as u64 == number)
    }

    /// What is answered when the shard has not answered in time: that it will, or nothing.
    const fn meanwhile(self) -> &'static str {
        match self {
            Self::Ping => PONG,
            Self::Command | Self::Modal => r#"{"type":5}"#,
            Self::Component => r#"{"type":6}"#,
            Self::Autocomplete => r#"{"type":8,"data":{"choices":[]}}"#,
        }
    }
}

const PONG: &str = r#"{"type":1}"#;

/// What is answered when there is no shard: a notice that only the person sees who asked.
const NOBODY: &str =
    r#"{"type":4,"data":{"content":"This bot is offline at the moment. Please try again later.","flags":64}}"#;

/// An interaction for a shard.
struct Interaction {
    kind: Kind,
    id: Box<str>,
    guild: Option<u64>,
}

impl Interaction {
    /// Reads a body that is more than a ping.
    fn read(kind: Kind, body: &Value) -> Option<Self> {
        let id = body.get("id")?.as_str()?;
        let guild = match body.get("guild_id") {
            None | Some(Value::Null) => None,
            Some(guild) => Some(guild.as_str()?.parse().ok()?),
        };
        (1..=MAX_ID_BYTES).contains(&id.len()).then(|| Self { kind, id: id.into(), guild })
    }
}

impl Node {
    /// Hands an interaction to the shard of its guild, and brings that shard's answer; what is answered meanwhile, if none comes
    /// within `servers.gateway.interaction_wait`. The answer is JSON.
    ///
    /// The interaction stays in the shard's log in any case. The same one again is not published twice.
    ///
    /// # Errors
    ///
    /// See [`InteractionError`].
    pub(crate) async fn interact(
        &self,
        request: SignedBody<'_>,
        limits: JsonLimits,
    ) -> Result<RawJson, InteractionError> {
        // Only the id is read before the signature is right, and no answer depends on more.
        let text = std::str::from_utf8(request.body).ok();
        let application = self.signer(request, text).ok_or(InteractionError::Unsigned)?;
        if !request.is_recent(self.0.gateway.options.interaction_max_age, clock::unix_ms()) {
            tracing::debug!(
                application = application.id(), timestamp = %request.timestamp.escape_debug(),
                "refused an interaction whose time differs by more than servers.gateway.interaction_max_age"
            );
            return Err(InteractionError::Unsigned);
        }
        let body = text.and_then(|text| json::parse(text, limits).ok());
        let (Some(text), Some(body)) = (text, body) else { return Err(InteractionError::Malformed) };
        let kind = body.get("type").and_then(Value::as_u64).and_then(Kind::of).ok_or(InteractionError::Malformed)?;
        if kind == Kind::Ping {
            return Ok(RawJson::from_parsed(PONG));
        }
        let interaction = Interaction::read(kind, &body).ok_or(InteractionError::Malformed)?;
        drop(body);
        self.ask_shard(application, interaction, RawJson::from_parsed(text)).await
    }

    /// The application whose platform has signed a request: the one that it names, or any if it names none.
    fn signer(&self, request: SignedBody<'_>, text: Option<&str>) -> Option<Arc<Application>> {
        let applications = &self.0.gateway.applications;
        let named = text.and_then(|text| json::members(text, ["application_id"])).and_then(|[id]| id);
        let found = match named {
            Some(id) => {
                let id: Cow<'_, str> = serde_json::from_str(id).ok()?;
                applications.by_id(&id).filter(|application| request.is_of(&application.public_key))
            }
            None if request.body.len() > MAX_UNNAMED_BYTES => None,
            None => applications.iter().find(|application| request.is_of(&application.public_key)),
        };
        found.cloned()
    }

    async fn ask_shard(
        &self,
        application: Arc<Application>,
        interaction: Interaction,
        body: RawJson,
    ) -> Result<RawJson, InteractionError> {
        let gateway = &self.0.gateway;
        let Interaction { kind, id, guild } = interaction;
        let deadline = Instant::now() + gateway.options.interaction_wait;
        let meanwhile = move || Ok(RawJson::from_parsed(kind.meanwhile()));
        // Before it is published: the answer may be faster than we are.
        let Some(mut wait) = gateway.waiting.begin((application.user.shared_id(), id.clone()))? else {
            return meanwhile();
        };
        let node = self.clone();
        // A task of its own: whoever goes away leaves it its place among those that wait until its shard has been asked, so that
        // there are no more of them.
        let asking = self.runtime().spawn(async move {
            match node.publish_interaction(&application, kind, &id, guild, &body).await {
                Ok(()) => {}
                Err(PublishError::NoSession) => return Ok(RawJson::from_parsed(NOBODY)),
                Err(PublishError::TooLarge) => return Err(InteractionError::TooLarge),
                Err(_) => return Err(InteractionError::Unavailable),
            }
            match timeout_at(deadline, &mut wait.answer).await {
                Ok(answer) => answer.map_err(|_| InteractionError::Unavailable),
                Err(_) => meanwhile(),
            }
        });
        match timeout_at(deadline, asking).await {
            Ok(asked) => asked.unwrap_or(Err(InteractionError::Unavailable)),
            Err(_) => meanwhile(),
        }
    }

    async fn publish_interaction(
        &self,
        application: &Application,
        kind: Kind,
        id: &str,
        guild: Option<u64>,
        body: &RawJson,
    ) -> Result<(), PublishError> {
        let total = self.shard_count(application.id()).await.map_err(|_| PublishError::Unavailable)?.max(1);
        let shard = guild.map_or(0, |guild| ((guild >> 22) % u64::from(total)) as u32);
        let item = items::interaction(shard, total, kind as u32, body);
        let id = format!("{OWN_ID}interaction {id}").into();
        self.publish_item(application, false, ShardTarget::Shard(shard), item, Some(id)).await.map(drop)
    }

    /// A shard of this application answers an interaction, which may wait at another node.
    pub(super) fn answer_interaction(&self, application: &Application, id: &str, data: RawJson) {
        if id.len() <= MAX_ID_BYTES && !self.answer_interaction_here(application, id, data.clone()) {
            self.tell_answered(application, id, data);
        }
    }

    /// An interaction that waits here is answered. `false`: it does not wait here.
    pub(in crate::node) fn answer_interaction_here(&self, application: &Application, id: &str, data: RawJson) -> bool {
        self.0.gateway.waiting.answer(&(application.user.shared_id(), id.into()), data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(application: &str, id: &str) -> Key {
        (application.into(), id.into())
    }

    fn json(text: &str) -> RawJson {
        RawJson::from_parsed(text)
    }

    #[test]
    fn the_first_answer_of_the_same_application_counts() {
        let waiting = Arc::new(Waiting::new(10));
        let mut wait = waiting.begin(key("a", "1")).unwrap().unwrap();
        for other in [key("b", "1"), key("a", "2"), key("a", "")] {
            waiting.answer(&other, json("1"));
        }
        assert!(wait.answer.try_recv().is_err());
        waiting.answer(&key("a", "1"), json("2"));
        waiting.answer(&key("a", "1"), json("3"));
        assert_eq!(wait.answer.try_recv(), Ok(json("2")));
    }

    #[test]
    fn no_more_wait_than_may_and_whoever_goes_leaves_nothing() {
        let waiting = Arc::new(Waiting::new(2));
        let first = waiting.begin(key("a", "1")).unwrap().unwrap();
        let second = waiting.begin(key("a", "2")).unwrap().unwrap();
        assert_eq!(waiting.begin(key("b", "1")).err(), Some(InteractionError::TooMany));
        // It waits for nothing of its own, so there is no need for room.
        assert!(waiting.begin(key("a", "1")).unwrap().is_none());
        drop(first);
        let third = waiting.begin(key("b", "1")).unwrap().unwrap();
        drop((second, third));
        assert!(waiting.lock().is_empty());
    }

    #[test]
    fn whoever_is_answered_and_goes_takes_nothing_from_whoever_waits_for_the_same() {
        let waiting = Arc::new(Waiting::new(10));
        let first = waiting.begin(key("a", "1")).unwrap().unwrap();
        waiting.answer(&key("a", "1"), json("1"));
        let mut second = waiting.begin(key("a", "1")).unwrap().unwrap();
        drop(first);
        waiting.answer(&key("a", "1"), json("2"));
        assert_eq!(second.answer.try_recv(), Ok(json("2")));
        drop(second);
        assert!(waiting.lock().is_empty());
    }

    #[test]
    fn a_body_names_its_id_and_may_name_a_guild() {
        let read = |text: &str| {
            let body = serde_json::from_str(text).unwrap();
            Interaction::read(Kind::Command, &body).map(|read| (read.id.to_string(), read.guild))
        };
        assert_eq!(read(r#"{"id":"7"}"#), Some(("7".into(), None)));
        assert_eq!(read(r#"{"id":"7","guild_id":null}"#), Some(("7".into(), None)));
        assert_eq!(read(r#"{"id":"7","guild_id":"18446744073709551615"}"#), Some(("7".into(), Some(u64::MAX))));
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(MAX_ID_BYTES + 1));
        for wrong in [
            "{}",
            "[]",
            r#"{"id":7}"#,
            r#"{"id":""}"#,
            &long,
            r#"{"id":"7","guild_id":7}"#,
            r#"{"id":"7","guild_id":"x"}"#,
            r#"{"id":"7","guild_id":"-1"}"#,
            r#"{"id":"7","guild_id":"18446744073709551616"}"#,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn whatever_is_answered_without_a_shard_is_json() {
        let all = [1, 2, 3, 4, 5].map(|number| Kind::of(number).unwrap().meanwhile());
        for text in all.into_iter().chain([NOBODY, PONG]) {
            assert!(json::parse(text, JsonLimits::default()).is_ok(), "{text}");
        }
        assert_eq!([0, 6, u64::MAX].map(Kind::of), [None; 3]);
    }
}
