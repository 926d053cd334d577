//! What a message asks for.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::json::{self, RawJson};
use crate::shard::{AppCredentials, ShardSessionId};

use super::settings::GatewaySettings;

/// A message, read.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    Register(Box<Claim>),
    /// The other kind of registration.
    RegisterShard(Box<Claim>),
    Resume(Box<Claim>),
    Ping {
        /// The last event that the client has dealt with, if it says so.
        seq: Option<u64>,
    },
    /// A ping that is not answered.
    KeepAlive,
    /// What a shard answers to an interaction.
    Interaction {
        id: String,
        data: RawJson,
    },
    /// The reply to a client command.
    Reply {
        id: String,
        reply: RawJson,
    },
    Room(RoomRequest),
}

/// What registrations and resumes say.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Claim {
    /// Without an application's id, which only headers have.
    pub(super) credentials: AppCredentials,
    pub(super) shard: Option<u64>,
    /// Both names of the shard are there and name different ones.
    pub(super) is_contradictory: bool,
    pub(super) total: Option<u64>,
    pub(super) flags: Option<u64>,
    /// Messages are to be compressed from the answer on.
    pub(super) encode: bool,
    pub(super) client: Option<RawJson>,
    /// A resume has one.
    pub(super) session: Option<ShardSessionId>,
    pub(super) seq: Option<u64>,
}

/// What is asked about a room.
#[derive(Debug, PartialEq)]
pub(super) struct RoomRequest {
    pub(super) op: RoomOp,
    /// As the client wrote it.
    pub(super) room: String,
    /// `None` or blank: there is nothing to say.
    pub(super) message: Option<RawJson>,
    pub(super) id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoomOp {
    Join,
    Leave,
    Say,
}

impl RoomOp {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "join" => Self::Join,
            "leave" => Self::Leave,
            "say" => Self::Say,
            _ => return None,
        })
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Say => "say",
        }
    }
}

/// Why a message is refused before anybody looks at what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Not JSON, not an object, or what belongs to its type is missing or wrong.
    Malformed,
    UnknownType,
    /// Longer than a message of its type may be.
    TooLarge,
    /// Longer than any message may be.
    TooLong,
}

/// The number of a message that is refused, if it has one.
pub(super) type RequestType = Option<i128>;

/// Reads a message: its number and what it asks for.
///
/// # Errors
///
/// Why it is refused, and its number if it has one.
pub(super) fn parse(text: &str, settings: &GatewaySettings) -> Result<(i128, Request), (RequestType, Wrong)> {
    let Ok(Value::Object(mut members)) = json::parse(text, settings.json) else {
        return Err((None, Wrong::Malformed));
    };
    let Some(number) = members.get("type").and_then(whole) else { return Err((None, Wrong::Malformed)) };
    let wrong = |wrong| (Some(number), wrong);
    let is_known = matches!(number, 1..=6 | 9 | 10 | 89);
    if !is_known {
        return Err(wrong(Wrong::UnknownType));
    }
    if !matches!(number, 4 | 9 | 10) && text.len() > settings.max_control_bytes {
        return Err(wrong(Wrong::TooLarge));
    }
    let request = match number {
        4 => interaction(&members, text),
        89 => Some(Request::KeepAlive),
        _ => match (number, members.remove("d")) {
            (2 | 3, None | Some(Value::Null)) => Some(Request::Ping { seq: None }),
            (1, Some(Value::Object(d))) => claim(d, text).map(Request::Register),
            (3, Some(Value::Object(d))) if d.contains_key("shard_id") => claim(d, text).map(Request::RegisterShard),
            (2 | 3, Some(Value::Object(d))) => number_of(&d, "seq").map(|seq| Request::Ping { seq }),
            (5 | 6, Some(Value::Object(d))) => {
                claim(d, text).filter(|claim| claim.session.is_some()).map(Request::Resume)
            }
            (9, Some(Value::Object(d))) => reply(d, text),
            (10, Some(Value::Object(d))) => room(d, text).map(Request::Room),
            _ => None,
        },
    };
    request.map(|request| (number, request)).ok_or(wrong(Wrong::Malformed))
}

