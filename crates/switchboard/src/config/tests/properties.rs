//! Rules for any input: nothing panics, and what is written can be read.

use std::time::Duration;

use proptest::prelude::*;

use super::{load, loaded};
use crate::config::{Config, Loaded, Origins, show};

proptest! {
    #[test]
    fn any_file_is_read_or_refused_with_places(text in any_file()) {
        if let Err(error) = load(&text, &[], &[]) {
            for line in error.lines() {
                prop_assert!(line.starts_with("switchboard.toml:"), "{line}");
            }
        }
    }

    #[test]
    fn any_text_can_be_a_message(text in "\\PC{0,40}|.{0,20}") {
        let mut config = Config::default();
        config.servers.socket.welcome_message = text;
        let shown = show(&Loaded { config: config.clone(), origins: Origins::default(), file: None, ignored_variables: Vec::new() });
        prop_assume!(!shown.contains("${"));
        prop_assert_eq!(loaded(&shown, &[], &[]).config, config);
    }

    #[test]
    fn durations_and_sizes_are_written_as_they_are_read(millis in 0_u64..100_000_000_000, bytes in 0_usize..1 << 40) {
        let mut config = Config::default();
        config.node.drain_timeout = Duration::from_millis(millis);
        config.limits.max_outbox_bytes = bytes;
        let shown = show(&Loaded { config: config.clone(), origins: Origins::default(), file: None, ignored_variables: Vec::new() });
        prop_assert_eq!(loaded(&shown, &[], &[]).config, config);
    }
}

/// Files that are TOML more or less, of names that exist more or less.
fn any_file() -> impl Strategy<Value = String> {
    let part =
        "servers|socket|port|rooms|starting|name|auth|limits|tls|=|\\.|\\[|\\]|\\{|\\}|,|\"|\n|#| |0|5s|true|é|.";
    proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}
