//! Values that do not go together, and the check of a configuration that was made in code.

use super::problem::{ConfigError, Problem};
use super::section::Section;
use super::settings::Config;

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

/// Every contradiction between the values of a configuration.
pub(super) fn conflicts(config: &Config) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    let mut conflict = |key, others: &[&'static str], text: &str| {
        conflicts.push(Conflict { key, others: others.to_vec(), text: text.into() });
    };
    let socket = &config.servers.socket;
    let secure = "servers.socket.secure";
    let (cert, key, client_ca) = ("servers.socket.tls.cert", "servers.socket.tls.key", "servers.socket.tls.client_ca");

    if !socket.enabled {
        conflict("servers.socket.enabled", &[], "no listener is enabled; set servers.socket.enabled = true");
    }
    if socket.secure && socket.tls.cert.is_none() {
        conflict(secure, &[cert], "true needs servers.socket.tls.cert, a PEM file with the certificate chain");
    }
    if socket.secure && socket.tls.key.is_none() {
        conflict(secure, &[key], "true needs servers.socket.tls.key, a PEM file with the private key");
    }
    for (name, value) in [(cert, &socket.tls.cert), (key, &socket.tls.key), (client_ca, &socket.tls.client_ca)] {
        // A listener that the operator believes to be encrypted must not start in the clear.
        if !socket.secure && value.is_some() {
            let text = "has no effect without servers.socket.secure = true; set that too, or remove this key";
            conflict(name, &[secure], text);
        }
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
    conflicts
}

/// The sentence of a mismatch, with the value that does not fit.
pub(super) fn with_found(text: String, found: Option<String>) -> String {
    match found {
        Some(found) => format!("{text}, found {found}"),
        None => text,
    }
}
