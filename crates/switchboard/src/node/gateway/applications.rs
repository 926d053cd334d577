//! Whose bots these are: applications, and what proves that somebody speaks for one.

use std::collections::HashMap;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use serde_json::Value;
use switchboard_proto::shard::AppCredentials;
use switchboard_proto::user::User;

/// An application, as the configuration has it.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its user: whose commands its shards take, and who says what they say.
    pub user: User,
    /// By which clients name it, and against which the signatures of its interactions are checked.
    pub public_key: String,
    /// The SHA-256 of the secret that it shares with the server, if there is one.
    pub secret: Option<SecretDigest>,
    /// How many shards it has; 0: as many as its shard 0 says, or as register.
    pub shards: u32,
    /// Whether it has development shards.
    pub allow_development: bool,
    /// What client commands can aim at.
    pub tags: Vec<String>,
    /// Server-only state of its sessions, which authentication patterns look at.
    pub state: Vec<(String, Value)>,
}

impl Application {
    /// Its id.
    pub fn id(&self) -> &str {
        self.user.id()
    }

    /// How many shards it has, if the configuration says so.
    pub fn fixed_total(&self) -> Option<u32> {
        Some(self.shards).filter(|shards| *shards > 0)
    }
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// That of a text.
    pub fn of(secret: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
        Self(bytes)
    }

    /// One that was computed elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Whether this is the secret. It takes the same time wherever they differ.
    pub fn is_of(&self, secret: &str) -> bool {
        let other = Self::of(secret);
        self.0.iter().zip(other.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl std::fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretDigest")
    }
}

/// All applications.
#[derive(Debug, Default)]
pub(in crate::node) struct Applications {
    by_id: HashMap<Arc<str>, Arc<Application>>,
    by_key: HashMap<String, Arc<Application>>,
    /// Applications without a secret are served to other machines too (`servers.gateway.allow_insecure`).
    allow_insecure: bool,
}

impl Applications {
    pub(in crate::node) fn new(applications: Vec<Application>, allow_insecure: bool) -> Self {
        let mut all = Self { allow_insecure, ..Self::default() };
        for application in applications {
            let application = Arc::new(application);
            all.by_key.insert(application.public_key.clone(), Arc::clone(&application));
            all.by_id.insert(application.user.shared_id(), application);
        }
        all
    }

    /// Whether there are none.
    pub(in crate::node) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(in crate::node) fn by_id(&self, id: &str) -> Option<&Arc<Application>> {
        self.by_id.get(id)
    }

    pub(in crate::node) fn iter(&self) -> impl Iterator<Item = &Arc<Application>> {
        self.by_id.values()
    }

    /// The application that these credentials are of: it is named by its id, its key or both, and every part that is there
    /// is right. Where it has a secret, that is there.
    pub(in crate::node) fn of(&self, credentials: &AppCredentials) -> Option<&Arc<Application>> {
        let is_there = credentials.secret.is_some();
        self.named(credentials).filter(|application| is_there || application.secret.is_none())
    }

    /// Returns the application whose credentials these may become with the missing parts: every present part is right.
    pub(in crate::node) fn named(&self, credentials: &AppCredentials) -> Option<&Arc<Application>> {
        let AppCredentials { id, public_key, secret, is_forwarded } = credentials;
        let application = match (id, public_key) {
            (_, Some(public_key)) => self.by_key.get(public_key)?,
            (Some(id), None) => self.by_id(id)?,
            (None, None) => return None,
        };
        let is_named = id.as_ref().is_none_or(|id| id == application.id());
        let is_right = match (&application.secret, secret) {
            (Some(digest), Some(secret)) => digest.is_of(secret),
            (Some(_), None) => true,
            // Without a secret it is for this machine only, and the client of a proxy may be on another one.
            (None, _) => !is_forwarded || self.allow_insecure,
        };
        (is_named && is_right).then_some(application)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Application {
        /// One with nothing but this.
        pub(in crate::node) fn named(id: &str, key: &str, secret: Option<&str>) -> Self {
            Self {
                user: User::new(id).unwrap(),
                public_key: key.into(),
                secret: secret.map(SecretDigest::of),
                shards: 0,
                allow_development: true,
                tags: Vec::new(),
                state: Vec::new(),
            }
        }
    }

    #[test]
    fn every_part_that_is_there_must_be_right_and_a_secret_must_be_there() {
        let all = Applications::new(
            vec![Application::named("a", "ka", Some("sa")), Application::named("b", "kb", None)],
            false,
        );
        let who = |id: &str, key: &str, secret: &str| {
            let part = |text: &str| (text != "-").then(|| text.to_owned());
            let credentials =
                AppCredentials { id: part(id), public_key: part(key), secret: part(secret), is_forwarded: false };
            all.of(&credentials).map(|application| application.id().to_owned())
        };
        for right in [("a", "ka", "sa"), ("-", "ka", "sa"), ("a", "-", "sa")] {
            assert_eq!(who(right.0, right.1, right.2).as_deref(), Some("a"), "{right:?}");
        }
        for wrong in [
            ("-", "-", "sa"),
            ("a", "ka", "-"),
            ("a", "ka", "s"),
            ("a", "ka", "sa "),
            ("b", "ka", "sa"),
            ("a", "kb", "sa"),
            ("a", "", "sa"),
            ("", "ka", "sa"),
            ("-", "ka kb", "sa"),
        ] {
            assert_eq!(who(wrong.0, wrong.1, wrong.2), None, "{wrong:?}");
        }
        assert_eq!(who("-", "kb", "-").as_deref(), Some("b"));
        assert_eq!(who("b", "kb", "whatever").as_deref(), Some("b"));
    }

    #[test]
    fn fault_row_65_an_application_without_a_secret_is_not_served_through_a_proxy() {
        for allow_insecure in [false, true] {
            let applications = || vec![Application::named("a", "ka", Some("sa")), Application::named("b", "kb", None)];
            let all = Applications::new(applications(), allow_insecure);
            let is_served = |key: &str, secret: Option<&str>, is_forwarded| {
                let (public_key, secret) = (Some(key.to_owned()), secret.map(str::to_owned));
                all.of(&AppCredentials { id: None, public_key, secret, is_forwarded }).is_some()
            };
            assert!(is_served("ka", Some("sa"), true) && is_served("kb", None, false));
            for secret in [None, Some("any")] {
                assert_eq!(is_served("kb", secret, true), allow_insecure);
            }
        }
    }

    #[test]
    fn what_is_not_there_yet_may_still_come_but_what_is_there_must_be_right() {
        let all = Applications::new(
            vec![Application::named("a", "ka", Some("sa")), Application::named("b", "kb", None)],
            false,
        );
        let may_be = |id: &str, key: &str, secret: &str| {
            let part = |text: &str| (text != "-").then(|| text.to_owned());
            all.named(&AppCredentials {
                id: part(id),
                public_key: part(key),
                secret: part(secret),
                is_forwarded: false,
            })
            .is_some()
        };
        assert!(may_be("a", "-", "-") && may_be("a", "ka", "-") && may_be("a", "-", "sa") && may_be("b", "-", "-"));
        for wrong in [("c", "-", "-"), ("a", "kb", "-"), ("a", "-", "sb"), ("a", "ka", ""), ("-", "-", "sa")] {
            assert!(!may_be(wrong.0, wrong.1, wrong.2), "{wrong:?}");
        }
    }
}
