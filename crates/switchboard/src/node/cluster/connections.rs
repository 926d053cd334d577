//! What nodes ask each other about connections, and what is asked of the node that holds one.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use switchboard_proto::call::CallError;
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::json::RawJson;

use super::super::chat::Reauthentication;
use super::super::connection::ConnectionInfo;
use super::super::connections::state_error;
use super::super::pages::{Page, merge};
use super::super::{ConnectionPatch, MockConnection, Node, Speaker, StateError};
use super::described::{Described, UserText};
use super::wire::{answer, conn_id, raw_json, read, room_name, room_names};

/// A question. But for [`Question::Page`] the one that it is about is with the node that is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Question {
    /// What is known of it?
    Describe(#[serde(with = "conn_id")] ConnId),
    /// What is known of so many connections behind an id?
    Page { after: Option<String>, limit: usize },
    /// Send it a message.
    Send {
        #[serde(with = "conn_id")]
        id: ConnId,
        #[serde(with = "raw_json")]
        message: RawJson,
    },
    /// End it.
    End(#[serde(with = "conn_id")] ConnId),
    /// Change what only the server says about it.
    Change {
        #[serde(with = "conn_id")]
        id: ConnId,
        patch: PatchText,
    },
    /// May it join a room?
    Authorize {
        #[serde(with = "conn_id")]
        id: ConnId,
        #[serde(with = "room_name")]
        room: RoomName,
    },
    /// Look at its rooms again.
    Reauthenticate(#[serde(with = "conn_id")] ConnId),
    /// Make it a member.
    Join {
        #[serde(with = "conn_id")]
        id: ConnId,
        #[serde(with = "room_name")]
        room: RoomName,
    },
    /// End its membership.
    Leave {
        #[serde(with = "conn_id")]
        id: ConnId,
        #[serde(with = "room_name")]
        room: RoomName,
    },
    /// It says something; with `named` the server does, for it.
    Say {
        #[serde(with = "conn_id")]
        id: ConnId,
        named: Option<String>,
        #[serde(with = "room_name")]
        room: RoomName,
        #[serde(with = "raw_json")]
        body: RawJson,
    },
}

impl From<Question> for super::Question {
    fn from(question: Question) -> Self {
        Self::Connections(question)
    }
}

/// A [`ConnectionPatch`].
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::node) struct PatchText {
    state: Vec<(String, Value)>,
    /// Whether who it is changes.
    is_somebody_else: bool,
    user: Option<UserText>,
    tags: Option<Vec<String>>,
}

/// A [`StateError`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StateRefusal {
    BadTag,
    BuiltIn(String),
    FixedUser,
    Full,
    NoSuchConnection,
    NotScalar(String),
    TooManyTags,
    Unavailable,
}

/// A [`Reauthentication`].
#[derive(Debug, Serialize, Deserialize)]
struct ReauthenticationText {
    #[serde(with = "room_names")]
    rooms: Vec<RoomName>,
    #[serde(with = "room_names")]
    removed: Vec<RoomName>,
}

/// Part of a list, and the id behind which there is more.
#[derive(Debug, Serialize, Deserialize)]
struct PageText {
    items: Vec<Box<RawValue>>,
    next: Option<String>,
}

impl From<ConnectionPatch> for PatchText {
    fn from(patch: ConnectionPatch) -> Self {
        let is_somebody_else = patch.user.is_some();
        let user = patch.user.flatten().as_ref().map(UserText::from);
        Self { state: patch.state, is_somebody_else, user, tags: patch.tags }
    }
}

impl PatchText {
    fn read(self) -> Result<ConnectionPatch, CallError> {
        let Self { state, is_somebody_else, user, tags } = self;
        let user = user.map(UserText::read).transpose()?;
        Ok(ConnectionPatch { state, user: is_somebody_else.then_some(user), tags })
    }
}

impl From<StateError> for StateRefusal {
    fn from(error: StateError) -> Self {
        match error {
            StateError::BadTag => Self::BadTag,
            StateError::BuiltIn(name) => Self::BuiltIn(name),
            StateError::FixedUser => Self::FixedUser,
            StateError::Full => Self::Full,
            StateError::NoSuchConnection => Self::NoSuchConnection,
            StateError::NotScalar(name) => Self::NotScalar(name),
            StateError::TooManyTags => Self::TooManyTags,
            // A patch that could be read has a good user.
            StateError::BadUser(_) | StateError::Unavailable => Self::Unavailable,
        }
    }
}

impl From<StateRefusal> for StateError {
    fn from(refusal: StateRefusal) -> Self {
        match refusal {
            StateRefusal::BadTag => Self::BadTag,
            StateRefusal::BuiltIn(name) => Self::BuiltIn(name),
            StateRefusal::FixedUser => Self::FixedUser,
            StateRefusal::Full => Self::Full,
            StateRefusal::NoSuchConnection => Self::NoSuchConnection,
            StateRefusal::NotScalar(name) => Self::NotScalar(name),
            StateRefusal::TooManyTags => Self::TooManyTags,
            StateRefusal::Unavailable => Self::Unavailable,
        }
    }
}

impl Node {
    /// The other node that holds a connection or session. None: it is up to this one, which may not know it either.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchConnection`] for an id of no living node; [`CallError::Unavailable`].
    pub(in crate::node) async fn holder(&self, id: ConnId) -> Result<Option<u16>, CallError> {
        let Some(peers) = self.peers() else { return Ok(None) };
        if id.is_session() {
            return self.home_elsewhere(id).await;
        }
        match id.node() {
            slot if slot == peers.slot() => Ok(None),
            slot if peers.is_living(slot) => Ok(Some(slot)),
            _ => Err(CallError::NoSuchConnection),
        }
    }

