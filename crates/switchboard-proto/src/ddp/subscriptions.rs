//! What a session is subscribed to.
//!
//! A subscription sleeps while nobody is logged in: clients of the SDK subscribe before they log in when they come back,
//! and never again. It is judged at every log-in.

use serde_json::Value;

use crate::call::Wants;
use crate::id::RoomName;
use crate::user::User;

use super::errors::Refusal;
use super::rooms;

pub(super) const COMMANDS: &str = "stream-client-commands";
pub(super) const REQUESTS: &str = "stream-ddp-requests";
pub(super) const ROOM_MESSAGES: &str = "stream-room-messages";
pub(super) const NOTIFY_USER: &str = "stream-notify-user";
const NOTIFY_ROOM: &str = "stream-notify-room";
const NOTIFY_ALL: &str = "stream-notify-all";
const NOTIFY_LOGGED: &str = "stream-notify-logged";

/// The event under which a session hears all its rooms.
pub(super) const MY_MESSAGES: &str = "__my_messages__";

/// The event of a user under which messages of the application come.
pub(super) const MESSAGE: &str = "message";

/// What may come of a subscription. No more is kept of its event than that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// Nothing ever does.
    Nothing,
    /// Messages of all rooms.
    MyMessages,
    /// Messages of one room.
    Room(RoomName),
    /// What concerns one user.
    User(UserTopic, Box<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum UserTopic {
    /// Client commands, under their first name.
    Commands,
    /// Client commands, under their later name.
    Requests,
    /// Messages of the application.
    Messages,
    /// Nothing, but it is his alone.
    Nothing,
}

impl Topic {
    /// Whether the node has to know of it.
    pub(super) fn is_heard(&self) -> bool {
        self.is_of_rooms() || matches!(self, Self::User(UserTopic::Commands | UserTopic::Requests, _))
    }

    /// Whether messages of rooms come of it.
    pub(super) fn is_of_rooms(&self) -> bool {
        matches!(self, Self::MyMessages | Self::Room(_))
    }

    /// Whether somebody else logged in than the one whose it is.
    pub(super) fn is_foreign_to(&self, user: &User) -> bool {
        matches!(self, Self::User(_, id) if **id != *user.id())
    }
}

/// What a client asks for, its arguments checked.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) topic: AskedTopic,
    /// The stream to be opened, and its event, for a client that keeps documents.
    pub(super) opens: Option<(&'static str, String)>,
}

#[derive(Debug, PartialEq)]
pub(super) enum AskedTopic {
    Known(Topic),
    /// That of a room, which has to be there.
    OfRoom(RoomName),
    /// Notices of a room, which has to be there. None ever come.
    NoticesOf(RoomName),
    /// Of a room that cannot be there.
    OfNoRoom,
}

/// Reads a subscription.
pub(super) fn read(name: &str, params: &[Value]) -> Result<Asked, Refusal> {
    let stream = match name {
        "meteor.loginServiceConfiguration" | "activeUsers" | "userData" => {
            return Ok(Asked { topic: AskedTopic::Known(Topic::Nothing), opens: None });
        }
        _ => [COMMANDS, REQUESTS, ROOM_MESSAGES, NOTIFY_USER, NOTIFY_ROOM, NOTIFY_ALL, NOTIFY_LOGGED]
            .into_iter()
            .find(|stream| *stream == name)
            .ok_or_else(|| Refusal::unknown_publication(name))?,
    };
    let Some(Value::String(event)) = params.first() else { return Err(Refusal::match_failed()) };
    let keeps_documents = uses_collection(params.get(1)).ok_or_else(Refusal::match_failed)?;
    if event.is_empty() {
        return Err(Refusal::invalid_event_name());
    }
    let topic = match stream {
        COMMANDS => of_user(UserTopic::Commands, event),
        REQUESTS => of_user(UserTopic::Requests, event),
        ROOM_MESSAGES if event == MY_MESSAGES => AskedTopic::Known(Topic::MyMessages),
        ROOM_MESSAGES => of_room(event, AskedTopic::OfRoom),
        NOTIFY_USER => match event.split_once('/') {
            Some((id, MESSAGE)) => of_user(UserTopic::Messages, id),
            Some((id, _)) => of_user(UserTopic::Nothing, id),
            None => of_user(UserTopic::Nothing, event),
        },
        NOTIFY_ROOM => of_room(event.split_once('/').map_or(&**event, |(room, _)| room), AskedTopic::NoticesOf),
        _ => AskedTopic::Known(Topic::Nothing),
    };
    Ok(Asked { topic, opens: keeps_documents.then(|| (stream, event.clone())) })
}

fn of_user(topic: UserTopic, id: &str) -> AskedTopic {
    // Nobody has such an id, so nothing of it need be kept.
    let id = if User::new(id).is_ok() { id } else { "" };
    AskedTopic::Known(Topic::User(topic, id.into()))
}

fn of_room(id: &str, topic: impl FnOnce(RoomName) -> AskedTopic) -> AskedTopic {
    rooms::parse_id(id).map_or(AskedTopic::OfNoRoom, topic)
}

/// Whether the second parameter asks for a document before `ready`; `None` if it is not well-formed.
fn uses_collection(option: Option<&Value>) -> Option<bool> {
    match option {
        None => Some(false),
        Some(Value::Bool(uses)) => Some(*uses),
        Some(Value::Object(options)) => match (options.get("useCollection"), options.get("args")) {
            (None, None | Some(Value::Array(_))) => Some(false),
            (Some(Value::Bool(uses)), None | Some(Value::Array(_))) => Some(*uses),
            _ => None,
        },
        Some(_) => None,
    }
}

/// A live subscription.
#[derive(Debug)]
struct Subscription {
    topic: Topic,
    /// Not everybody may have it: judged for the user who asked.
    is_personal: bool,
    /// `ready` was sent. No message is sent before that.
    is_ready: bool,
    id: Box<str>,
}

/// The live subscriptions of a session, sorted by topic.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn has_id(&self, id: &str) -> bool {
        self.0.iter().any(|live| *live.id == *id)
    }

    /// Whether a subscription with this topic is ready.
    pub(super) fn has(&self, topic: &Topic) -> bool {
        let first = self.0.partition_point(|live| live.topic < *topic);
        self.0[first..].iter().take_while(|live| live.topic == *topic).any(|live| live.is_ready)
    }

    /// Marks a subscription as ready.
    pub(super) fn set_ready(&mut self, id: &str) {
        if let Some(live) = self.0.iter_mut().find(|live| *live.id == *id) {
            live.is_ready = true;
        }
    }

    /// Adds a subscription that is not ready yet.
    pub(super) fn add(&mut self, id: &str, topic: Topic, is_personal: bool) {
        let at = self.0.partition_point(|live| live.topic <= topic);
        if self.0.len() == self.0.capacity() {
            // Most sessions have two or three, and there are many sessions.
            self.0.reserve_exact(1.max(self.0.len() / 2));
        }
        self.0.insert(at, Subscription { topic, is_personal, is_ready: false, id: id.into() });
    }

    /// Ends one; its topic, if it was live.
    pub(super) fn remove(&mut self, id: &str) -> Option<Topic> {
        let at = self.0.iter().position(|live| *live.id == *id)?;
        Some(self.0.remove(at).topic)
    }

    /// Ends those that `user` may not have, and returns their ids. `is_another`: others were judged for somebody else.
    pub(super) fn end_foreign(&mut self, user: &User, is_another: bool) -> Vec<Box<str>> {
        let ends = |live: &mut Subscription| live.topic.is_foreign_to(user) || is_another && live.is_personal;
        self.0.extract_if(.., ends).map(|ended| ended.id).collect()
    }

    /// Bytes of the list itself.
    #[cfg(test)]
    pub(super) fn capacity_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Subscription>()
    }

    /// What their user wants to be sent.
    pub(super) fn wants(&self, public_rooms_to_all: bool) -> Wants {
        let mut wants = Wants::default();
        for live in &self.0 {
            match &live.topic {
                Topic::MyMessages => wants.public_rooms = public_rooms_to_all,
                Topic::Room(room) if wants.rooms.last() != Some(room) => wants.rooms.push(room.clone()),
                Topic::User(UserTopic::Commands | UserTopic::Requests, _) => wants.commands = true,
                Topic::Room(_) | Topic::User(..) | Topic::Nothing => {}
            }
        }
        wants
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn topic(name: &str, event: &str) -> AskedTopic {
        read(name, &[json!(event)]).unwrap().topic
    }

    #[test]
    fn the_option_is_missing_a_boolean_or_an_object() {
        for (option, uses) in [
            (json!(false), false),
            (json!(true), true),
            (json!({}), false),
            (json!({"useCollection": true}), true),
            (json!({"args": []}), false),
            (json!({"useCollection": false, "args": [null]}), false),
            (json!({"useCollection": true, "args": [], "other": 1}), true),
        ] {
            let asked = read(COMMANDS, &[json!("u1"), option.clone()]).unwrap();
            assert_eq!(asked.opens.is_some(), uses, "{option}");
        }
        for option in
            [json!(null), json!(1), json!("true"), json!([]), json!({"useCollection": 1}), json!({"args": {}})]
        {
            assert_eq!(read(COMMANDS, &[json!("u1"), option.clone()]), Err(Refusal::match_failed()), "{option}");
        }
    }

    #[test]
    fn an_event_is_a_text_that_is_not_empty() {
        for stream in [COMMANDS, REQUESTS, ROOM_MESSAGES, NOTIFY_USER, NOTIFY_ROOM, NOTIFY_ALL, NOTIFY_LOGGED] {
            assert_eq!(read(stream, &[]), Err(Refusal::match_failed()), "{stream}");
            assert_eq!(read(stream, &[json!(1)]), Err(Refusal::match_failed()), "{stream}");
            assert_eq!(read(stream, &[json!("")]), Err(Refusal::invalid_event_name()), "{stream}");
        }
    }

    #[test]
    fn events_lead_to_their_topics() {
        let room = || RoomName::parse("a/b").unwrap();
        assert_eq!(topic(ROOM_MESSAGES, "a%2Fb"), AskedTopic::OfRoom(room()));
        assert_eq!(topic(ROOM_MESSAGES, "a/b"), AskedTopic::OfNoRoom);
        assert_eq!(topic(NOTIFY_ROOM, "a%2Fb/typing"), AskedTopic::NoticesOf(room()));
        assert_eq!(topic(NOTIFY_USER, "u1/message"), of_user(UserTopic::Messages, "u1"));
        assert_eq!(topic(NOTIFY_USER, "u1/rooms-changed"), of_user(UserTopic::Nothing, "u1"));
        assert_eq!(topic(NOTIFY_ALL, "anything"), AskedTopic::Known(Topic::Nothing));
    }

    #[test]
    fn what_cannot_be_a_user_is_not_kept() {
        let nobody = AskedTopic::Known(Topic::User(UserTopic::Commands, "".into()));
        assert_eq!(topic(COMMANDS, &"x".repeat(1000)), nobody);
        assert_eq!(topic(COMMANDS, "a/b"), nobody);
    }

    #[test]
    fn rooms_are_wanted_once_each() {
        let mut live = Subscriptions::default();
        for (id, room) in [("1", "b"), ("2", "a"), ("3", "b")] {
            live.add(id, Topic::Room(RoomName::parse(room).unwrap()), false);
            live.set_ready(id);
        }
        live.add("4", Topic::MyMessages, false);
        assert!(!live.has(&Topic::MyMessages), "it is not ready");
        let rooms: Vec<_> = live.wants(true).rooms.iter().map(RoomName::to_string).collect();
        assert_eq!(rooms, ["a", "b"]);
        assert!(live.wants(true).public_rooms && !live.wants(false).public_rooms && !live.wants(true).commands);
        assert!(live.has(&Topic::Room(RoomName::parse("a").unwrap())));
        assert_eq!(live.remove("2"), Some(Topic::Room(RoomName::parse("a").unwrap())));
        assert!(!live.has(&Topic::Room(RoomName::parse("a").unwrap())));
    }
}
