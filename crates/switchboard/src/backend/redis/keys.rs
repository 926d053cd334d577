//! Names in Redis: of keys and of channels.
//!
//! Whatever is changed in one step has one *tag*, the part of a name in braces, by which a Redis Cluster decides where a key is: one
//! tag for each room, each user, each application of the gateway, and one for the nodes.

use std::fmt;

/// Makes names.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: Box<str>,
}

impl Keys {
    /// Names that begin with this (`backend.redis.prefix`).
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// What belongs to a room.
    pub(super) fn room(&self, room: &str, what: &str) -> String {
        format!("{}:{{r:{}}}:{what}", self.prefix, Tag(room))
    }

    /// What belongs to a user.
    pub(super) fn user(&self, user: &str, what: &str) -> String {
        format!("{}:{{u:{}}}:{what}", self.prefix, Tag(user))
    }

    /// What belongs to an application of the gateway.
    pub(super) fn application(&self, application: &str, what: &str) -> String {
        format!("{}:{{g:{}}}:{what}", self.prefix, Tag(application))
    }

    /// What belongs to the nodes together.
    pub(super) fn nodes(&self, what: &str) -> String {
        format!("{}:{{nodes}}:{what}", self.prefix)
    }

    /// What belongs to none of these, and stands for itself.
    pub(super) fn single(&self, kind: &str, name: &str) -> String {
        format!("{}:{{{kind}:{}}}", self.prefix, Tag(name))
    }

    /// The channel of what is said in a room: the one name that is a key to a Redis Cluster too.
    pub(super) fn room_channel(&self, room: &str) -> String {
        self.room(room, "said")
    }

    /// The room whose channel this is.
    pub(super) fn room_of_channel(&self, channel: &str) -> Option<String> {
        let rest = channel.strip_prefix(&*self.prefix)?.strip_prefix(":{r:")?;
        untag(rest.strip_suffix("}:said")?)
    }

    /// Whether this is the channel of a room.
    pub(super) fn is_room_channel(&self, channel: &str) -> bool {
        channel.strip_prefix(&*self.prefix).is_some_and(|rest| rest.starts_with(":{r:"))
    }

    /// The channel of one node, by its number.
    pub(super) fn node_channel(&self, slot: u16) -> String {
        format!("{}{slot}", self.node_channel_prefix())
    }

    /// What the channel of a node begins with, in front of its number.
    pub(super) fn node_channel_prefix(&self) -> String {
        format!("{}:node:", self.prefix)
    }

    /// The channel of all nodes.
    pub(super) fn all_channel(&self) -> String {
        format!("{}:node:all", self.prefix)
    }

    /// The channel on which a node hears itself.
    pub(super) fn beacon_channel(&self, slot: u16) -> String {
        format!("{}:beacon:{slot}", self.prefix)
    }
}

/// The type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyType {
    /// As the command `TYPE` says it.
    pub(super) name: &'static str,
    /// Whether the keys that scripts change together with it mean nothing without it.
    pub(super) is_root: bool,
}

/// Which type this server writes under a key. `None`: no key of this server.
pub(super) fn type_of(key: &str) -> Option<KeyType> {
    let (tag, what) = key.get(key.rfind(":{")? + 2..)?.split_once('}')?;
    let what = what.strip_prefix(':').unwrap_or_default();
    let kind = tag.split_once(':').map_or(tag, |(kind, _)| kind);
    let name = match (kind, what) {
        ("g", what) => match what.split_once(':')?.1 {
            "fleet" | "fleet-dev" => "zset",
            "published-order" => "list",
            "session" | "hash" | "log" | "room" | "heard" | "published" | "sum" => "hash",
            _ => return None,
        },
        ("nodes", "dead" | "diggers" | "graves" | "list" | "meta") => "hash",
        ("nodes", "closing" | "rooms") => "set",
        ("nodes", "rooms-sorted" | "seen") => "zset",
        ("r", "facts" | "ids" | "members" | "sequence") => "hash",
        ("r", "log") => "stream",
        ("r", "order") => "list",
        ("r", "users") => "set",
        ("r", "buried" | "ended" | "gone") => "string",
        ("r", what) if what.starts_with("once:") => "string",
        ("s" | "t", "") => "string",
        ("tokens", "") => "zset",
        ("u", "clock") => "string",
        ("u", "rooms" | "tokens") => "zset",
        _ => return None,
    };
    // Without its rows, slots, logs or rooms a session neither goes on nor ends; without the others only a little is
    // forgotten.
    let is_root = kind == "g" && !what.ends_with(":sum") && !what.contains(":published");
    Some(KeyType { name, is_root })
}

