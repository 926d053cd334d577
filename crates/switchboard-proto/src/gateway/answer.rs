//! The shapes of what a client is sent: JSON, each a message.

use crate::command::CommandDelivery;
use crate::json::{write_number, write_number_or_null, write_text};
use crate::shard::{Began, FleetShard, ShardSessionId};

use super::errors::Refusal;

/// What a resume that cannot succeed is answered, whyever.
pub(super) const INVALID: &str = r#"{"type":1,"service":"gateway","event":"GATEWAY_INVALID","data":{"session_id":null,"application_bot":null,"shards_config":[],"shards_stats":[]}}"#;

/// The answer to a ping.
pub(super) const PING: &str = r#"{"type":3,"service":"gateway","event":"GATEWAY_PING","data":{}}"#;

/// The only message that may come before the client's first.
pub(super) fn hello(out: &mut Vec<u8>, is_starting: bool, heartbeat_ms: u64) {
    put(
        out,
        r#"{"type":1,"service":"gateway","event":"GATEWAY_HELLO","possible_error":false,"message":"","rate_limit":true,"data":{"starting_shards":"#,
    );
    put_bool(out, is_starting);
    put(out, r#","heartbeat_interval":"#);
    write_number(out, heartbeat_ms);
    put(out, "}}");
}

/// GATEWAY_READY, or under another name GATEWAY_RESUMED.
pub(super) fn ready(out: &mut Vec<u8>, event: &str, began: &Began) {
    put(out, r#"{"type":1,"service":"gateway","event":""#);
    put(out, event);
    put(out, r#"","data":{"application_bot":{"flags":"#);
    write_number(out, 1 | (began.flags & 3) << 1);
    put(out, r#","id":"#);
    write_text(out, &began.application);
    put(out, r#","public_key":"[REDACTED]"},"session_id":"#);
    write_text(out, began.session.as_str());
    // How deep these lists are is fixed by the protocol and means nothing.
    put(out, r#","shards_config":[[["#);
    list(out, &began.fleet, |out, shard| {
        out.push(b'[');
        write_number(out, shard.shard.into());
        out.push(b',');
        write_number(out, began.shard_total.into());
        out.push(b']');
    });
    put(out, r#"]]],"shards_stats":[[[[[[["#);
    list(out, &began.fleet, shard);
    put(out, "]]]]]]]}}");
}

/// The answer to a registration of the other kind.
pub(super) fn shard_info(out: &mut Vec<u8>, fleet: &[FleetShard], session: &ShardSessionId) {
    put(out, r#"{"type":1,"service":"gateway","event":"GATEWAY_SHARD_INFO","data":[[[["#);
    list(out, fleet, shard);
    put(out, r#"]]]],"session_id":"#);
    write_text(out, session.as_str());
    put(out, "}");
}

fn shard(out: &mut Vec<u8>, shard: &FleetShard) {
    put(out, r#"{"development":"#);
    put_bool(out, shard.development);
    put(out, r#","disconnected":"#);
    put_bool(out, shard.disconnected);
    put(out, r#","receibe_ping":"#);
    write_number(out, shard.counts.pings);
    put(out, r#","received":"#);
    write_number(out, shard.counts.received);
    put(out, r#","send_ping":"#);
    write_number(out, shard.counts.pongs);
    put(out, r#","sending":"#);
    write_number(out, shard.counts.sent);
    put(out, r#","shard_hash":""#);
    put(out, shard.hash.text().as_str());
    put(out, r#"","shard_id":"#);
    write_number(out, shard.shard.into());
    put(out, "}");
}

/// An error, in these words. `request_type` is the number of the message that is refused, if there is one.
pub(super) fn error(out: &mut Vec<u8>, refusal: &Refusal, words: &str, request_type: Option<i128>) {
    put(out, r#"{"type":2,"service":"gateway","event":"GATEWAY_ERROR","possible_error":true,"message":"#);
    write_text(out, words);
    put(out, r#","rate_limit":"#);
    put_bool(out, refusal.is_about_rate());
    put(out, r#","data":{"code":"#);
    write_number(out, refusal.code.into());
    put(out, r#","reason":"#);
    write_text(out, refusal.reason);
    put(out, r#","request_type":"#);
    match request_type {
        Some(number) => put(out, &number.to_string()),
        None => put(out, "null"),
    }
    put(out, r#","retry_after_ms":"#);
    match refusal.retry_ms {
        Some(retry_ms) => write_number(out, retry_ms),
        None => put(out, "null"),
    }
    put(out, "}}");
}

/// The server stops: come back after this time.
pub(super) fn reconnect(out: &mut Vec<u8>, after_ms: u64) {
    put(out, r#"{"type":7,"service":"gateway","event":"GATEWAY_RECONNECT","data":{"reconnect_after_ms":"#);
    write_number(out, after_ms);
    put(out, "}}");
}

/// All that was missed up to `last` has been sent; the client had all up to `after`.
pub(super) fn replayed(out: &mut Vec<u8>, after: u64, last: u64) {
    let count = last.saturating_sub(after);
    put(out, r#"{"type":8,"service":"gateway","event":"GATEWAY_REPLAYED","data":{"from":"#);
    write_number(out, if count == 0 { after } else { after + 1 });
    put(out, r#","to":"#);
    write_number(out, if count == 0 { after } else { last });
    put(out, r#","count":"#);
    write_number(out, count);
    put(out, "}}");
}

/// A client command.
pub(super) fn command(out: &mut Vec<u8>, delivery: &CommandDelivery) {
    let document = &*delivery.document;
    put(out, r#"{"type":9,"service":"gateway","event":"GATEWAY_COMMAND","data":{"_id":"#);
    write_text(out, document.id.as_str());
    put(out, r#","key":"#);
    write_text(out, &document.key);
    put(out, r#","cmd":"#);
    put(out, document.command.as_str());
    put(out, r#","ts":"#);
    write_number(out, delivery.ts);
    put(out, r#","ttl_ms":"#);
    write_number(out, delivery.ttl_ms);
    put(out, "}}");
}

/// What became of something about a room: its message's number, if one was said, or why it was refused.
pub(super) fn room(out: &mut Vec<u8>, op: &str, room: &str, outcome: Result<Option<u64>, &str>) {
    put(out, r#"{"type":10,"service":"gateway","event":"GATEWAY_ROOM","data":{"op":"#);
    write_text(out, op);
    put(out, r#","room":"#);
    write_text(out, room);
    put(out, r#","ok":"#);
    put_bool(out, outcome.is_ok());
    put(out, r#","reason":"#);
    match outcome {
        Ok(_) => put(out, "null"),
        Err(reason) => write_text(out, reason),
    }
    if let Ok(Some(number)) = outcome {
        put(out, r#","number":"#);
        write_number_or_null(out, number);
    }
    put(out, "}}");
}

/// Items with commas between them.
fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

fn put_bool(out: &mut Vec<u8>, value: bool) {
    put(out, if value { "true" } else { "false" });
}

pub(super) fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}
