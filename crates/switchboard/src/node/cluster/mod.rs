//! Other nodes: what this one asks them, what they ask it, and what becomes of it when one of them dies.
//!
//! - `wire`: how it is said.
//! - `rooms`, `connections`, `commands`, `gateway`: what is said about each of them; `users`: about users and their rooms;
//!   `described`: a connection as text.
//! - `life`: nodes that come and go, and this one that was taken for dead; `burial`: what dead nodes leave; `audit`: what is noted in
//!   the directory, compared with what is.
//!
//! Everything that other nodes say comes through one channel and is looked at in order: notes at once, questions in tasks of their own.

mod audit;
mod burial;
pub(super) mod commands;
pub(super) mod connections;
mod described;
mod gateway;
mod life;
pub(super) mod rooms;
pub(super) mod users;
pub(super) mod wire;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_proto::call::CallError;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::backend::cluster::{Cluster, ClusterEvent, ClusterState, NodeEntry, To};
use crate::config::Config;
use crate::op::{Op, all};

use super::Node;
use super::chat::unavailable;
use life::Life;
pub use life::{Corrections, LifeFigures};
use wire::{Message, Refusal};

/// What one node asks another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Question {
    /// About rooms and their members.
    Rooms(rooms::Question),
    /// About connections.
    Connections(connections::Question),
    /// About client commands.
    Commands(commands::Question),
    /// About users and their rooms.
    Users(users::Question),
}

/// What one node tells others.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Note {
    /// About client commands.
    Commands(commands::Note),
    /// About gateway sessions.
    Gateway(gateway::Note),
    /// About users and their tokens.
    Users(users::Note),
    /// About rooms.
    Rooms(rooms::Note),
}

impl From<commands::Note> for Note {
    fn from(note: commands::Note) -> Self {
        Self::Commands(note)
    }
}

/// The other nodes, as this one speaks to them.
#[derive(Debug)]
pub(super) struct Peers {
    cluster: Arc<dyn Cluster>,
    /// State of this node in it.
    state: watch::Receiver<ClusterState>,
    /// Questions that wait for their answers.
    waiting: Mutex<HashMap<u64, Waiting>>,
    next: AtomicU64,
    /// `backend.redis.timeout`.
    timeout: Duration,
    /// Bytes of a list in one answer, which is half of what a message may have.
    page_bytes: usize,
    /// Questions of others that are being answered.
    answering: Arc<Semaphore>,
    life: Life,
}

/// A question that waits for its answer.
#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Result<Box<RawValue>, Refusal>>,
    /// Whoever was asked has said lately that he is at it.
    is_promised: bool,
}

impl Peers {
    /// Questions of others that are answered at the same time; one more is refused.
    const ANSWERING: usize = 1024;

    /// How often others are asked to do something that they have not confirmed.
    const ROUNDS: u32 = 3;

    pub(super) fn new(cluster: Arc<dyn Cluster>, config: &Config) -> Self {
        Self {
            state: cluster.state(),
            cluster,
            waiting: Mutex::default(),
            // Answers to an earlier life of this node are not taken for ours.
            next: AtomicU64::new(fastrand::u64(..) >> 12),
            timeout: config.backend.redis.timeout,
            page_bytes: config.backend.redis.max_message_bytes / 2,
            answering: Arc::new(Semaphore::new(Self::ANSWERING)),
            life: Life::new(config),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        // Nothing under this lock can panic half way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's number.
    pub(super) fn slot(&self) -> u16 {
        self.cluster.slot()
    }

    /// The living nodes, this one included.
    pub(super) fn nodes(&self) -> Vec<NodeEntry> {
        self.cluster.nodes()
    }

    /// The cluster itself.
    pub(super) fn cluster(&self) -> &Arc<dyn Cluster> {
        &self.cluster
    }

    /// Whether the other nodes took this one for dead, and it has not rejoined.
    pub(super) fn is_fenced(&self) -> bool {
        matches!(*self.state.borrow(), ClusterState::Fenced { .. })
    }

    /// The numbers of the other living nodes.
    pub(super) fn others(&self) -> Vec<u16> {
        let own = self.slot();
        self.nodes().into_iter().map(|node| node.slot).filter(|slot| *slot != own).collect()
    }

    /// Whether another node lives.
    pub(super) fn is_living(&self, slot: u16) -> bool {
        self.nodes().iter().any(|node| node.slot == slot)
    }

    /// `backend.redis.figures_interval`.
    pub(super) fn figures_interval(&self) -> Duration {
        self.life.figures_interval
    }

    /// How long an answer is waited for.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Asks another node. What takes it longer than others are waited for, it says: then it is waited for.
    ///
    /// # Errors
    ///
    /// What it answers; [`CallError::Unavailable`] when nothing is heard of it for twice `backend.redis.timeout`. Then what was asked
    /// may have been done.
    pub(super) async fn ask<T: DeserializeOwned>(&self, slot: u16, question: &Question) -> Result<T, CallError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, mut answer) = oneshot::channel();
        self.waiting().insert(number, Waiting { answer: sender, is_promised: false });
        let _forget = Forget { peers: self, number };
        self.say(To::Node(slot), &Message::<&Question, &Note>::Ask(number, question)).await?;
        loop {
            match tokio::time::timeout(self.timeout, &mut answer).await {
                Ok(Ok(answer)) => return wire::read(&answer?),
                Ok(Err(_)) => return Err(CallError::Unavailable),
                Err(_) if self.is_promised(number) => {}
                Err(_) => {
                    tracing::warn!(node = slot, "another node has not answered in time");
                    return Err(CallError::Unavailable);
                }
            }
        }
    }

