//! The methods, but for what becomes of a session that logs in: arguments to calls, and answers to results.

use serde_json::Value;

use crate::call::{Answer, Call, CallError, HistoryRange, LoggedIn, Outcome, Publication};
use crate::event::RoomMessage;
use crate::id::RoomName;
use crate::json::{RawJson, write_number, write_text};
use crate::time::Stamps;

use super::answer::{Answers, put};
use super::ejson;
use super::errors::Refusal;
use super::login;
use super::request::raw_param;
use super::rooms;
use super::settings::DdpSettings;
use super::wire::write_document;

/// How many messages are loaded when the client does not say.
const HISTORY: u64 = 20;

/// Longest id that a client may choose for a message, in bytes.
const MESSAGE_ID_MAX_BYTES: usize = 64;

/// A method that this server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    CreateDirectMessage,
    GetRoomIdByNameOrId,
    GetRoomNameById,
    JoinRoom,
    LeaveRoom,
    LoadHistory,
    Login,
    Logout,
    LogoutOtherClients,
    PresenceAway,
    PresenceOnline,
    PresenceSetDefaultStatus,
    ReplyClientCommand,
    ReplyToDdpRequest,
    SendMessage,
    SetCustomClientData,
    StreamNotifyRoom,
}

/// What a method comes to, its arguments checked.
#[derive(Debug)]
pub(super) enum Plan {
    Call(Call),
    /// Nothing is done, and nothing returned.
    Nothing,
    /// There is nothing of that name for anybody: `false` is returned.
    No,
    Refuse(Refusal),
}

impl Method {
    const ALL: [(&'static str, Self); 17] = [
        ("createDirectMessage", Self::CreateDirectMessage),
        ("getRoomIdByNameOrId", Self::GetRoomIdByNameOrId),
        ("getRoomNameById", Self::GetRoomNameById),
        ("joinRoom", Self::JoinRoom),
        ("leaveRoom", Self::LeaveRoom),
        ("loadHistory", Self::LoadHistory),
        ("login", Self::Login),
        ("logout", Self::Logout),
        ("logoutOtherClients", Self::LogoutOtherClients),
        ("UserPresence:away", Self::PresenceAway),
        ("UserPresence:online", Self::PresenceOnline),
        ("UserPresence:setDefaultStatus", Self::PresenceSetDefaultStatus),
        ("replyClientCommand", Self::ReplyClientCommand),
        ("replyToDdpRequest", Self::ReplyToDdpRequest),
        ("sendMessage", Self::SendMessage),
        ("setCustomClientData", Self::SetCustomClientData),
        ("stream-notify-room", Self::StreamNotifyRoom),
    ];

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }

    /// Whether it is refused to whoever is not logged in, its arguments being right.
    pub(super) fn is_for_users(self) -> bool {
        !matches!(self, Self::Login | Self::Logout | Self::StreamNotifyRoom)
    }