/// Name under which a key of a wrong type is kept for a while, in the same slot of a Redis Cluster.
pub(super) fn set_aside(key: &str) -> String {
    format!("{key}:damaged")
}

/// A text inside of braces: without braces of its own.
struct Tag<'a>(&'a str);

impl fmt::Display for Tag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['{', '}', '%']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'{' => "%7B",
                b'}' => "%7D",
                _ => "%25",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// What [`Tag`] wrote.
fn untag(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        plain.push(match rest.get(at..at + 3)? {
            "%7B" => '{',
            "%7D" => '}',
            "%25" => '%',
            _ => return None,
        });
        rest = &rest[at + 3..];
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Redis Cluster finds the tag of a key.
    fn tag(key: &str) -> &str {
        let inside = key.split_once('{').unwrap().1;
        inside.split_once('}').unwrap().0
    }

    #[test]
    fn the_type_of_a_key_follows_from_its_name() {
        let keys = Keys::new("p:{x}");
        let name = |key: &str| type_of(key).map(|kind| (kind.name, kind.is_root));
        for tag in ["a", "{}", "%", "a:b", "}:"] {
            assert_eq!(name(&keys.application(tag, "17:session")), Some(("hash", true)));
            assert_eq!(name(&keys.application(tag, "17:published")), Some(("hash", false)));
            assert_eq!(name(&keys.room(tag, "log")), Some(("stream", false)));
            assert_eq!(name(&keys.user(tag, "tokens")), Some(("zset", false)));
            assert_eq!(name(&keys.single("t", tag)), Some(("string", false)));
            assert_eq!(name(&keys.room_channel(tag)), None);
        }
        assert_eq!(name(&keys.single("tokens", "expiry")), Some(("zset", false)));
        for (what, kind) in [
            ("closing", "set"),
            ("dead", "hash"),
            ("diggers", "hash"),
            ("graves", "hash"),
            ("list", "hash"),
            ("meta", "hash"),
            ("rooms", "set"),
            ("rooms-sorted", "zset"),
            ("seen", "zset"),
        ] {
            assert_eq!(name(&keys.nodes(what)), Some((kind, false)), "{what}");
        }
        assert_eq!(name(&set_aside(&keys.user("a", "tokens"))), None);
        assert_eq!(tag(&set_aside(&Keys::new("p").single("t", "a"))), "t:a");
        for foreign in ["", ":{", "p:{r:a}", "p:{g:a}:session", "p:{u:a}", "other"] {
            assert_eq!(name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn whatever_belongs_to_a_room_has_its_tag() {
        let keys = Keys::new("p");
        for room in ["lobby", "}", "{}", "a{b}c", "%", "%7B", "ü:}x", "r:{"] {
            let names = ["room", "log", "said"].map(|what| keys.room(room, what));
            assert!(names.iter().all(|name| tag(name) == tag(&names[0]) && !tag(name).is_empty()), "{names:?}");
            assert_eq!(keys.room_of_channel(&keys.room_channel(room)).as_deref(), Some(room));
            assert!(keys.is_room_channel(&keys.room_channel(room)));
        }
        assert_ne!(keys.room("%7B", "log"), keys.room("{", "log"));
        for foreign in ["q:{r:lobby}:said", "p:{r:lobby}:log", "p:{r:%zz}:said", "p:{r:%}:said", "p:{u:lobby}:said"] {
            assert_eq!(keys.room_of_channel(foreign), None, "{foreign}");
        }
        for other in [keys.node_channel(1), keys.all_channel(), keys.beacon_channel(1)] {
            assert!(!keys.is_room_channel(&other), "{other}");
        }
    }
}
