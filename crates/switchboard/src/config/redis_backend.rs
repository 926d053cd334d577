//! The settings of Redis, through which several nodes are one cluster.

use std::fmt;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::kind::{Size, Span, Text, Whole, quote};
use super::section::{Kind, Mismatch, settings};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Shortest time in which anything can be expected of another machine.
const SHORTEST: Duration = Duration::from_millis(100);
const MINUTE: Duration = Duration::from_secs(60);

settings! {
    /// Several nodes that share rooms, members, commands and gateway sessions through Redis. See docs/guide/clusters.md.
    pub struct Redis {
        keys {
            /// Where the store is: `redis://` or, over TLS, `rediss://`, with user, password and number of the database as far as there are
            /// any. Several servers, separated by commas, are tried in their order until one is found that is no replica; of a Redis Cluster
            /// any of its servers will do.
            url: RedisServers = RedisServers::local(), ServerList::Needed;
            /// Another server, or several, for what is published; empty: those of `backend.redis.url`.
            pubsub_url: RedisServers = RedisServers::none(), ServerList::Optional;
            /// What all names begin with that are used in Redis. All nodes of a cluster have the same, and nobody else has it.
            prefix: String = "switchboard".into(), Text::such_that(PREFIX, is_prefix);
            /// Name of the cluster. A node does not start where another cluster uses the same prefix.
            cluster: String = "switchboard".into(), Text::such_that(PREFIX, is_prefix);
            /// Time that Redis may take to answer.
            timeout: Duration = Duration::from_secs(2), Span::range(SHORTEST, MINUTE),
                reached "whoever asked is told that the server is unavailable";
            /// Requests to Redis that may wait for their answers. The heartbeat of the node does not count.
            in_flight_max: usize = 10_000, Whole::range(16, 1_000_000),
                reached "the next one waits in a queue (`backend.redis.queue_max`)";
            /// Requests to Redis that may wait until fewer than `backend.redis.in_flight_max` are in flight; 0: none. They
            /// are sent in their order, and fail after `backend.redis.timeout` as the others do.
            queue_max: usize = 10_000, Whole::range(0, 1_000_000),
                reached "the next one fails at once, as with `backend.redis.timeout`";
            /// Time after which a node that has not been heard of is dead for the others: its members leave, its gateway sessions can be
            /// resumed elsewhere; and after which it takes itself for cut off. It says that it lives five times as often.
            lease: Duration = Duration::from_secs(5), Span::range(Duration::from_secs(1), MINUTE),
                reached "the node is taken out of the cluster; when it comes back it closes its connections and begins anew";
            /// Time in which a message that a node publishes for itself each second must come back.
            beacon_timeout: Duration = Duration::from_secs(2), Span::range(SHORTEST, MINUTE),
                reached "the connection to pub/sub is made anew, and what was missed is looked up";
            /// Bytes of published messages that have arrived from Redis and wait. A quarter of it is for messages of other
            /// nodes. Of the rest, half may wait for workers that are full, for each room at most a sixteenth of the whole.
            inbox_bytes: usize = 16 * MIB, Size::range(64 * KIB, 1024 * MIB),
                reached "messages of that room are dropped, and read from its log when its workers have space; when messages of \
                 nodes do not fit, the connection to pub/sub is replaced, and the nodes tell each other everything again";
            /// Time between two comparisons of what this node holds with what the store says.
            audit_interval: Duration = Duration::from_secs(10), Span::range(Duration::from_millis(500), Duration::from_secs(3600));
            /// Time between two reads of how many rooms and gateway sessions there are. `/metrics` and `/v1/node` show what
            /// was read last, without asking Redis, and nothing of it once it is older than 30 s.
            figures_interval: Duration = Duration::from_secs(10), Span::range(SHORTEST, Duration::from_secs(20));
            /// Longest message from one node to another about something else than a room's messages.
            max_message_bytes: usize = 4 * MIB, Size::range(64 * KIB, 256 * MIB),
                reached "it is not sent, and whoever asked is told that the server is unavailable";
        }
        sections {}
    }
}