    /// Checks the arguments. `text` is the frame as it came.
    pub(super) fn plan(self, params: &[Value], text: &str, settings: &DdpSettings) -> Result<Plan, Refusal> {
        let call = match self {
            Self::CreateDirectMessage => Call::OpenDirect { with: text_param(params, 0)?.to_owned() },
            Self::GetRoomIdByNameOrId => {
                let text = text_param(params, 0)?;
                let mut names: Vec<_> = RoomName::parse(text).ok().into_iter().chain(rooms::parse_id(text)).collect();
                names.dedup();
                if names.is_empty() {
                    return Ok(Plan::Refuse(Refusal::not_allowed()));
                }
                Call::FindRoom { names }
            }
            Self::GetRoomNameById => match rooms::parse_id(text_param(params, 0)?) {
                Some(room) => Call::FindRoom { names: vec![room] },
                None => return Ok(Plan::Refuse(Refusal::not_allowed())),
            },
            Self::JoinRoom => {
                // No room has a code, so any opens it.
                if !matches!(params.get(1), None | Some(Value::Null | Value::String(_))) {
                    return Err(Refusal::match_failed());
                }
                match rooms::parse_id(text_param(params, 0)?) {
                    Some(room) => Call::JoinAsUser { room },
                    None => return Ok(Plan::Refuse(Refusal::invalid_room())),
                }
            }
            Self::LeaveRoom => match rooms::parse_id(text_param(params, 0)?) {
                Some(room) if room.direct_users().is_some() => return Ok(Plan::Refuse(Refusal::not_allowed())),
                Some(room) => Call::LeaveAsUser { room },
                None => return Ok(Plan::Refuse(Refusal::invalid_room())),
            },
            Self::LoadHistory => match history(params)? {
                Some(range) => Call::History(range),
                None => return Ok(Plan::No),
            },
            Self::Login => Call::LogIn(login::credentials(params)?),
            Self::Logout => Call::LogOut,
            Self::LogoutOtherClients => Call::LogOutOthers,
            Self::PresenceSetDefaultStatus => {
                text_param(params, 0)?;
                return Ok(Plan::Nothing);
            }
            Self::PresenceAway | Self::PresenceOnline | Self::StreamNotifyRoom => return Ok(Plan::Nothing),
            Self::ReplyClientCommand | Self::ReplyToDdpRequest => {
                Call::ReplyCommand { id: text_param(params, 0)?.to_owned(), reply: object_param(params, text, 1)? }
            }
            Self::SendMessage => match publication(params, text, settings)? {
                Some(publication) => Call::Publish(publication),
                None => return Ok(Plan::Refuse(Refusal::not_allowed())),
            },
            Self::SetCustomClientData => Call::SetClientData { data: object_param(params, text, 0)? },
        };
        Ok(Plan::Call(call))
    }

    /// Tells the client what came of a call.
    pub(super) fn answer(self, id: &str, outcome: Outcome, answers: &mut Answers<'_>, stamps: &Stamps) {
        let no_access = |error: &CallError| {
            matches!(
                error,
                CallError::BadRoomName(_)
                    | CallError::NoSuchRoom
                    | CallError::NotAuthorized
                    | CallError::NotMember(_)
                    | CallError::TooManyRooms
                    | CallError::TooManyRoomsOfConnection
            )
        };
        match outcome {
            Ok(answer) => self.answer_ok(id, answer, answers, stamps),
            // Joining twice is no error.
            Err(CallError::AlreadyMember(_)) if self == Self::JoinRoom => answers.result(id, |out| put(out, "true")),
            Err(error) if self == Self::LoadHistory && no_access(&error) => {
                answers.result(id, |out| put(out, "false"));
            }
            Err(error) => answers.refused(id, &Refusal::of_method(self, &error)),
        }
    }

