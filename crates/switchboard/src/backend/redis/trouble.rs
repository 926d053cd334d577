//! What can be wrong with Redis, and what follows from it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::backend::BackendError;

/// What is wrong, as logs and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// User or password are not right, or may not do what is needed (`NOAUTH`, `WRONGPASS`, `NOPERM`).
    Auth,
    /// A script of somebody else holds everything up (`BUSY`).
    Busy,
    /// A part of the Redis Cluster has no master, or slots move faster than they can be followed (`CLUSTERDOWN`, `MOVED`, `ASK`,
    /// `TRYAGAIN`).
    Cluster,
    /// There is no connection, or it broke while the answer was awaited.
    Connection,
    /// It reads its data (`LOADING`).
    Loading,
    /// It has no memory left (`OOM`).
    Memory,
    /// Too many requests wait (`backend.redis.queue_max`), or messages of rooms were dropped (`backend.redis.inbox_bytes`).
    Overload,
    /// It is a replica, or has lost those it needs (`READONLY`, `MASTERDOWN`, `NOREPLICAS`).
    ReadOnly,
    /// It answers what nobody understands.
    Reply,
    /// It refuses for another reason, which the log has: `MISCONF` when its disk is full, for example.
    Refusal,
    /// The node is not part of the cluster at the moment: it was taken for dead, or cannot say that it lives.
    Fenced,
    /// It takes longer than `backend.redis.timeout`.
    Timeout,
    /// A key below `backend.redis.prefix` holds another type than this server writes there (`WRONGTYPE`).
    WrongType,
}

impl Trouble {
    /// All of them, in the order of [`Trouble::index`].
    pub const ALL: [Self; 13] = [
        Self::Auth,
        Self::Busy,
        Self::Cluster,
        Self::Connection,
        Self::Loading,
        Self::Memory,
        Self::Overload,
        Self::ReadOnly,
        Self::Reply,
        Self::Refusal,
        Self::Fenced,
        Self::Timeout,
        Self::WrongType,
    ];

    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Busy => "busy",
            Self::Cluster => "cluster",
            Self::Connection => "connection",
            Self::Loading => "loading",
            Self::Memory => "memory",
            Self::Overload => "overload",
            Self::ReadOnly => "read-only",
            Self::Reply => "reply",
            Self::Refusal => "refusal",
            Self::Fenced => "fenced",
            Self::Timeout => "timeout",
            Self::WrongType => "wrong-type",
        }
    }

    /// Position in [`Trouble::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// What an error of the client means.
    pub(super) fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Auth,
            ErrorKind::Server(ServerErrorKind::BusyLoading) => Self::Loading,
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => Self::ReadOnly,
            ErrorKind::Server(
                ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::CrossSlot,
            )
            | ErrorKind::ClusterConnectionNotFound => Self::Cluster,
            ErrorKind::Io => {
                if error.is_timeout() {
                    Self::Timeout
                } else {
                    Self::Connection
                }
            }
            // Redis 6 wraps the error of a call inside of a script.
            ErrorKind::Server(_) | ErrorKind::Extension if error.to_string().contains("WRONGTYPE") => Self::WrongType,
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Self::Reply,
            ErrorKind::Server(_) | ErrorKind::Extension => Self::of_code(error.code().unwrap_or_default()),
            _ => Self::Refusal,
        }
    }

    /// What the first word of an error says.
    fn of_code(code: &str) -> Self {
        match code {
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::Auth,
            "BUSY" => Self::Busy,
            "OOM" => Self::Memory,
            "NOREPLICAS" | "READONLY" | "MASTERDOWN" => Self::ReadOnly,
            "LOADING" => Self::Loading,
            _ => Self::Refusal,
        }
    }

    /// Whether another connection, perhaps to another server, may help.
    pub(super) const fn wants_another_connection(self) -> bool {
        matches!(self, Self::Auth | Self::Connection | Self::ReadOnly | Self::Reply)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often each trouble was met.
#[derive(Debug, Default)]
pub(super) struct Troubles([AtomicU64; Trouble::ALL.len()]);

impl Troubles {
    /// Counts one, and makes an error of it.
    pub(super) fn note(&self, trouble: Trouble, about: impl fmt::Display) -> BackendError {
        self.0[trouble.index()].fetch_add(1, Ordering::Relaxed);
        BackendError(format!("Redis: {trouble}: {about}"))
    }

    /// How often each was met, in the order of [`Trouble::ALL`].
    pub(super) fn counts(&self) -> [u64; Trouble::ALL.len()] {
        std::array::from_fn(|index| self.0[index].load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn every_trouble_has_its_own_name_and_place() {
        for (index, trouble) in Trouble::ALL.into_iter().enumerate() {
            assert_eq!(trouble.index(), index);
            assert!(Trouble::ALL.iter().all(|other| *other == trouble || other.as_str() != trouble.as_str()));
        }
    }

    #[test]
    fn fault_row_51_every_error_of_redis_has_its_name() {
        for (line, trouble) in [
            ("BUSY Redis is busy running a script.", Trouble::Busy),
            ("OOM command not allowed when used memory > 'maxmemory'.", Trouble::Memory),
            ("LOADING Redis is loading the dataset in memory", Trouble::Loading),
            ("READONLY You can't write against a read only replica.", Trouble::ReadOnly),
            ("NOREPLICAS Not enough good replicas to write.", Trouble::ReadOnly),
            ("MASTERDOWN Link with MASTER is down", Trouble::ReadOnly),
            ("NOAUTH Authentication required.", Trouble::Auth),
            ("WRONGPASS invalid username-password pair", Trouble::Auth),
            ("NOPERM this user has no permissions", Trouble::Auth),
            ("MOVED 3999 127.0.0.1:6381", Trouble::Cluster),
            ("ASK 3999 127.0.0.1:6381", Trouble::Cluster),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Trouble::Cluster),
            ("CLUSTERDOWN The cluster is down", Trouble::Cluster),
            ("MISCONF Redis is configured to save RDB snapshots", Trouble::Refusal),
            ("ERR unknown command", Trouble::Refusal),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Trouble::WrongType),
            ("ERR Error running script (call to f_0): @user_script:1: WRONGTYPE Operation", Trouble::WrongType),
        ] {
            assert_eq!(Trouble::of(&error(line)), trouble, "{line}");
        }
        let broken = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(Trouble::of(&broken), Trouble::Connection);
    }
}