    /// Asks the node that holds a connection.
    async fn ask_holder<T: DeserializeOwned>(&self, slot: u16, question: Question) -> Result<T, CallError> {
        let Some(peers) = self.peers() else { return Err(CallError::NoSuchConnection) };
        match peers.ask(slot, &question.into()).await {
            // It has died with its node.
            Err(CallError::Unavailable) if !peers.is_living(slot) => Err(CallError::NoSuchConnection),
            answered => answered,
        }
    }

    /// Has the node that holds a connection do something.
    pub(in crate::node) async fn have_done(&self, slot: u16, question: Question) -> Result<(), CallError> {
        self.ask_holder(slot, question).await
    }

    /// What another node knows of a connection of its own.
    pub(in crate::node) async fn connection_of(&self, slot: u16, id: ConnId) -> Result<ConnectionInfo, CallError> {
        let described: Described = self.ask_holder(slot, Question::Describe(id)).await?;
        described.read(self)
    }

    /// Changes a connection of another node.
    pub(in crate::node) async fn change_connection_of(
        &self,
        slot: u16,
        id: ConnId,
        patch: ConnectionPatch,
    ) -> Result<(), StateError> {
        let question = Question::Change { id, patch: patch.into() };
        let refused: Option<StateRefusal> =
            self.ask_holder(slot, question).await.map_err(|error| state_error(&error))?;
        refused.map_or(Ok(()), |refused| Err(refused.into()))
    }

    pub(in crate::node) async fn authorize_at(&self, slot: u16, id: ConnId, room: RoomName) -> Result<bool, CallError> {
        self.ask_holder(slot, Question::Authorize { id, room }).await
    }

    pub(in crate::node) async fn reauthenticate_at(
        &self,
        slot: u16,
        id: ConnId,
    ) -> Result<Reauthentication, CallError> {
        let ReauthenticationText { rooms, removed } = self.ask_holder(slot, Question::Reauthenticate(id)).await?;
        Ok(Reauthentication { rooms, removed })
    }

    /// Has a connection of another node say something; with `named` the server does, under that name, for it.
    pub(in crate::node) async fn say_at(
        &self,
        slot: u16,
        id: ConnId,
        named: Option<String>,
        room: RoomName,
        body: RawJson,
    ) -> Result<Option<u64>, CallError> {
        self.ask_holder(slot, Question::Say { id, named, room, body }).await
    }

    /// At most `limit` connections of all nodes.
    pub(in crate::node) async fn page_of_all(
        &self,
        after: Option<ConnId>,
        limit: usize,
    ) -> Result<Page<ConnectionInfo, ConnId>, CallError> {
        let here = self.page_of_connections_here(after, limit);
        let Some(peers) = self.peers() else { return Ok(here.await) };
        let question = super::Question::Connections(Question::Page { after: after.map(|id| id.to_string()), limit });
        let (here, others) = tokio::join!(here, peers.ask_others::<PageText>(&question));
        let mut pages = vec![here];
        for (_, page) in others {
            pages.push(self.read_page(page?)?);
        }
        Ok(merge(pages, limit, |info| info.handle.id()))
    }

    fn read_page(&self, page: PageText) -> Result<Page<ConnectionInfo, ConnId>, CallError> {
        let next = page.next.map(|id| ConnId::parse(&id).ok_or(CallError::Unavailable)).transpose()?;
        let items = page.items.iter().map(|item| read::<Described>(item)?.read(self));
        Ok(Page { items: items.collect::<Result<_, _>>()?, next })
    }

    pub(super) async fn answer_about_connections(&self, question: Question) -> Result<Box<RawValue>, CallError> {
        match question {
            Question::Describe(id) => answer(&Described::new(&self.connection_here(id).await?)),
            Question::Page { after, limit } => {
                let after = after.map(|id| ConnId::parse(&id).ok_or(CallError::Unavailable)).transpose()?;
                self.write_page(self.page_of_connections_here(after, limit).await)
            }
            Question::Send { id, message } => answer(&self.send_message_here(id, message).await?),
            Question::End(id) => answer(&self.disconnect_here(id).await?),
            Question::Change { id, patch } => {
                let refused = self.patch_connection(id, patch.read()?).err();
                answer(&refused.map(StateRefusal::from))
            }
            Question::Authorize { id, room } => answer(&self.authorize_here(id, &room).await?),
            Question::Reauthenticate(id) => {
                let Reauthentication { rooms, removed } = self.reauthenticate_here(id).await?;
                answer(&ReauthenticationText { rooms, removed })
            }
            Question::Join { id, room } => answer(&self.add_member_here(id, room).await?),
            Question::Leave { id, room } => answer(&self.remove_member_here(id, room).await?),
            Question::Say { id, named, room, body } => {
                let speaker = match named {
                    None => Speaker::Connection(id),
                    Some(name) => Speaker::Mock(MockConnection { id: Some(name), rooms: None }),
                };
                answer(&self.broadcast_here(speaker, room, body).await?)
            }
        }
    }

    /// As much of a page as one message holds, and one connection at least.
    fn write_page(&self, page: Page<ConnectionInfo, ConnId>) -> Result<Box<RawValue>, CallError> {
        let most = self.peers().map_or(0, |peers| peers.page_bytes);
        let (mut items, mut bytes, mut next) = (Vec::with_capacity(page.items.len()), 0, page.next);
        let mut last = None;
        for info in &page.items {
            let item = answer(&Described::new(info))?;
            bytes += item.get().len();
            if bytes > most && last.is_some() {
                next = last;
                break;
            }
            items.push(item);
            last = Some(info.handle.id());
        }
        answer(&PageText { items, next: next.map(|id| id.to_string()) })
    }
}