fn interaction(members: &Map<String, Value>, text: &str) -> Option<Request> {
    let id = members.get("id")?.as_str()?.to_owned();
    members.get("data")?.as_object()?;
    Some(Request::Interaction { id, data: raw(Raw::read(text)?.data)? })
}

fn claim(mut d: Map<String, Value>, text: &str) -> Option<Box<Claim>> {
    let (shard_in, shard_id) = (number_of(&d, "shard_in")?, number_of(&d, "shard_id")?);
    let client = match d.get("client") {
        None => None,
        Some(Value::Object(_)) => Some(raw(Raw::read(text)?.d?.client)?),
        Some(_) => return None,
    };
    Some(Box::new(Claim {
        credentials: AppCredentials {
            id: None,
            public_key: text_of(&mut d, "public_key")?,
            secret: text_of(&mut d, "secret")?,
        },
        shard: shard_in.or(shard_id),
        is_contradictory: shard_in.is_some() && shard_id.is_some() && shard_in != shard_id,
        total: number_of(&d, "shard_total")?,
        flags: number_of(&d, "flags")?,
        encode: match d.get("encode") {
            None => false,
            Some(encode) => encode.as_bool()?,
        },
        client,
        session: text_of(&mut d, "session_id")?.map(ShardSessionId::new),
        seq: number_of(&d, "seq")?,
    }))
}

fn reply(mut d: Map<String, Value>, text: &str) -> Option<Request> {
    d.get("reply")?.as_object()?;
    Some(Request::Reply { id: text_of(&mut d, "_id")??, reply: raw(Raw::read(text)?.d?.reply)? })
}

fn room(mut d: Map<String, Value>, text: &str) -> Option<RoomRequest> {
    /// Longest id of a message, in bytes.
    const MAX_ID_BYTES: usize = 256;
    Some(RoomRequest {
        op: RoomOp::parse(d.get("op")?.as_str()?)?,
        room: text_of(&mut d, "room")??,
        message: raw(Raw::read(text)?.d?.message),
        id: match text_of(&mut d, "id")? {
            Some(id) if id.len() > MAX_ID_BYTES => return None,
            id => id,
        },
    })
}

/// The parts of a message that are passed on as they were written: numbers and the order of members are not ours to change.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    d: Option<RawData<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawData<'a> {
    #[serde(borrow)]
    client: Option<&'a RawValue>,
    #[serde(borrow)]
    reply: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

