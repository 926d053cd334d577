//! The steps that run inside of Redis.
//!
//! Each is a file in `lua`. Those about sessions of shards begin with what they share, `lib.lua`, which says what their keys and
//! first arguments are.

use crate::backend::redis::script::Script;

macro_rules! of_shards {
    ($file:literal) => {
        Script::new(concat!(include_str!("lua/lib.lua"), include_str!($file)))
    };
}

pub(super) static BEGIN: Script = of_shards!("lua/begin.lua");
pub(super) static RESUME: Script = of_shards!("lua/resume.lua");
pub(super) static NOTE: Script = of_shards!("lua/note.lua");
pub(super) static END: Script = of_shards!("lua/end.lua");
pub(super) static ACKNOWLEDGE: Script = of_shards!("lua/acknowledge.lua");
pub(super) static PUBLISH: Script = of_shards!("lua/publish.lua");
pub(super) static APPEND: Script = of_shards!("lua/append.lua");
pub(super) static READ: Script = of_shards!("lua/read.lua");
pub(super) static STARTS: Script = of_shards!("lua/starts.lua");
pub(super) static LIST: Script = of_shards!("lua/list.lua");
pub(super) static PAGE: Script = of_shards!("lua/page.lua");
pub(super) static TOTALS: Script = of_shards!("lua/totals.lua");
pub(super) static ROOM: Script = of_shards!("lua/room.lua");
pub(super) static SWEEP: Script = of_shards!("lua/sweep.lua");
pub(super) static ADOPT: Script = of_shards!("lua/adopt.lua");

/// Sets a key to the first argument, for as many milliseconds as the second says.
pub(super) static SET: Script = Script::new("redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1");
/// The server's time in milliseconds since 1970.
pub(super) static TIME: Script =
    Script::new("local now = redis.call('TIME') return now[1] * 1000 + math.floor(now[2] / 1000)");
/// Deletes a key.
pub(super) static DELETE: Script = Script::new("return redis.call('DEL', KEYS[1])");
/// Adds members to a set.
pub(super) static ADD: Script = Script::new("return redis.call('SADD', KEYS[1], unpack(ARGV))");
/// Takes members out of a set.
pub(super) static TAKE: Script = Script::new("return redis.call('SREM', KEYS[1], unpack(ARGV))");
/// Gives a member of a sorted set its place.
pub(super) static PLACE: Script = Script::new("return redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])");
/// Takes a member out of a sorted set. 0: it was not there.
pub(super) static DISPLACE: Script = Script::new("return redis.call('ZREM', KEYS[1], ARGV[1])");
pub(super) static USER_TOKEN: Script = Script::new(include_str!("lua/user_token.lua"));
pub(super) static USER_ROOM: Script = Script::new(include_str!("lua/user_room.lua"));
pub(super) static CLOCK: Script = Script::new(include_str!("lua/clock.lua"));
