//! What a client says about itself.

use std::collections::BTreeSet;

use serde_json::Value;
use thiserror::Error;

use crate::proto::json::RawJson;

/// The key that says whether a bot is alive.
pub const HEARTBEAT: &str = "heartbeat";
/// The key after whose success room messages are withheld.
pub const PAUSE: &str = "pauseMessageStream";
/// The key after whose success they flow again.
pub const RESUME: &str = "resumeMessageStream";

/// The object of `setCustomClientData`, kept as it was sent, and what the server reads in it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientData {
    object: RawJson,
    ip: Box<str>,
    capabilities: Capabilities,
    asks_for_commands: bool,
    is_extended: bool,
}

/// Client data must be a JSON object within the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("client data is an object, and not larger than the limit")]
pub struct BadClientData;

/// What a client said that it can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It takes commands and did not say which: it is asked anything.
    pub any: bool,
    /// Keys that it named.
    pub keys: BTreeSet<Box<str>>,
}

impl Capabilities {
    /// Whether a command with this key may be sent where that has to be announced.
    pub fn announce(&self, key: &str) -> bool {
        self.any || self.keys.contains(key)
    }

    /// Whether it named this key.
    pub fn name(&self, key: &str) -> bool {
        self.keys.contains(key)
    }
}

impl ClientData {
    /// Reads what a client sent. `ip` is where it connected from.
    ///
    /// # Errors
    ///
    /// [`BadClientData`] if it is not an object, or longer than `max_bytes`.
    pub fn parse(object: RawJson, ip: &str, max_bytes: usize) -> Result<Self, BadClientData> {
        if object.as_str().len() > max_bytes {
            return Err(BadClientData);
        }
        let value = object.to_value();
        let members = value.as_object().ok_or(BadClientData)?;
        let is_true = |name: &str| members.get(name) == Some(&Value::Bool(true));
        let mut capabilities = Capabilities::default();
        match members.get("commands") {
            Some(Value::Bool(any)) => capabilities.any = *any,
            Some(Value::Array(keys)) => capabilities.keys.extend(keys.iter().filter_map(Value::as_str).map(Box::from)),
            _ => {}
        }
        let asks_for_commands = capabilities.any || !capabilities.keys.is_empty();
        capabilities.keys.extend(FLAGS.iter().filter(|(flag, _)| is_true(flag)).map(|(_, key)| Box::from(*key)));
        let is_extended = is_true("extended");
        Ok(Self { object, ip: ip.into(), capabilities, asks_for_commands, is_extended })
    }

    /// The object as it was sent.
    pub fn object(&self) -> &RawJson {
        &self.object
    }

    /// Where the client connected from.
    pub fn ip(&self) -> &str {
        &self.ip
    }

    /// What the client said that it can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Whether it asks for commands by its member `commands`: `true`, or a list with at least one key. This is how a client
    /// opts in where there is no subscription; an object without it opts out.
    pub fn asks_for_commands(&self) -> bool {
        self.asks_for_commands
    }

    /// Whether it asks for the fuller formats of its face (`extended`).
    pub fn is_extended(&self) -> bool {
        self.is_extended
    }

    /// The object as others see it: with `ipAddress`, and with `pausedMsgStream` if the client can pause or is paused. What
    /// the client itself gave for these two is not shown.
    pub fn shown(&self, is_paused: bool, resumed_unix_ms: Option<u64>) -> RawJson {
        let mut value = self.object.to_value();
        if let Some(members) = value.as_object_mut() {
            members.insert("ipAddress".to_owned(), Value::from(&*self.ip));
            members.shift_remove("pausedMsgStream");
            if is_paused || self.capabilities.name(PAUSE) {
                members.insert("pausedMsgStream".to_owned(), Value::from(is_paused));
            }
            if let Some(at) = resumed_unix_ms {
                members.insert("msgStreamLastActive".to_owned(), Value::from(at));
            }
        }
        RawJson::from_value(&value)
    }
}

/// The SDK's members, and the keys that they announce.
const FLAGS: [(&str, &str); 5] = [
    ("canGetLogs", "getLogs"),
    ("canGetStatistics", "getStatistics"),
    ("canListenToHeartbeat", HEARTBEAT),
    ("canPauseResumeMsgStream", PAUSE),
    ("canPauseResumeMsgStream", RESUME),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> ClientData {
        ClientData::parse(value.into(), "10.0.0.1", 1000).unwrap()
    }

    #[test]
    fn client_data_is_an_object_within_the_limit() {
        for bad in [json!(null), json!([]), json!("a"), json!({"a": "x".repeat(1000)})] {
            assert_eq!(ClientData::parse(bad.into(), "10.0.0.1", 1000), Err(BadClientData));
        }
    }

    #[test]
    fn commands_and_the_flags_of_the_sdk_announce_keys() {
        let sdk = parse(json!({"canPauseResumeMsgStream": true, "canListenToHeartbeat": true, "canGetLogs": "yes"}));
        assert!(!sdk.asks_for_commands());
        for (key, announced) in [(PAUSE, true), (RESUME, true), (HEARTBEAT, true), ("getLogs", false), ("x", false)] {
            assert_eq!(sdk.capabilities().announce(key), announced, "{key}");
        }
        let list = parse(json!({"commands": ["x", 5], "extended": true}));
        assert!(list.asks_for_commands() && list.is_extended());
        assert!(list.capabilities().announce("x") && !list.capabilities().announce("y"));
        let any = parse(json!({"commands": true}));
        assert!(any.asks_for_commands() && any.capabilities().announce("x") && !any.capabilities().name(HEARTBEAT));
        for none in [json!({}), json!({"commands": false}), json!({"commands": []}), json!({"commands": "x"})] {
            assert!(!parse(none).asks_for_commands());
        }
    }

    #[test]
    fn address_and_pause_are_the_servers_words() {
        let lying =
            json!({"stack": [1], "ipAddress": "1.1.1.1", "pausedMsgStream": true, "canPauseResumeMsgStream": true});
        let shown = |value: Value, is_paused, resumed| parse(value).shown(is_paused, resumed).to_value();
        assert_eq!(
            shown(lying.clone(), false, None),
            json!({"stack": [1], "ipAddress": "10.0.0.1", "canPauseResumeMsgStream": true, "pausedMsgStream": false})
        );
        assert_eq!(shown(lying.clone(), true, None)["pausedMsgStream"], true);
        assert_eq!(shown(lying, false, Some(7))["msgStreamLastActive"], 7);
        assert_eq!(shown(json!({"pausedMsgStream": true}), false, None), json!({"ipAddress": "10.0.0.1"}));
    }
}
