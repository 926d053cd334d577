//! What a message asks for.

use std::borrow::Cow;

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
    /// `None`: there is nothing to say.
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

/// Why a message is refused before what it asks for is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is no message, or a member of it is missing or wrong; in words for the client.
    Malformed(Cow<'static, str>),
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
    let malformed = |words: &'static str| (None, Wrong::Malformed(words.into()));
    let mut members = match json::parse(text, settings.json) {
        Ok(Value::Object(members)) => members,
        Ok(_) => return Err(malformed("a message must be a JSON object")),
        Err(error) => return Err((refused_number(text), Wrong::Malformed(error.to_string().into()))),
    };
    let Some(number) = members.get("type").and_then(whole) else {
        return Err(malformed("type must be a whole number"));
    };
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
        89 => Ok(Request::KeepAlive),
        _ => match (number, members.remove("d")) {
            (2 | 3, None | Some(Value::Null)) => Ok(Request::Ping { seq: None }),
            (1, Some(Value::Object(d))) => claim(d, text).map(Request::Register),
            (3, Some(Value::Object(d))) if d.contains_key("shard_id") => claim(d, text).map(Request::RegisterShard),
            (2 | 3, Some(Value::Object(d))) => number_of(&d, "seq").map(|seq| Request::Ping { seq }),
            (5 | 6, Some(Value::Object(d))) => match claim(d, text) {
                Ok(claim) if claim.session.is_none() => Err(Rule("session_id", "a string")),
                claim => claim.map(Request::Resume),
            },
            (9, Some(Value::Object(d))) => reply(d, text),
            (10, Some(Value::Object(d))) => room(d, text).map(Request::Room),
            _ => return Err(wrong(Wrong::Malformed("d must be an object".into()))),
        },
    };
    request.map(|request| (number, request)).map_err(|Rule(member, rule)| {
        let place = if number == 4 { "" } else { "d." };
        wrong(Wrong::Malformed(format!("{place}{member} must be {rule}").into()))
    })
}

/// The number of a message whose JSON is refused.
fn refused_number(text: &str) -> RequestType {
    let [number] = json::members(text, ["type"])?;
    whole(&serde_json::from_str(number?).ok()?)
}

/// A member, and what it must be.
#[derive(Debug, PartialEq, Eq)]
struct Rule(&'static str, &'static str);

fn interaction(members: &Map<String, Value>, text: &str) -> Result<Request, Rule> {
    let id = members.get("id").and_then(Value::as_str).ok_or(Rule("id", "a string"))?.to_owned();
    let is_object = members.get("data").is_some_and(Value::is_object);
    match json::members(text, ["data"]) {
        Some([Some(data)]) if is_object => Ok(Request::Interaction { id, data: RawJson::from_parsed(data) }),
        _ => Err(Rule("data", "an object")),
    }
}

fn claim(mut d: Map<String, Value>, text: &str) -> Result<Box<Claim>, Rule> {
    let (shard_in, shard_id) = (number_of(&d, "shard_in")?, number_of(&d, "shard_id")?);
    let client = match d.get("client") {
        None => None,
        Some(Value::Object(_)) => raw_of_d(text, "client"),
        Some(_) => return Err(Rule("client", "an object")),
    };
    Ok(Box::new(Claim {
        credentials: AppCredentials {
            id: None,
            public_key: text_of(&mut d, "public_key")?,
            secret: text_of(&mut d, "secret")?,
            is_forwarded: false,
        },
        shard: shard_in.or(shard_id),
        is_contradictory: shard_in.is_some() && shard_id.is_some() && shard_in != shard_id,
        total: number_of(&d, "shard_total")?,
        flags: number_of(&d, "flags")?,
        encode: match d.get("encode") {
            None => false,
            Some(encode) => encode.as_bool().ok_or(Rule("encode", "true or false"))?,
        },
        client,
        session: text_of(&mut d, "session_id")?.map(ShardSessionId::new),
        seq: number_of(&d, "seq")?,
    }))
}

fn reply(mut d: Map<String, Value>, text: &str) -> Result<Request, Rule> {
    let id = text_of(&mut d, "_id")?.ok_or(Rule("_id", "a string"))?;
    let reply = d.get("reply").filter(|reply| reply.is_object()).and_then(|_| raw_of_d(text, "reply"));
    Ok(Request::Reply { id, reply: reply.ok_or(Rule("reply", "an object"))? })
}

fn room(mut d: Map<String, Value>, text: &str) -> Result<RoomRequest, Rule> {
    /// Longest id of a message, in bytes.
    const MAX_ID_BYTES: usize = 256;
    let op = d.get("op").and_then(Value::as_str).and_then(RoomOp::parse);
    Ok(RoomRequest {
        op: op.ok_or(Rule("op", "join, leave or say"))?,
        room: text_of(&mut d, "room")?.ok_or(Rule("room", "a string"))?,
        message: raw_of_d(text, "message").filter(|message| !message.is_blank()),
        id: match text_of(&mut d, "id")? {
            Some(id) if id.len() > MAX_ID_BYTES => return Err(Rule("id", "at most 256 bytes long")),
            id => id,
        },
    })
}

/// A member of `d` as the client wrote it: its numbers and the order of its members are passed on unchanged.
fn raw_of_d(text: &str, name: &str) -> Option<RawJson> {
    let [d] = json::members(text, ["d"])?;
    let [member] = json::members(d?, [name])?;
    member.map(RawJson::from_parsed)
}

