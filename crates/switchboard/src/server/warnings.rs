//! What an operator should know about a configuration that can be used nevertheless.

use crate::config::Config;

/// What is worth a line of the log at the start. `keeps_sessions`: what outlives a connection survives the process too.
pub(super) fn of(config: &Config, keeps_sessions: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if !keeps_sessions && !config.users.is_empty() {
        warnings.push(
            "tokens and rooms of users are kept in memory: when this process ends, clients that come back with a token are \
             refused; backend.kind = \"file\" keeps them"
                .to_owned(),
        );
    }
    if let Some(root) = config.files.root.as_ref().filter(|root| !root.is_dir()) {
        warnings.push(format!(
            "files.root {root:?} is not a folder: requests for files are answered with 404 until it exists"
        ));
    }
    if !config.servers.gateway.enabled {
        return warnings;
    }
    let applications = &config.gateway.applications;
    if !keeps_sessions && !applications.is_empty() {
        warnings.push(
            "sessions of shards and their events are kept in memory: they end with this process; backend.kind = \"file\" \
             keeps them"
                .to_owned(),
        );
    }
    for application in applications.iter().filter(|application| application.key_bytes().is_none()) {
        warnings.push(format!(
            "the public key of application {:?} is not 64 hexadecimal digits: no interaction can be checked against it",
            application.id
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Application, Password, Secret, User};

    #[test]
    fn whoever_loses_something_with_the_process_is_told_once() {
        let mut config = Config::default();
        assert_eq!(of(&config, false), [""; 0]);
        let key = "3f".repeat(32);
        config.gateway.applications =
            vec![Application::new("1", key.clone()), Application::new("2", key.replace('f', "e"))];
        let [warning] = &of(&config, false)[..] else { panic!("not one warning") };
        assert!(warning.contains("backend.kind = \"file\""), "{warning}");
        assert_eq!(of(&config, true), [""; 0]);
        config.users = vec![User::new("u", "u", Password::Plain(Secret::new("secret")))];
        assert_eq!(of(&config, false).len(), 2);
        config.servers.gateway.enabled = false;
        assert_eq!(of(&config, false).len(), 1);
    }

    #[test]
    fn a_public_key_that_checks_nothing_is_told_with_its_application() {
        let mut config = Config::default();
        config.gateway.applications = vec![Application::new("the bot", "test-key")];
        let warnings = of(&config, true);
        assert!(warnings.len() == 1 && warnings[0].contains("\"the bot\""), "{warnings:?}");
    }
}
