//! Events as applications publish them over HTTP: what they send, and what they are told.

use std::borrow::Cow;

use serde_json::Value;
use switchboard_proto::json::{self, JsonLimits, RawJson};

use crate::backend::sessions::shards::{PublishedEvent, ShardTarget};
use crate::node::gateway::events::NewEvent;

/// Reads the body of a publication.
///
/// # Errors
///
/// In words for the publisher: the member that is wrong, and what it must be.
pub(super) fn read(body: &[u8], limits: JsonLimits) -> Result<NewEvent, Cow<'static, str>> {
    let text = std::str::from_utf8(body).map_err(|_| "the body must be UTF-8")?;
    let text = json::to_well_formed(text);
    let Value::Object(mut members) = json::parse(&text, limits).map_err(|error| error.to_string())? else {
        return Err("the body must be a JSON object".into());
    };
    let mut take = |name: &str| members.remove(name).filter(|value| !value.is_null());
    let Some(Value::String(name)) = take("event") else { return Err("event must be a string".into()) };
    let id = match take("id") {
        None => None,
        Some(Value::String(id)) => Some(id),
        Some(_) => return Err("id must be a string".into()),
    };
    let guild = take("guild_id")
        .map(|guild| guild_number(&guild).ok_or("guild_id must be a whole number, as a string or a number"));
    let shard = take("shard_id").map(|shard| shard_number(&shard).ok_or("shard_id must be a whole number below 2^32"));
    let broadcast = flag(take("broadcast")).ok_or("broadcast must be true or false")?;
    let development = flag(take("development")).ok_or("development must be true or false")?;
    let to = match (guild.transpose()?, shard.transpose()?, broadcast) {
        (Some(guild), None, false) => ShardTarget::Guild(guild),
        (None, Some(shard), false) => ShardTarget::Shard(shard),
        (None, None, true) => ShardTarget::All,
        (None, None, false) => ShardTarget::Shard(0),
        _ => return Err("only one of guild_id, shard_id and broadcast may name the target".into()),
    };
    // Its text is kept as it was written.
    let _ = take("data");
    if let Some(name) = members.keys().next() {
        // It may be a misspelt target.
        let name: String = name.chars().take(MAX_SHOWN_CHARS).collect();
        return Err(format!("unknown member {name:?}: the members are {MEMBERS}").into());
    }
    let data = json::members(&text, ["data"]).and_then(|[data]| data);
    Ok(NewEvent { name, data: RawJson::from_parsed(data.unwrap_or("null")), to, development, id })
}

const MEMBERS: &str = "event, data, guild_id, shard_id, broadcast, development and id";

/// Longest part of an unknown member's name that is sent back.
const MAX_SHOWN_CHARS: usize = 64;

fn shard_number(shard: &Value) -> Option<u32> {
    u32::try_from(shard.as_u64()?).ok()
}

/// A member that may be left out.
fn flag(value: Option<Value>) -> Option<bool> {
    value.map_or(Some(false), |value| value.as_bool())
}

/// A guild's id: a text, since not every language has such numbers, or a number.
fn guild_number(guild: &Value) -> Option<u64> {
    match guild {
        Value::String(text) => text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten(),
        guild => guild.as_u64(),
    }
}

