//! Events as applications publish them over HTTP: what they send, and what they are told.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use switchboard_proto::json::{self, JsonLimits, RawJson};

use crate::backend::sessions::shards::{PublishedEvent, ShardTarget};
use crate::node::gateway::events::NewEvent;

/// An event as it is written. A member that we do not know is refused: it may be a misspelt target.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    guild_id: Option<Value>,
    shard_id: Option<u32>,
    broadcast: Option<bool>,
    development: Option<bool>,
    id: Option<String>,
}

/// Reads the body of a publication. `None`: it is none.
pub(super) fn read(body: &[u8], limits: JsonLimits) -> Option<NewEvent> {
    let text = std::str::from_utf8(body).ok()?;
    // Limits, and members that are there twice.
    json::parse(text, limits).ok()?;
    let written: Written<'_> = serde_json::from_str(text).ok()?;
    let broadcast = written.broadcast.unwrap_or_default();
    let to = match (written.guild_id, written.shard_id, broadcast) {
        (Some(guild), None, false) => ShardTarget::Guild(guild_number(&guild)?),
        (None, Some(shard), false) => ShardTarget::Shard(shard),
        (None, None, true) => ShardTarget::All,
        (None, None, false) => ShardTarget::Shard(0),
        _ => return None,
    };
    Some(NewEvent {
        name: written.event.into_owned(),
        data: RawJson::from_parsed(written.data.map_or("null", RawValue::get)),
        to,
        development: written.development.unwrap_or_default(),
        id: written.id,
    })
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
        read(format!(r#"{{"event":"X"{members}}}"#).as_bytes(), JsonLimits::default()).map(|event| event.to)
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let body = br#"{"event":"ORDER_CREATED","data":{"n" : 1.50,"a":"\u00e9 x"},"development":true,"id":"k"}"#;
        let event = read(body, JsonLimits::default()).unwrap();
        assert_eq!((event.name.as_str(), event.data.as_str()), ("ORDER_CREATED", r#"{"n":1.50,"a":"\u00e9 x"}"#));
        assert_eq!((event.to, event.development, event.id.as_deref()), (ShardTarget::Shard(0), true, Some("k")));
        let event = read(br#"{"event":"X"}"#, JsonLimits::default()).unwrap();
        assert_eq!((event.data.as_str(), event.development, event.id), ("null", false, None));
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
            assert!(read(wrong.as_bytes(), JsonLimits::default()).is_none(), "{:?}", &wrong[..wrong.len().min(40)]);
        }
        assert!(read(b"{\"event\":\"\xff\"}", JsonLimits::default()).is_none());
    }
}
