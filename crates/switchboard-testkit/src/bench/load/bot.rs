//! A bot over DDP, until it is idle: connected, logged in, and told of commands and of its messages.

use super::super::scenario::Bot;
use super::LoadError;
use super::frames;
use super::payload::find;
use super::protocol::refused;

/// How far a bot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BotStage {
    /// Asked for a session.
    Opening,
    /// Asked to log in.
    LoggingIn,
    /// Asked for its commands.
    ForCommands,
    /// Asked for its messages.
    ForMessages,
    /// Has all that it came for.
    Idle,
}

impl BotStage {
    /// Asks for a session, which a bot does as soon as it is connected.
    pub(super) fn open(output: &mut Vec<u8>) -> Self {
        push(output, r#"{"msg":"connect","version":"1","support":["1","pre2","pre1"]}"#);
        Self::Opening
    }

    /// Takes what the server said, and appends what is to be answered.
    pub(super) fn advance(self, text: &[u8], index: usize, output: &mut Vec<u8>) -> Result<Self, LoadError> {
        let Bot { id, name, password } = Bot::new(index);
        let is = |beginning: &[u8]| text.starts_with(beginning);
        Ok(match self {
            Self::Opening if is(br#"{"server_id":"#) => self,
            Self::Opening if is(br#"{"msg":"connected","#) => {
                let user = format!(r#"{{"user":{{"username":"{name}"}},"password":"{password}"}}"#);
                push(output, &format!(r#"{{"msg":"method","id":"1","method":"login","params":[{user}]}}"#));
                Self::LoggingIn
            }
            // The user itself, and word that the method has no further effects.
            _ if is(br#"{"msg":"added","collection":"users","#) || is(br#"{"msg":"updated","#) => self,
            Self::LoggingIn if is(br#"{"msg":"result","id":"1","#) && find(text, br#""token":"#).is_some() => {
                let what = format!(r#""name":"stream-client-commands","params":["{id}",true]"#);
                push(output, &format!(r#"{{"msg":"sub","id":"2",{what}}}"#));
                Self::ForCommands
            }
            Self::ForCommands | Self::ForMessages if is(br#"{"msg":"added","collection":"stream-"#) => self,
            Self::ForCommands if is(br#"{"msg":"ready","subs":["2"]"#) => {
                let what = r#""name":"stream-room-messages","params":["__my_messages__",true]"#;
                push(output, &format!(r#"{{"msg":"sub","id":"3",{what}}}"#));
                Self::ForMessages
            }
            Self::ForMessages if is(br#"{"msg":"ready","subs":["3"]"#) => Self::Idle,
            _ => return Err(refused(text)),
        })
    }
}

fn push(output: &mut Vec<u8>, message: &str) {
    frames::push(output, frames::TEXT, &[message.as_bytes()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: [&[u8]; 9] = [
        br#"{"server_id":"0"}"#,
        br#"{"msg":"connected","session":"abcdefghijklmnopq"}"#,
        br#"{"msg":"added","collection":"users","id":"u00007","fields":{"username":"bot00007"}}"#,
        br#"{"msg":"result","id":"1","result":{"id":"u00007","token":"t","type":"password"}}"#,
        br#"{"msg":"updated","methods":["1"]}"#,
        br#"{"msg":"added","collection":"stream-client-commands","id":"id","fields":{"eventName":"u00007"}}"#,
        br#"{"msg":"ready","subs":["2"]}"#,
        br#"{"msg":"added","collection":"stream-room-messages","id":"id","fields":{"eventName":"__my_messages__"}}"#,
        br#"{"msg":"ready","subs":["3"]}"#,
    ];

    #[test]
    fn a_bot_is_idle_when_it_has_its_streams() {
        let mut output = Vec::new();
        let mut stage = BotStage::open(&mut output);
        for text in SESSION {
            assert_ne!(stage, BotStage::Idle, "before {}", text.escape_ascii());
            stage = stage.advance(text, 7, &mut output).unwrap();
        }
        assert_eq!(stage, BotStage::Idle);
        let sent = String::from_utf8_lossy(&output);
        for part in [r#"{"user":{"username":"bot00007"},"password":"idle"}"#, r#""params":["u00007",true]"#] {
            assert!(sent.contains(part), "{sent}");
        }
    }

    #[test]
    fn what_a_bot_does_not_expect_is_refused() {
        let failed: [(BotStage, &[u8]); 4] = [
            (BotStage::Opening, br#"{"msg":"failed","version":"1"}"#),
            (BotStage::LoggingIn, br#"{"msg":"result","id":"1","error":{"error":403}}"#),
            (BotStage::ForCommands, br#"{"msg":"nosub","id":"2"}"#),
            (BotStage::ForMessages, br#"{"msg":"ready","subs":["2"]}"#),
        ];
        for (stage, text) in failed {
            assert!(stage.advance(text, 0, &mut Vec::new()).is_err(), "{stage:?}");
        }
    }
}
