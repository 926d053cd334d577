//! The name of a node: what was set, or one that no other process has.

use toml::Spanned;
use toml::de::DeValue;

use super::kind::{quote, refuse};
use super::section::{Kind, Mismatch};

/// A name of 1 to 255 bytes without control characters; the empty text asks for the default.
pub(super) struct NodeName;

const EXPECTED: &str = "a text of at most 255 bytes without control characters";

impl Kind<String> for NodeName {
    fn type_name(&self) -> String {
        "text of at most 255 bytes without control characters".into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<String, Vec<Mismatch>> {
        match value.get_ref() {
            DeValue::String(text) if text.is_empty() => Ok(unique_name()),
            DeValue::String(text) if is_node_name(text) => Ok(text.to_string()),
            _ => Err(refuse(EXPECTED, value)),
        }
    }

    fn write(&self, value: &String) -> String {
        quote(value)
    }

    fn check(&self, value: &String) -> Vec<Mismatch> {
        if is_node_name(value) { Vec::new() } else { vec![Mismatch::new(EXPECTED, quote(value))] }
    }

    /// The real default differs from machine to machine, and would make the reference do so too.
    fn write_default(&self, _: &String) -> String {
        quote("")
    }
}

/// The host name and the process id, as in `web1-4711`.
pub(super) fn unique_name() -> String {
    let host = Some(host_name()).filter(|host| is_node_name(host)).unwrap_or_else(|| "node".into());
    format!("{host}-{}", std::process::id())
}

fn is_node_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && !name.chars().any(char::is_control)
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
