//! Other nodes: what this one asks them, what they ask it, and what becomes of it when one of them dies.
//!
//! - `wire`: how it is said.
//! - `rooms`, `connections`, `commands`, `gateway`: what is said about each of them.
//! - `life`: nodes that come and go, and this one that was taken for dead; `burial`: what dead nodes leave; `audit`: what is noted in
//!   the directory, compared with what is.
//!
//! Everything that other nodes say comes through one channel and is looked at in order: notes at once, questions in tasks of their own.

mod audit;
mod burial;
mod commands;
mod connections;
mod gateway;
mod life;
mod rooms;
pub(super) mod wire;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_proto::call::CallError;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::backend::cluster::{Cluster, ClusterEvent, NodeEntry, To};
use crate::config::Config;
use crate::op::{Op, all};

use super::Node;
use super::chat::unavailable;
use life::Life;
pub use life::LifeFigures;
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
    /// About gateway sessions.
    Gateway(gateway::Question),
}

/// What one node tells others.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Note {
    /// About client commands.
    Commands(commands::Note),
    /// About gateway sessions.
    Gateway(gateway::Note),
}

/// The other nodes, as this one speaks to them.
#[derive(Debug)]
pub(super) struct Peers {
    cluster: Arc<dyn Cluster>,
    /// Questions that wait for their answers.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Result<Box<RawValue>, Refusal>>>>,
    next: AtomicU64,
    /// `backend.redis.timeout`.
    timeout: Duration,
    /// Questions of others that are being answered.
    answering: Arc<Semaphore>,
    life: Life,
}

impl Peers {
    /// Questions of others that are answered at the same time; the next one waits, and all behind it.
    const ANSWERING: usize = 1024;

    pub(super) fn new(cluster: Arc<dyn Cluster>, config: &Config) -> Self {
        Self {
            cluster,
            waiting: Mutex::default(),
            // Answers to an earlier life of this node are not taken for ours.
            next: AtomicU64::new(fastrand::u64(..) >> 12),
            timeout: config.backend.redis.timeout,
            answering: Arc::new(Semaphore::new(Self::ANSWERING)),
            life: Life::new(config),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Box<RawValue>, Refusal>>>> {
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

    /// The numbers of the other living nodes.
    pub(super) fn others(&self) -> Vec<u16> {
        let own = self.slot();
        self.nodes().into_iter().map(|node| node.slot).filter(|slot| *slot != own).collect()
    }

    /// Asks another node.
    ///
    /// # Errors
    ///
    /// What it answers; [`CallError::Unavailable`] when it does not in `backend.redis.timeout`. Then what was asked may have been done.
    pub(super) async fn ask<T: DeserializeOwned>(&self, slot: u16, question: &Question) -> Result<T, CallError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting().insert(number, sender);
        let _forget = Forget { peers: self, number };
        self.say(To::Node(slot), &Message::<&Question, &Note>::Ask(number, question)).await?;
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(answer)) => wire::read(&*answer?),
            Ok(Err(_)) => Err(CallError::Unavailable),
            Err(_) => {
                tracing::warn!(node = slot, "another node has not answered in time");
                Err(CallError::Unavailable)
            }
        }
    }

    /// Asks all other nodes at once, and waits for all of them. Who has died meanwhile is left out.
    pub(super) async fn ask_others<T: DeserializeOwned + Send>(
        &self,
        question: &Question,
    ) -> Vec<(u16, Result<T, CallError>)> {
        let asking = self.others().into_iter().map(|slot| async move { (slot, self.ask::<T>(slot, question).await) });
        let mut answers = all(asking).await;
        let living = self.others();
        answers.retain(|(slot, answer)| answer.is_ok() || living.contains(slot));
        answers
    }

    /// Tells other nodes something, in the order of the calls.
    pub(super) fn tell(&self, to: To, note: &Note) -> Op<Result<(), CallError>> {
        self.send(to, &Message::<&Question, &Note>::Note(note))
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

    /// Does what the cluster tells, for as long as there is a node.
    pub(super) fn follow_cluster(&self, mut events: mpsc::Receiver<ClusterEvent>) {
        let inner = Arc::downgrade(&self.0);
        self.spawn(Box::pin(async move {
            while let Some(event) = events.recv().await {
                let Some(node) = inner.upgrade().map(Node) else { return };
                node.note_cluster_event(event).await;
            }
        }));
    }

    async fn note_cluster_event(&self, event: ClusterEvent) {
        match event {
            ClusterEvent::Message { from, bytes } => self.hear_node(from, &bytes).await,
            ClusterEvent::Grown { session, last, bytes } => self.log_has_grown(session, last, bytes),
            event => self.note_life(event).await,
        }
    }

    /// Another node says something.
    async fn hear_node(&self, from: u16, bytes: &Bytes) {
        let Some(peers) = self.peers() else { return };
        match serde_json::from_slice::<Message<Question, Note>>(bytes) {
            Ok(Message::Answer(number, answer)) => {
                if let Some(waiting) = peers.waiting().remove(&number) {
                    // Whoever asked may have stopped waiting.
                    let _ = waiting.send(answer);
                }
            }
            Ok(Message::Note(Note::Commands(note))) => self.heed_commands(from, note),
            Ok(Message::Note(Note::Gateway(note))) => self.heed_gateway(from, note),
            Ok(Message::Ask(number, question)) => {
                let Ok(place) = Arc::clone(&peers.answering).acquire_owned().await else { return };
                let node = self.clone();
                self.spawn(Box::pin(async move {
                    node.answer_node(from, number, question).await;
                    drop(place);
                }));
            }
            Err(error) => tracing::warn!(node = from, %error, "another node says what nobody understands"),
        }
    }

    async fn answer_node(&self, from: u16, number: u64, question: Question) {
        let Some(peers) = self.peers() else { return };
        let answer = match question {
            Question::Rooms(question) => self.answer_about_rooms(question).await,
            Question::Connections(question) => self.answer_about_connections(question).await,
            Question::Commands(question) => self.answer_about_commands(from, question).await,
            Question::Gateway(question) => self.answer_about_gateway(question).await,
        };
        // Whoever asked learns from its own deadline that there is no answer.
        drop(peers.say(To::Node(from), &Message::Answer(number, answer.map_err(Refusal::from))).await);
    }
}