/// What a publisher is told.
pub(super) fn accepted(published: &PublishedEvent) -> Vec<u8> {
    let deliveries: Vec<String> = published
        .deliveries
        .iter()
        .map(|delivery| format!(r#"{{"shard_id":{},"s":{}}}"#, delivery.shard, delivery.seq))
        .collect();
    format!(r#"{{"accepted":true,"deliveries":[{}]}}"#, deliveries.join(",")).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(members: &str) -> Option<ShardTarget> {
        read(format!(r#"{{"event":"X"{members}}}"#).as_bytes(), JsonLimits::default()).map(|event| event.to).ok()
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let body = br#"{"event":"ORDER_CREATED","data":{"n" : 1.50,"a":"\u00e9 x"},"development":true,"id":"k"}"#;
        let event = read(body, JsonLimits::default()).unwrap();
        assert_eq!((event.name.as_str(), event.data.as_str()), ("ORDER_CREATED", r#"{"n":1.50,"a":"\u00e9 x"}"#));
        assert_eq!((event.to, event.development, event.id.as_deref()), (ShardTarget::Shard(0), true, Some("k")));
        let event = read(br#"{"event":"X"}"#, JsonLimits::default()).unwrap();
        assert_eq!((event.data.as_str(), event.development, event.id), ("null", false, None));
        let halves = br#"{"event":"X","data":["\ud83d",1.50],"id":"\ude00"}"#;
        let event = read(halves, JsonLimits::default()).unwrap();
        assert_eq!((event.data.as_str(), event.id.as_deref()), (r#"["\ufffd",1.50]"#, Some("\u{fffd}")));
    }

    #[test]
    fn a_refused_publication_names_the_member_and_its_rule() {
        for (body, words) in [
            ("", "not JSON: EOF while parsing a value at line 1 column 0"),
            ("[]", "the body must be a JSON object"),
            ("{}", "event must be a string"),
            (r#"{"event":7}"#, "event must be a string"),
            (r#"{"event":"X","event":"X"}"#, "a JSON object names a member twice"),
            (r#"{"event":"X","id":7}"#, "id must be a string"),
            (r#"{"event":"X","guild_id":"+1"}"#, "guild_id must be a whole number, as a string or a number"),
            (r#"{"event":"X","shard_id":-1}"#, "shard_id must be a whole number below 2^32"),
            (r#"{"event":"X","broadcast":1}"#, "broadcast must be true or false"),
            (r#"{"event":"X","development":"true"}"#, "development must be true or false"),
            (
                r#"{"event":"X","shard_id":1,"guild_id":1}"#,
                "only one of guild_id, shard_id and broadcast may name the target",
            ),
            (
                r#"{"event":"X","guildid":"1"}"#,
                r#"unknown member "guildid": the members are event, data, guild_id, shard_id, broadcast, development and id"#,
            ),
        ] {
            assert_eq!(read(body.as_bytes(), JsonLimits::default()).unwrap_err(), words, "{body}");
        }
        let long = format!(r#"{{"event":"X","{}":1}}"#, "n".repeat(1000));
        assert!(read(long.as_bytes(), JsonLimits::default()).unwrap_err().len() < 200);
    }

    #[test]
    fn an_event_has_one_target_at_most() {
        assert_eq!(target(r#","guild_id":"81384788765712384""#), Some(ShardTarget::Guild(81_384_788_765_712_384)));
        assert_eq!(target(r#","guild_id":7"#), Some(ShardTarget::Guild(7)));
        assert_eq!(target(r#","shard_id":3"#), Some(ShardTarget::Shard(3)));
        assert_eq!(target(r#","broadcast":true"#), Some(ShardTarget::All));
        assert_eq!(target(r#","shard_id":3,"broadcast":false,"guild_id":null"#), Some(ShardTarget::Shard(3)));
        for wrong in [
            r#","guild_id":"1","shard_id":0"#,
            r#","guild_id":"1","broadcast":true"#,
            r#","shard_id":0,"broadcast":true"#,
            r#","guild_id":"""#,
            r#","guild_id":"+1""#,
            r#","guild_id":"18446744073709551616""#,
            r#","guild_id":-1"#,
            r#","shard_id":-1"#,
            r#","shard_id":1.5"#,
            r#","shard_id":"0""#,
            r#","shard_id":4294967296"#,
            r#","broadcast":1"#,
            r#","development":"true""#,
            r#","id":7"#,
            r#","event":"Y""#,
            r#","guildid":"1""#,
        ] {
            assert_eq!(target(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn fault_row_6_what_is_no_object_within_the_limits_is_no_event() {
        let deep = format!(r#"{{"event":"X","data":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        for wrong in ["", "x", "[]", "null", "{}", r#"{"event":7}"#, r#"{"data":1}"#, r#"{"event":"X"}{}"#, &deep] {
            assert!(read(wrong.as_bytes(), JsonLimits::default()).is_err(), "{:?}", &wrong[..wrong.len().min(40)]);
        }
        assert!(read(b"{\"event\":\"\xff\"}", JsonLimits::default()).is_err());
    }
}
