//! Values that do not go together, and the check of a configuration that was made in code.

use std::net::IpAddr;

use super::kind::quote;
use super::problem::{ConfigError, Problem};
use super::secret::Secret;
use super::section::Section;
use super::settings::{BackendKind, Config};
use super::users::User;

impl Config {
    /// Says whether the server can start with these values: each in its range, and all of them together.
    ///
    /// Loading has done this already; programs that fill in the fields themselves call it. The file system is not
    /// looked at, so a certificate that does not exist is found later, by the start of the listener.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        // Visiting lends the fields mutably, because loading writes them; a copy keeps that out of this signature.
        self.clone().visit("", &mut |key, slot| {
            for wrong in slot.check() {
                problems.push(Problem {
                    place: String::new(),
                    key: format!("{}{}", key.path, wrong.inside),
                    text: with_found(wrong.text, wrong.found),
                });
            }
        });
        for conflict in conflicts(self) {
            problems.push(Problem { place: String::new(), key: conflict.key.into(), text: conflict.text });
        }
        ConfigError::check(problems)
    }
}

impl Config {
    /// The keys that make the server ask a backend, and whether they do.
    fn asking(&self) -> [(&'static str, bool); 6] {
        let hooks = &self.hooks;
        [
            ("actions.remote", !self.actions.remote.is_empty()),
            ("hooks.connect.url", hooks.connect.url.is_some()),
            ("hooks.join.url", hooks.join.url.is_some()),
            ("hooks.leave.url", hooks.leave.url.is_some()),
            ("hooks.say.url", hooks.say.url.is_some()),
            ("hooks.action.url", hooks.action.url.is_some()),
        ]
    }
}

/// Values that are fine by themselves and wrong together.
pub(super) struct Conflict {
    /// The key that should change, or whose value asks for the others.
    pub(super) key: &'static str,
    /// The other keys that have a say in it.
    pub(super) others: Vec<&'static str>,
    /// The contradiction and its remedy.
    pub(super) text: String,
}

/// The keys of one listener's TLS.
struct TlsKeys {
    secure: &'static str,
    cert: &'static str,
    key: &'static str,
    client_ca: &'static str,
}

const SOCKET_TLS: TlsKeys = TlsKeys {
    secure: "servers.socket.secure",
    cert: "servers.socket.tls.cert",
    key: "servers.socket.tls.key",
    client_ca: "servers.socket.tls.client_ca",
};

const WEB_TLS: TlsKeys = TlsKeys {
    secure: "servers.web.secure",
    cert: "servers.web.tls.cert",
    key: "servers.web.tls.key",
    client_ca: "servers.web.tls.client_ca",
};

impl Config {
    /// Sentences about settings that are allowed and may be mistakes: secrets that are short enough to be guessed.
    pub fn warnings(&self) -> Vec<String> {
        let admin = &self.admin;
        let token = admin.token.is_set() && admin.token.reveal().len() < Secret::SHORT_BYTES;
        let token = (admin.enabled && token).then(|| "admin.token".to_owned());
        let applications = self.gateway.applications.iter().enumerate();
        let short = applications.filter(|(_, application)| application.has_short_secret());
        let keys = token.into_iter().chain(short.map(|(index, _)| format!("gateway.applications[{index}].secret")));
        keys.map(|key| format!("{key} is short enough to be guessed: `openssl rand -hex 32` makes a good one"))
            .collect()
    }
}

/// Every contradiction between the values of a configuration.
pub(super) fn conflicts(config: &Config) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    let mut conflict = |key, others: &[&'static str], text: &str| {
        conflicts.push(Conflict { key, others: others.to_vec(), text: text.into() });
    };
    let (socket, web) = (&config.servers.socket, &config.servers.web);
    if !socket.enabled && !web.enabled {
        let text = "no listener is enabled; set servers.socket.enabled = true, or servers.web.enabled";
        conflict("servers.socket.enabled", &["servers.web.enabled"], text);
    }
    for (secure, tls, keys) in [(socket.secure, &socket.tls, &SOCKET_TLS), (web.secure, &web.tls, &WEB_TLS)] {
        if secure && tls.cert.is_none() {
            let text = format!("true needs {}, a PEM file with the certificate chain", keys.cert);
            conflict(keys.secure, &[keys.cert], &text);
        }
        if secure && tls.key.is_none() {
            let text = format!("true needs {}, a PEM file with the private key", keys.key);
            conflict(keys.secure, &[keys.key], &text);
        }
        for (name, value) in [(keys.cert, &tls.cert), (keys.key, &tls.key), (keys.client_ca, &tls.client_ca)] {
            // A listener that the operator believes to be encrypted must not start in the clear.
            if !secure && value.is_some() {
                let text = format!("has no effect without {} = true; set that too, or remove this key", keys.secure);
                conflict(name, &[keys.secure], &text);
            }
        }
    }
    let max_shards = config.servers.gateway.max_shards;
    if config.gateway.applications.iter().any(|application| application.shards > max_shards) {
        let text = format!("an application has more shards than servers.gateway.max_shards = {max_shards}; raise that");
        conflict("gateway.applications", &["servers.gateway.max_shards"], &text);
    }
    // Without a signature a backend could not tell our requests from anybody else's.
    if !config.hooks.secret.is_set() {
        for (name, is_used) in config.asking() {
            if is_used {
                let text = "needs hooks.secret, with which requests are signed; set it, best by \
                            SWITCHBOARD__HOOKS__SECRET_FILE in the environment";
                conflict(name, &["hooks.secret"], text);
            }
        }
    }
    conflicts.extend(application_conflicts(config));
    conflicts.extend(cluster_conflicts(config));
    conflicts
}