impl<'a> Raw<'a> {
    fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

fn raw(value: Option<&RawValue>) -> Option<RawJson> {
    value.map(|value| RawJson::from_parsed(value.get()))
}

/// A whole number, however large.
fn whole(value: &Value) -> Option<i128> {
    value.as_u64().map(i128::from).or_else(|| value.as_i64().map(i128::from))
}

/// A member that is a whole number from 0 on, if it is there; `None` if it is something else.
fn number_of(members: &Map<String, Value>, name: &str) -> Option<Option<u64>> {
    match members.get(name) {
        None => Some(None),
        Some(value) => value.as_u64().map(Some),
    }
}

/// A member that is a text, if it is there; `None` if it is something else.
fn text_of(members: &mut Map<String, Value>, name: &str) -> Option<Option<String>> {
    match members.remove(name) {
        None => Some(None),
        Some(Value::String(text)) => Some(Some(text)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, (RequestType, Wrong)> {
        parse(text, &GatewaySettings::default()).map(|(_, request)| request)
    }

    #[test]
    fn what_is_wrong_in_itself_is_told_apart() {
        for (text, number, wrong) in [
            ("{not json", None, Wrong::Malformed),
            ("[]", None, Wrong::Malformed),
            ("{}", None, Wrong::Malformed),
            (r#"{"type":"3"}"#, None, Wrong::Malformed),
            (r#"{"type":3.0}"#, None, Wrong::Malformed),
            (r#"{"type":null}"#, None, Wrong::Malformed),
            (r#"{"type":3,"type":3}"#, None, Wrong::Malformed),
            (r#"{"type":0}"#, Some(0), Wrong::UnknownType),
            (r#"{"type":-1}"#, Some(-1), Wrong::UnknownType),
            (r#"{"type":7}"#, Some(7), Wrong::UnknownType),
            (r#"{"type":8,"d":1}"#, Some(8), Wrong::UnknownType),
            (r#"{"type":18446744073709551615}"#, Some(18_446_744_073_709_551_615), Wrong::UnknownType),
            (r#"{"type":1}"#, Some(1), Wrong::Malformed),
            (r#"{"type":1,"d":null}"#, Some(1), Wrong::Malformed),
            (r#"{"type":1,"d":[]}"#, Some(1), Wrong::Malformed),
            (r#"{"type":1,"d":{"public_key":1}}"#, Some(1), Wrong::Malformed),
            (r#"{"type":1,"d":{"shard_in":-1}}"#, Some(1), Wrong::Malformed),
            (r#"{"type":1,"d":{"shard_in":"0"}}"#, Some(1), Wrong::Malformed),
            (r#"{"type":1,"d":{"shard_in":1.0}}"#, Some(1), Wrong::Malformed),
            (r#"{"type":1,"d":{"flags":"0"}}"#, Some(1), Wrong::Malformed),
            (r#"{"type":1,"d":{"shard_total":null}}"#, Some(1), Wrong::Malformed),
            (r#"{"type":1,"d":{"encode":1}}"#, Some(1), Wrong::Malformed),
            (r#"{"type":1,"d":{"client":[]}}"#, Some(1), Wrong::Malformed),
            (r#"{"type":1,"d":{"secret":{}}}"#, Some(1), Wrong::Malformed),
            (r#"{"type":2,"d":1}"#, Some(2), Wrong::Malformed),
            (r#"{"type":3,"d":"x"}"#, Some(3), Wrong::Malformed),
            (r#"{"type":3,"d":{"seq":-1}}"#, Some(3), Wrong::Malformed),
            (r#"{"type":3,"d":{"shard_id":null}}"#, Some(3), Wrong::Malformed),
            (r#"{"type":4}"#, Some(4), Wrong::Malformed),
            (r#"{"type":4,"id":1,"data":{}}"#, Some(4), Wrong::Malformed),
            (r#"{"type":4,"id":"1"}"#, Some(4), Wrong::Malformed),
            (r#"{"type":4,"id":"1","data":"x"}"#, Some(4), Wrong::Malformed),
            (r#"{"type":5,"d":{}}"#, Some(5), Wrong::Malformed),
            (r#"{"type":6,"d":{"session_id":1}}"#, Some(6), Wrong::Malformed),
            (r#"{"type":5,"d":{"session_id":"x","seq":"1"}}"#, Some(5), Wrong::Malformed),
            (r#"{"type":9}"#, Some(9), Wrong::Malformed),
            (r#"{"type":9,"d":{"_id":"x"}}"#, Some(9), Wrong::Malformed),
            (r#"{"type":9,"d":{"reply":{}}}"#, Some(9), Wrong::Malformed),
            (r#"{"type":9,"d":{"_id":"x","reply":true}}"#, Some(9), Wrong::Malformed),
            (r#"{"type":10}"#, Some(10), Wrong::Malformed),
            (r#"{"type":10,"d":{"op":"fly","room":"r"}}"#, Some(10), Wrong::Malformed),
            (r#"{"type":10,"d":{"op":"join"}}"#, Some(10), Wrong::Malformed),
            (r#"{"type":10,"d":{"op":"say","room":"r","message":1,"id":2}}"#, Some(10), Wrong::Malformed),
        ] {
            assert_eq!(read(text), Err((number, wrong)), "{text}");
        }
    }

    #[test]
    fn pings_have_many_forms() {
        let ping = |seq| Ok(Request::Ping { seq });
        assert_eq!(read(r#"{"type":3}"#), ping(None));
        assert_eq!(read(r#"{"type":2}"#), ping(None));
        assert_eq!(read(r#"{"type":3,"d":null}"#), ping(None));
        assert_eq!(read(r#"{"type":3,"d":{},"x":[1]}"#), ping(None));
        assert_eq!(read(r#"{"type":3,"d":{"seq":41,"x":null}}"#), ping(Some(41)));
        assert_eq!(read(r#"{"type":2,"d":{"shard_id":1}}"#), ping(None));
        assert_eq!(read(r#"{"type":89,"message":""}"#), Ok(Request::KeepAlive));
        let claim = Claim { shard: Some(1), ..Claim::default() };
        assert_eq!(read(r#"{"type":3,"d":{"shard_id":1}}"#), Ok(Request::RegisterShard(Box::new(claim))));
    }

    #[test]
    fn a_shard_has_two_names_that_must_not_contradict() {
        let contradicts = |text| match read(text) {
            Ok(Request::Register(claim)) => claim.is_contradictory,
            other => panic!("{other:?}"),
        };
        assert!(!contradicts(r#"{"type":1,"d":{"shard_in":1,"shard_id":1}}"#));
        assert!(contradicts(r#"{"type":1,"d":{"shard_in":1,"shard_id":2}}"#));
    }

    #[test]
    fn what_is_passed_on_is_passed_on_as_it_was_written() {
        let json = r#"{"z":1.0,"a":1e2,"n":12345678901234567890123}"#;
        let raw = || RawJson::from_parsed(json);
        assert_eq!(
            read(&format!(r#"{{"type":4,"id":"i","data":{json}}}"#)),
            Ok(Request::Interaction { id: "i".into(), data: raw() })
        );
        assert_eq!(
            read(&format!(r#"{{"type":9,"d":{{"_id":"i","reply":{json}}}}}"#)),
            Ok(Request::Reply { id: "i".into(), reply: raw() })
        );
        let claim = Claim { client: Some(raw()), ..Claim::default() };
        assert_eq!(read(&format!(r#"{{"type":1,"d":{{"client":{json}}}}}"#)), Ok(Request::Register(Box::new(claim))));
        let room = |message| {
            Ok(Request::Room(RoomRequest { op: RoomOp::Say, room: "r".into(), message, id: Some("i".into()) }))
        };
        let say = |message| format!(r#"{{"type":10,"d":{{"op":"say","room":"r","id":"i"{message}}}}}"#);
        assert_eq!(read(&say(format!(r#","message":{json}"#))), room(Some(raw())));
        assert_eq!(read(&say(r#","message":null"#.into())), room(None));
        assert_eq!(read(&say(String::new())), room(None));
    }

    #[test]
    fn what_is_secret_is_never_printed() {
        let text =
            r#"{"type":5,"d":{"public_key":"canary-key","secret":"canary-secret","session_id":"canary-session"}}"#;
        let printed = format!("{:?}", read(text));
        assert!(printed.contains("Resume") && !printed.contains("canary"), "{printed}");
    }

    #[test]
    fn fault_row_6_length_nesting_and_ids_have_their_limits() {
        let long = "x".repeat(4096);
        for number in [1, 2, 3, 5, 6, 89] {
            assert_eq!(
                read(&format!(r#"{{"type":{number},"x":"{long}"}}"#)),
                Err((Some(number), Wrong::TooLarge)),
                "{number}"
            );
        }
        assert!(read(&format!(r#"{{"type":4,"id":"1","data":{{"x":"{long}"}}}}"#)).is_ok());
        assert!(read(&format!(r#"{{"type":9,"d":{{"_id":"1","reply":{{"x":"{long}"}}}}}}"#)).is_ok());
        assert!(read(&format!(r#"{{"type":10,"d":{{"op":"say","room":"r","message":"{long}"}}}}"#)).is_ok());
        let id = "x".repeat(257);
        assert!(read(&format!(r#"{{"type":10,"d":{{"op":"say","room":"r","id":"{id}"}}}}"#)).is_err());
        let nested = |levels| format!(r#"{{"type":3,"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert!(read(&nested(63)).is_ok());
        assert_eq!(read(&nested(64)), Err((None, Wrong::Malformed)));
    }
}