    /// Whether whoever was asked has said since the last look that he is at it.
    fn is_promised(&self, number: u64) -> bool {
        self.waiting().get_mut(&number).is_some_and(|waiting| std::mem::take(&mut waiting.is_promised))
    }

    /// Asks all other nodes at once, and waits for all of them. Who has died meanwhile is left out.
    pub(super) async fn ask_others<T: DeserializeOwned + Send>(
        &self,
        question: &Question,
    ) -> Vec<(u16, Result<T, CallError>)> {
        self.ask_these(self.others(), question).await
    }

    async fn ask_these<T: DeserializeOwned + Send>(
        &self,
        slots: Vec<u16>,
        question: &Question,
    ) -> Vec<(u16, Result<T, CallError>)> {
        let asking = slots.into_iter().map(|slot| async move { (slot, self.ask::<T>(slot, question).await) });
        let mut answers = all(asking).await;
        let living = self.others();
        answers.retain(|(slot, answer)| answer.is_ok() || living.contains(slot));
        answers
    }

    /// Has nodes do something that they have not confirmed. They are asked again as long as they live, but not for ever: what a node
    /// does not do then, it finds when it looks whether all is in order.
    async fn insist<T: DeserializeOwned + Send>(&self, mut slots: Vec<u16>, question: &Question) {
        for round in 1..Self::ROUNDS {
            if slots.is_empty() {
                return;
            }
            // A refusal comes at once, and asking again at once would not help.
            tokio::time::sleep(self.timeout / 8 * round).await;
            let answers = self.ask_these::<T>(slots, question).await;
            slots = self.unconfirmed(&answers);
        }
        if !slots.is_empty() {
            tracing::error!(nodes = ?slots, ?question, "nodes do not confirm a change");
        }
    }

    /// Who lives and has not done what was asked.
    fn unconfirmed<T>(&self, answers: &[(u16, Result<T, CallError>)]) -> Vec<u16> {
        let failed = answers.iter().filter(|(_, answer)| answer.is_err()).map(|(slot, _)| *slot);
        failed.filter(|slot| self.is_living(*slot)).collect()
    }

    /// Tells other nodes something, in the order of the calls.
    pub(super) fn tell(&self, to: To, note: &Note) -> Op<Result<(), CallError>> {
        self.send(to, &Message::<&Question, &Note>::Note(note))
    }

    /// Tells other nodes something, in the order of the calls and without a result. The note is written as JSON later,
    /// so that this may be called under a lock that workers take.
    pub(super) fn tell_later(&self, to: To, note: Note) {
        self.cluster.send_later(
            to,
            Box::new(move || match serde_json::to_vec(&Message::<&Question, &Note>::Note(&note)) {
                Ok(text) => Some(text.into()),
                Err(error) => {
                    tracing::error!(%error, "a message for another node could not be written");
                    None
                }
            }),
        );
    }

    async fn say(&self, to: To, message: &Message<&Question, &Note>) -> Result<(), CallError> {
        self.send(to, message).await
    }

    fn send(&self, to: To, message: &Message<&Question, &Note>) -> Op<Result<(), CallError>> {
        match serde_json::to_vec(message) {
            Ok(text) => self.cluster.send(to, text.into()).map(|sent| sent.map_err(unavailable)),
            Err(error) => {
                tracing::error!(%error, "a message for another node could not be written");
                Op::Ready(Err(CallError::Unavailable))
            }
        }
    }
}

/// Takes a question off those that wait.
struct Forget<'a> {
    peers: &'a Peers,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.peers.waiting().remove(&self.number);
    }
}

impl Node {
    /// The living nodes of the cluster by their numbers, this one included; none without a cluster.
    pub fn nodes(&self) -> Vec<NodeEntry> {
        self.0.cluster.as_ref().map(Peers::nodes).unwrap_or_default()
    }

    /// The other nodes, if there may be any.
    pub(super) fn peers(&self) -> Option<&Peers> {
        self.0.cluster.as_ref()
    }

    /// Has all other nodes do something, and waits until all that live have done it, or do not confirm it again and again.
    pub(super) async fn have_all_done(&self, question: impl Into<Question>) {
        let question = question.into();
        if let Some(peers) = self.peers() {
            let answers = peers.ask_others::<IgnoredAny>(&question).await;
            peers.insist::<IgnoredAny>(peers.unconfirmed(&answers), &question).await;
        }
    }

