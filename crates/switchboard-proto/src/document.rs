//! Members that a client puts beside the text of a message, and which of them other clients get.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::{RawJson, write_text};

/// Which members a client may put beside the text (`servers.ddp.extra_members`, `servers.ddp.bot_members`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRules {
    /// `None`: any. Those that the server writes itself are always allowed.
    pub extra: Option<Vec<String>>,
    /// Those that only users with the role `bot` may write.
    pub for_bots: Vec<String>,
}

/// Members that the server writes, whatever the sender wrote.
pub(crate) const OWN: [&str; 9] = ["_id", "rid", "msg", "ts", "u", "_updatedAt", "mentions", "channels", "number"];

/// Longest name of a thread that stays after a rewrite.
const THREAD_MAX_BYTES: usize = 64;

/// The document without members that its sender may not write.
pub fn permitted(document: &RawJson, rules: &MemberRules, is_bot: bool) -> RawJson {
    let has = |names: &[String], name: &str| names.iter().any(|listed| listed == name);
    retain(document, |name, _| {
        let is_allowed = rules.extra.as_ref().is_none_or(|extra| has(extra, name));
        // The server passes on lists of these two as they are, so they are members of the sender.
        let is_own = OWN.contains(&name) && !matches!(name, "mentions" | "channels");
        is_own || is_allowed && (is_bot || !has(&rules.for_bots, name))
    })
}

/// Removes members from a document whose text was rewritten: the text may have been moderated, and other members could repeat
/// it. The members that the server writes and the place in a thread stay.
pub fn after_rewrite(document: &RawJson) -> RawJson {
    retain(document, |name, value| match name {
        "tmid" => serde_json::from_str::<&str>(value.get())
            .is_ok_and(|id| id.len() <= THREAD_MAX_BYTES && id.bytes().all(|byte| byte.is_ascii_alphanumeric())),
        "tshow" | "groupable" => matches!(value.get(), "true" | "false"),
        "mentions" | "channels" => false,
        name => OWN.contains(&name),
    })
}

fn retain(document: &RawJson, keeps: impl Fn(&str, &RawValue) -> bool) -> RawJson {
    let mut out = b"{".to_vec();
    for (name, value) in members(document.as_str()).iter().filter(|(name, value)| keeps(name, value)) {
        if out.len() > 1 {
            out.push(b',');
        }
        write_text(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.push(b'}');
    RawJson::from_parsed(&String::from_utf8_lossy(&out))
}

/// The members of a JSON object in their order, values as they are written.
pub(crate) fn members(json: &str) -> Vec<(String, &RawValue)> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }

    // It was checked when it came.
    serde_json::Deserializer::from_str(json).deserialize_map(Members).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = r#"{"rid":"r","msg":"x","alias":"Boss","attachments":[{"text":"x"}],"md":[],"tmid":"t1","tshow":true,"mentions":["x"]}"#;

    #[test]
    fn fault_row_67_members_that_a_sender_may_not_write_are_left_out() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let sent = RawJson::from_parsed(SENT);
        let left = |extra: Option<&[&str]>, for_bots: &[&str], is_bot| {
            let rules = MemberRules { extra: extra.map(names), for_bots: names(for_bots) };
            permitted(&sent, &rules, is_bot).as_str().to_owned()
        };
        assert_eq!(left(None, &[], false), SENT);
        assert_eq!(left(None, &["alias", "avatar"], true), SENT);
        assert_eq!(left(None, &["alias", "avatar"], false), SENT.replace(r#""alias":"Boss","#, ""));
        assert_eq!(left(Some(&[]), &[], true), r#"{"rid":"r","msg":"x"}"#);
        assert_eq!(left(Some(&["md", "alias"]), &["alias"], false), r#"{"rid":"r","msg":"x","md":[]}"#);
    }

    #[test]
    fn fault_row_67_nothing_that_could_hold_words_survives_a_rewrite() {
        let left = |sent: &str| after_rewrite(&RawJson::from_parsed(sent)).as_str().to_owned();
        assert_eq!(left(SENT), r#"{"rid":"r","msg":"x","tmid":"t1","tshow":true}"#);
        for words in [r#"{"tmid":"bad words"}"#, r#"{"tmid":["bad"]}"#, r#"{"tshow":"bad"}"#, r#"{"channels":["bad"]}"#]
        {
            assert_eq!(left(words), "{}", "{words}");
        }
    }
}