/// A whole number, however large.
fn whole(value: &Value) -> Option<i128> {
    value.as_u64().map(i128::from).or_else(|| value.as_i64().map(i128::from))
}

/// A member that is a whole number from 0 on, if it is there.
fn number_of(members: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, Rule> {
    match members.get(name) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(Rule(name, "a whole number, 0 or more")),
    }
}

/// A member that is a text, if it is there.
fn text_of(members: &mut Map<String, Value>, name: &'static str) -> Result<Option<String>, Rule> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Rule(name, "a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, (RequestType, Wrong)> {
        parse(text, &GatewaySettings::default()).map(|(_, request)| request)
    }

    #[test]
    fn a_wrong_message_is_refused_with_the_member_that_is_wrong() {
        for (text, number, words) in [
            ("{not json", None, "not JSON: "),
            ("[]", None, "a message must be a JSON object"),
            ("{}", None, "type must be a whole number"),
            (r#"{"type":"3"}"#, None, "type must be a whole number"),
            (r#"{"type":3.0}"#, None, "type must be a whole number"),
            (r#"{"type":null}"#, None, "type must be a whole number"),
            (r#"{"type":3,"type":4}"#, Some(4), "a JSON object names a member twice"),
            (r#"{"type":4,"id":"1","data":{"n":1e999}}"#, Some(4), "a number in JSON is out of range"),
            (r#"{"type":1}"#, Some(1), "d must be an object"),
            (r#"{"type":1,"d":null}"#, Some(1), "d must be an object"),
            (r#"{"type":1,"d":[]}"#, Some(1), "d must be an object"),
            (r#"{"type":1,"d":{"public_key":1}}"#, Some(1), "d.public_key must be a string"),
            (r#"{"type":1,"d":{"shard_in":-1}}"#, Some(1), "d.shard_in must be a whole number, 0 or more"),
            (r#"{"type":1,"d":{"shard_in":"0"}}"#, Some(1), "d.shard_in must be"),
            (r#"{"type":1,"d":{"shard_in":1.0}}"#, Some(1), "d.shard_in must be"),
            (r#"{"type":1,"d":{"flags":"0"}}"#, Some(1), "d.flags must be"),
            (r#"{"type":1,"d":{"shard_total":null}}"#, Some(1), "d.shard_total must be"),
            (r#"{"type":1,"d":{"encode":1}}"#, Some(1), "d.encode must be true or false"),
            (r#"{"type":1,"d":{"client":[]}}"#, Some(1), "d.client must be an object"),
            (r#"{"type":1,"d":{"secret":{}}}"#, Some(1), "d.secret must be a string"),
            (r#"{"type":2,"d":1}"#, Some(2), "d must be an object"),
            (r#"{"type":3,"d":"x"}"#, Some(3), "d must be an object"),
            (r#"{"type":3,"d":{"seq":-1}}"#, Some(3), "d.seq must be"),
            (r#"{"type":3,"d":{"shard_id":null}}"#, Some(3), "d.shard_id must be"),
            (r#"{"type":4}"#, Some(4), "id must be a string"),
            (r#"{"type":4,"id":1,"data":{}}"#, Some(4), "id must be a string"),
            (r#"{"type":4,"id":"1"}"#, Some(4), "data must be an object"),
            (r#"{"type":4,"id":"1","data":"x"}"#, Some(4), "data must be an object"),
            (r#"{"type":5,"d":{}}"#, Some(5), "d.session_id must be a string"),
            (r#"{"type":6,"d":{"session_id":1}}"#, Some(6), "d.session_id must be a string"),
            (r#"{"type":5,"d":{"session_id":"x","seq":"1"}}"#, Some(5), "d.seq must be"),
            (r#"{"type":9}"#, Some(9), "d must be an object"),
            (r#"{"type":9,"d":{"_id":"x"}}"#, Some(9), "d.reply must be an object"),
            (r#"{"type":9,"d":{"reply":{}}}"#, Some(9), "d._id must be a string"),
            (r#"{"type":9,"d":{"_id":"x","reply":true}}"#, Some(9), "d.reply must be an object"),
            (r#"{"type":10}"#, Some(10), "d must be an object"),
            (r#"{"type":10,"d":{"op":"fly","room":"r"}}"#, Some(10), "d.op must be join, leave or say"),
            (r#"{"type":10,"d":{"op":"join"}}"#, Some(10), "d.room must be a string"),
            (r#"{"type":10,"d":{"op":"say","room":"r","message":1,"id":2}}"#, Some(10), "d.id must be a string"),
        ] {
            match read(text) {
                Err((of, Wrong::Malformed(said))) => {
                    assert!(of == number && said.starts_with(words), "{text}: {of:?} {said}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        for (text, number) in [
            (r#"{"type":0}"#, 0),
            (r#"{"type":-1}"#, -1),
            (r#"{"type":7}"#, 7),
            (r#"{"type":8,"d":1}"#, 8),
            (r#"{"type":18446744073709551615}"#, 18_446_744_073_709_551_615),
        ] {
            assert_eq!(read(text), Err((Some(number), Wrong::UnknownType)), "{text}");
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
        let too_deep = Wrong::Malformed("JSON is nested deeper than 64 levels".into());
        assert_eq!(read(&nested(64)), Err((Some(3), too_deep)));
    }
}