    fn answer_ok(self, id: &str, answer: Answer, answers: &mut Answers<'_>, stamps: &Stamps) {
        match answer {
            Answer::OthersLoggedOut(LoggedIn { token, expires_ms, .. }) => answers.result(id, |out| {
                put(out, r#"{"token":"#);
                write_text(out, &token);
                put(out, r#","tokenExpires":"#);
                ejson::write_date(out, expires_ms);
                put(out, "}");
            }),
            Answer::ClientDataSet | Answer::Joined => answers.result(id, |out| put(out, "true")),
            Answer::CommandReplied(is_awaited) => {
                answers.result(id, |out| put(out, if is_awaited { "true" } else { "false" }));
            }
            Answer::RoomFound { room, .. } => match self {
                Self::CreateDirectMessage => answers.result(id, |out| {
                    put(out, r#"{"rid":"#);
                    write_text(out, &rooms::id_of(&room));
                    put(out, "}");
                }),
                Self::GetRoomNameById if room.direct_users().is_some() => answers.done(id),
                Self::GetRoomNameById => answers.result(id, |out| write_text(out, room.as_str())),
                _ => answers.result(id, |out| write_text(out, &rooms::id_of(&room))),
            },
            Answer::Published(message) => {
                let stamp_ms = stamps.next(message.sent_at);
                answers.result(id, |out| write_document(&message, stamp_ms, out));
            }
            Answer::History { messages, unread_not_loaded } => {
                answers.result(id, |out| write_history(&messages, unread_not_loaded, out));
            }
            // Nothing else is asked for, or there is nothing to return.
            _ => answers.done(id),
        }
    }
}

fn write_history(messages: &[RoomMessage], unread_not_loaded: usize, out: &mut Vec<u8>) {
    // With the clock of what is said now, old messages would look like the latest ones, a client that asks for what was before
    // them would be given them again, and each history would push that clock ahead for everybody.
    let stamps = Stamps::default();
    // They are listed from the newest on, and the oldest has the earliest time.
    let mut stamped: Vec<_> = messages.iter().rev().map(|message| (message, stamps.next(message.sent_at))).collect();
    stamped.reverse();
    put(out, r#"{"messages":["#);
    let mut separator = "";
    for (message, stamp_ms) in stamped {
        put(out, std::mem::replace(&mut separator, ","));
        write_document(message, stamp_ms, out);
    }
    put(out, r#"],"unreadNotLoaded":"#);
    write_number(out, unread_not_loaded as u64);
    put(out, "}");
}

fn text_param(params: &[Value], index: usize) -> Result<&str, Refusal> {
    params.get(index).and_then(Value::as_str).ok_or_else(Refusal::match_failed)
}

/// A parameter that is an object, as it was written.
fn object_param(params: &[Value], text: &str, index: usize) -> Result<RawJson, Refusal> {
    match (params.get(index), raw_param(text, index)) {
        (Some(Value::Object(_)), Some(raw)) => Ok(RawJson::from_parsed(raw)),
        _ => Err(Refusal::match_failed()),
    }
}

/// What is to be loaded; `None` if no room can be meant.
fn history(params: &[Value]) -> Result<Option<HistoryRange>, Refusal> {
    let date = |index| match params.get(index) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match ejson::read_date(value) {
            Some(ms) => Ok(Some(u64::try_from(ms).unwrap_or_default())),
            None => Err(Refusal::match_failed()),
        },
    };
    let limit = match params.get(2) {
        None | Some(Value::Null) => HISTORY,
        Some(limit) => limit.as_u64().ok_or_else(Refusal::match_failed)?,
    };
    let room = rooms::parse_id(text_param(params, 0)?);
    let (before_ms, unread_since_ms) = (date(1)?, date(3)?);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(room.map(|room| HistoryRange { room, before_ms, limit, unread_since_ms }))
}

/// What is to be said; `None` if no room can be meant.
fn publication(params: &[Value], text: &str, settings: &DdpSettings) -> Result<Option<Publication>, Refusal> {
    let attachment = object_param(params, text, 0)?;
    let message = params.first().and_then(Value::as_object).ok_or_else(Refusal::match_failed)?;
    let member = |name: &str| match message.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Refusal::match_failed()),
    };
    let room_id = member("rid")?.ok_or_else(Refusal::match_failed)?;
    let body = member("msg")?.unwrap_or_default();
    let id = member("_id")?;
    if id.is_some_and(|id| !(1..=MESSAGE_ID_MAX_BYTES).contains(&id.len())) {
        return Err(Refusal::match_failed());
    }
    let claimed_at = match message.get("ts") {
        None => None,
        Some(ts) => Some(ejson::read_date(ts).ok_or_else(Refusal::match_failed)?),
    };
    if body.chars().count() > settings.max_text_chars || attachment.as_str().len() > settings.max_document_bytes {
        return Err(Refusal::message_too_large());
    }
    Ok(rooms::parse_id(room_id).map(|room| Publication {
        room,
        body: RawJson::from_text(body),
        attachment: Some(attachment),
        id: id.map(str::to_owned),
        claimed_at,
    }))
}