/// Redis servers, the first choice first. Their passwords are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisServers(Vec<String>);

impl RedisServers {
    const EXPECTED: &str = "redis:// or rediss:// URLs, separated by commas";

    fn none() -> Self {
        Self(Vec::new())
    }

    fn local() -> Self {
        Self(vec!["redis://127.0.0.1:6379/0".to_owned()])
    }

    /// Reads URLs that are separated by commas.
    pub fn parse(text: &str) -> Option<Self> {
        let urls: Vec<String> =
            text.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect();
        urls.iter().all(|url| is_redis_url(url)).then_some(Self(urls))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The URLs, passwords included.
    pub(crate) fn reveal(&self) -> &[String] {
        &self.0
    }

    fn has_secret(&self) -> bool {
        self.0.iter().any(|url| url.contains('@'))
    }
}

/// Without user and password.
impl fmt::Display for RedisServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, url) in self.0.iter().enumerate() {
            let (scheme, rest) = url.split_once("://").unwrap_or_default();
            let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
            write!(f, "{}{scheme}://{place}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_redis_url(url: &str) -> bool {
    let is_ours = url.starts_with("redis://") || url.starts_with("rediss://");
    is_ours && redis::parse_redis_url(url).is_some_and(|parsed| redis::Client::open(parsed).is_ok())
}

/// A list of Redis servers.
pub(super) enum ServerList {
    /// One at least.
    Needed,
    /// None, too.
    Optional,
}

impl ServerList {
    fn allows(&self, servers: &RedisServers) -> bool {
        matches!(self, Self::Optional) || !servers.is_empty()
    }

    /// What was found is not shown: there may be a password in it.
    fn refuse() -> Vec<Mismatch> {
        let text = format!("expected {}", RedisServers::EXPECTED);
        vec![Mismatch { inside: String::new(), span: None, text, found: None }]
    }
}

impl Kind<RedisServers> for ServerList {
    fn type_name(&self) -> String {
        match self {
            Self::Needed => RedisServers::EXPECTED.into(),
            Self::Optional => format!("{}, or empty for none", RedisServers::EXPECTED),
        }
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<RedisServers, Vec<Mismatch>> {
        let servers = value.get_ref().as_str().and_then(RedisServers::parse);
        servers.filter(|servers| self.allows(servers)).ok_or_else(Self::refuse)
    }

    fn write(&self, value: &RedisServers) -> String {
        if value.has_secret() { super::Secret::HIDDEN.into() } else { quote(&value.0.join(",")) }
    }

    fn hides(&self, value: &RedisServers) -> bool {
        value.has_secret()
    }

    fn check(&self, value: &RedisServers) -> Vec<Mismatch> {
        if self.allows(value) { Vec::new() } else { Self::refuse() }
    }
}

const PREFIX: &str = "name of 1 to 64 letters, digits and the characters _ - . : /";

fn is_prefix(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_one_by_one_and_shown_without_passwords() {
        let servers = RedisServers::parse("redis://:secret@one:1/2, rediss://user:geheim@two").unwrap();
        assert_eq!(servers.reveal().len(), 2);
        assert_eq!(servers.to_string(), "redis://one:1/2,rediss://two");
        assert_eq!(format!("{servers:?}"), servers.to_string());
        assert!(ServerList::Needed.hides(&servers) && !ServerList::Needed.write(&servers).contains("secret"));
        for bad in ["http://one", "redis://", "one:6379", "redis://one:port"] {
            assert_eq!(RedisServers::parse(bad), None, "{bad}");
        }
        assert!(RedisServers::parse("").unwrap().is_empty());
    }

    #[test]
    fn a_prefix_cannot_be_mistaken_for_a_part_of_a_name() {
        assert!(is_prefix("switchboard") && is_prefix("a.b:c-d_e/1"));
        for bad in ["", "a b", "a{b", "a}b", "a*", &"x".repeat(65)] {
            assert!(!is_prefix(bad), "{bad}");
        }
    }
}
