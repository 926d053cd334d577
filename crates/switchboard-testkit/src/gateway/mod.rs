//! Clients of the gateway, for tests.
//!
//! - [`GatewayClient`]: one connection, blocking; says what it is told to and shows everything that comes, close codes too.
//! - [`ResumingBot`]: what a bot does with many of them: it comes back by itself, resumes, and hands out every event once.

mod bot;
mod client;

pub use bot::{BotError, Figures, News, Pace, ResumingBot, Session};
pub use client::{GatewayClient, Heard};

use serde_json::{Value, json};

#[cfg(test)]
mod tests;

/// What a shard presents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The application's id, which only headers name.
    pub id: Option<String>,
    /// The application's public key.
    pub public_key: String,
    /// The application's secret.
    pub secret: Option<String>,
    /// Which shard it is.
    pub shard: u32,
    /// How many shards there are.
    pub total: Option<u32>,
    /// What it asks for as a shard.
    pub flags: u64,
}

impl Credentials {
    /// Those of shard 0 of an application with a secret.
    pub fn new(public_key: &str, secret: &str) -> Self {
        Self { public_key: public_key.to_owned(), secret: Some(secret.to_owned()), ..Self::default() }
    }

    /// Those of another shard.
    #[must_use]
    pub fn of_shard(&self, shard: u32) -> Self {
        Self { shard, ..self.clone() }
    }

    /// The message that registers.
    pub fn registration(&self) -> Value {
        let mut d = self.members();
        if let Some(total) = self.total {
            d["shard_total"] = total.into();
        }
        json!({"type": 1, "d": d})
    }

    /// The message that resumes a session, all events behind `seq` included.
    pub fn resumption(&self, session_id: &str, seq: Option<u64>) -> Value {
        let mut d = self.members();
        d["session_id"] = session_id.into();
        if let Some(seq) = seq {
            d["seq"] = seq.into();
        }
        json!({"type": 5, "d": d})
    }

    fn members(&self) -> Value {
        let mut d = json!({"public_key": self.public_key, "shard_in": self.shard, "flags": self.flags});
        if let Some(secret) = &self.secret {
            d["secret"] = secret.as_str().into();
        }
        d
    }

    /// The same as headers of the request, with which a connection is in header mode if the id is among them.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![("Public-Key", self.public_key.clone()), ("Shard-In", self.shard.to_string())];
        headers.extend(self.id.clone().map(|id| ("Identification", id)));
        headers.extend(self.secret.clone().map(|secret| ("Secret", secret)));
        headers.extend(self.total.map(|total| ("Shard-Total", total.to_string())));
        headers
    }
}