    /// Has all other nodes do something. Waits for their first answers, which are the result; who does not answer is asked again, but
    /// not waited for.
    pub(super) async fn tell_others<T>(&self, question: impl Into<Question>) -> Vec<T>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let question = question.into();
        let Some(peers) = self.peers() else { return Vec::new() };
        let answers = peers.ask_others::<T>(&question).await;
        let unconfirmed = peers.unconfirmed(&answers);
        if !unconfirmed.is_empty() {
            let node = self.clone();
            self.spawn(Box::pin(async move {
                if let Some(peers) = node.peers() {
                    peers.insist::<T>(unconfirmed, &question).await;
                }
            }));
        }
        answers.into_iter().filter_map(|(_, answer)| answer.ok()).collect()
    }

    /// Does what the cluster tells, for as long as there is a node.
    pub(super) fn follow_cluster(&self, mut events: mpsc::Receiver<ClusterEvent>) {
        if let Some(peers) = self.peers() {
            self.follow_cluster_state(peers.state.clone());
        }
        let inner = Arc::downgrade(&self.0);
        self.spawn(Box::pin(async move {
            while let Some(event) = events.recv().await {
                let Some(node) = inner.upgrade().map(Node) else { return };
                node.note_cluster_event(event);
            }
        }));
    }

    fn note_cluster_event(&self, event: ClusterEvent) {
        match event {
            ClusterEvent::Message { from, bytes } => self.hear_node(from, &bytes),
            ClusterEvent::Grown { session, last, bytes } => self.log_has_grown(session, last, bytes),
            event => self.note_life(event),
        }
    }

    /// Another node says something.
    fn hear_node(&self, from: u16, bytes: &Bytes) {
        let Some(peers) = self.peers() else { return };
        let odd = |error| tracing::warn!(node = from, %error, "another node says what nobody understands");
        match serde_json::from_slice::<Message<&RawValue, &RawValue>>(bytes) {
            // Until it is closed and rejoined, a fenced node hears the channel of a slot that may be another node's: an
            // answer from here would be taken for that node's answer. A revocation holds for every node.
            Ok(Message::Answer(..) | Message::Wait(_) | Message::Ask(..)) if peers.is_fenced() => {}
            Ok(Message::Answer(number, answer)) => {
                if let Some(waiting) = peers.waiting().remove(&number) {
                    // Whoever asked may have stopped waiting.
                    let _ = waiting.answer.send(answer);
                }
            }
            Ok(Message::Wait(number)) => {
                if let Some(waiting) = peers.waiting().get_mut(&number) {
                    waiting.is_promised = true;
                }
            }
            Ok(Message::Note(note)) => match serde_json::from_str(note.get()) {
                Ok(Note::Users(note)) => self.note_about_users(&note),
                Ok(_) if peers.is_fenced() => {}
                Ok(Note::Commands(note)) => self.heed_commands(from, note),
                Ok(Note::Gateway(note)) => self.heed_gateway(from, note),
                Ok(Note::Rooms(note)) => self.note_rooms(&note),
                Err(error) => odd(error),
            },
            Ok(Message::Ask(number, question)) => match serde_json::from_str(question.get()) {
                Ok(question) => self.be_asked(from, number, question),
                Err(error) => {
                    odd(error);
                    self.refuse_node(from, number);
                }
            },
            Err(error) => odd(error),
        }
    }

    fn be_asked(&self, from: u16, number: u64, question: Question) {
        let Some(peers) = self.peers() else { return };
        let Ok(place) = Arc::clone(&peers.answering).try_acquire_owned() else {
            return self.refuse_node(from, number);
        };
        let node = self.clone();
        self.spawn(Box::pin(async move {
            node.answer_node(from, number, question).await;
            drop(place);
        }));
    }

    /// Queues a refusal. The task that reads messages of other nodes must not wait for Redis.
    fn refuse_node(&self, from: u16, number: u64) {
        if let Some(peers) = self.peers() {
            drop(peers.send(To::Node(from), &Message::Answer(number, Err(CallError::Unavailable.into()))));
        }
    }

    async fn answer_node(&self, from: u16, number: u64, question: Question) {
        let Some(peers) = self.peers() else { return };
        let mut answering = Box::pin(async {
            match question {
                Question::Rooms(question) => self.answer_about_rooms(question).await,
                Question::Connections(question) => self.answer_about_connections(question).await,
                Question::Commands(question) => self.answer_about_commands(from, question).await,
                Question::Users(question) => self.answer_about_users(question).await,
            }
        });
        let answer = loop {
            match tokio::time::timeout(peers.timeout / 2, &mut answering).await {
                Ok(answer) => break answer,
                // Hooks and middleware may take as long as they like.
                Err(_) => drop(peers.send(To::Node(from), &Message::Wait(number))),
            }
        };
        let answer = Message::Answer(number, answer.map_err(Refusal::from));
        if peers.send(To::Node(from), &answer).await.is_err() {
            // The answer may be too long. If the refusal is lost too, the deadline of the asking node applies.
            self.refuse_node(from, number);
        }
    }
}