/// What one node could not tell another.
fn cluster_conflicts(config: &Config) -> Vec<Conflict> {
    const LONGEST: &str = "backend.redis.max_message_bytes";
    let (commands, most) = (&config.commands, config.backend.redis.max_message_bytes / 2);
    let sizes = [
        ("commands.max_command_bytes", commands.max_command_bytes),
        ("commands.max_reply_bytes", commands.max_reply_bytes),
        ("commands.max_client_data_bytes", commands.max_client_data_bytes),
    ];
    let is_in_cluster = config.backend.kind == BackendKind::Redis;
    let too_long = sizes.into_iter().filter(|(_, bytes)| is_in_cluster && *bytes > most);
    let conflict = |(key, _)| {
        let text = format!("with backend.kind = \"redis\", at most half of {LONGEST}; raise that, or lower this key");
        Conflict { key, others: vec!["backend.kind", LONGEST], text }
    };
    too_long.map(conflict).collect()
}

/// What is wrong about applications beside what else is there.
fn application_conflicts(config: &Config) -> Vec<Conflict> {
    const KEY: &str = "gateway.applications";
    let applications = &config.gateway.applications;
    let mut conflicts = Vec::new();
    for application in applications {
        // An application is a user: whoever is looked up by a text is looked up among all.
        let is_taken = |user: &User| [&user.id, &user.username].contains(&&application.id);
        if config.users.iter().any(is_taken) {
            let text =
                format!("the application {} has the id or the name of a user; rename one", quote(&application.id));
            conflicts.push(Conflict { key: KEY, others: vec!["users"], text });
        }
    }
    let web = &config.servers.web;
    let is_local = web.bind.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback());
    let is_open = web.enabled && config.servers.gateway.enabled && !is_local && !config.servers.gateway.allow_insecure;
    if let Some(application) = applications.iter().find(|application| is_open && !application.secret.is_set()) {
        let text = format!(
            "the application {} has no secret, and servers.web.bind = {} is open to other machines, where anybody may \
             know its public key; set its secret, servers.web.bind = \"127.0.0.1\", or \
             servers.gateway.allow_insecure = true",
            quote(&application.id),
            quote(&web.bind),
        );
        let others = vec![
            "servers.web.bind",
            "servers.web.enabled",
            "servers.gateway.enabled",
            "servers.gateway.allow_insecure",
        ];
        conflicts.push(Conflict { key: KEY, others, text });
    }
    conflicts
}

/// The sentence of a mismatch, with the value that does not fit.
pub(super) fn with_found(text: String, found: Option<String>) -> String {
    match found {
        Some(found) => format!("{text}, found {found}"),
        None => text,
    }
}
