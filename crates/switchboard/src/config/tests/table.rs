//! The table of keys, the structs, the reference page and the example file say the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::loaded;
use crate::config::layer::{Layers, Source};
use crate::config::{Config, Loaded, example, keys, reference, show};

#[test]
fn every_key_of_the_table_changes_its_own_value_and_no_other() {
    // One of these fits any key and is not its default; a new type of setting adds one.
    let candidates = [
        "true",
        "false",
        "70",
        "\"7s\"",
        "\"7KiB\"",
        "\"7MiB\"",
        "\"json\"",
        "\"modern\"",
        "\"file\"",
        "\"drop-oldest\"",
        "\"debug\"",
        "\"127.0.0.1\"",
        "\"::1\"",
        "\"other\"",
        "[{ name = \"other\" }]",
        "[{ id = \"u1\", username = \"other\", password = \"other\" }]",
        "[{ id = \"a1\", public_key = \"other\" }]",
        "\"reject\"",
        "[{ name = \"other\", url = \"http://other/\" }]",
        "[\"10.0.0.0/8\"]",
        "\"http://other/\"",
        "\"allow\"",
        "\"local\"",
        "\"redis://other:1\"",
        "\"a secret that nobody guesses\"",
        "[\"https://other.example\"]",
    ];
    let shown = |layers: Layers| {
        let text =
            show(&Loaded { config: layers.config, origins: layers.origins, file: None, ignored_variables: Vec::new() });
        // A path makes the port a comment, which is no other value.
        text.replace("\n#", "\n")
    };
    let default = shown(Layers::new());
    for key in keys() {
        let changed = candidates.iter().find_map(|value| {
            let mut layers = Layers::new();
            layers.apply_text(&key.path, value, Source::CommandLine);
            (layers.problems.is_empty() && layers.config != Config::default()).then(|| shown(layers))
        });
        let changed = changed.unwrap_or_else(|| panic!("no candidate changes {}", key.path));
        let different: Vec<&str> =
            changed.lines().zip(default.lines()).filter(|(new, old)| new != old).map(|(new, _)| new).collect();
        let name = key.path.rsplit('.').next().unwrap();
        assert_eq!(different.len(), 1, "{}: {different:?}", key.path);
        assert!(different[0].contains(&format!("{name} = ")) && different[0].ends_with(" # --set"), "{different:?}");
    }
}

#[test]
fn every_field_has_a_key() {
    let mut config = Config::default();
    // Leaves only plain values, so that each line of the dump is a field or a section.
    config.rooms.starting.clear();
    config.actions.secret_params.clear();
    config.servers.ddp.bot_members.clear();
    let dump = format!("{config:#?}");
    let mut sections: Vec<&str> = Vec::new();
    let mut fields = BTreeSet::new();
    for line in dump.lines().skip(1).map(str::trim) {
        match line.split_once(": ") {
            Some((section, value)) if value.ends_with('{') => sections.push(section),
            Some((field, _)) => drop(fields.insert([&sections[..], &[field]].concat().join("."))),
            None => drop(sections.pop()),
        }
    }
    let keys: BTreeSet<String> = keys().into_iter().map(|key| key.path).collect();
    assert_eq!(fields, keys);
}

#[test]
fn every_key_is_described_and_names_its_unit() {
    for key in keys() {
        assert!(key.meaning.ends_with('.') && !key.meaning.contains("  "), "{}: {}", key.path, key.meaning);
        assert!(!key.reached.ends_with('.'), "{}: {}", key.path, key.reached);
        assert_eq!(key.path.ends_with("_bytes"), key.type_name.starts_with("size"), "{}", key.path);
    }
}

#[test]
fn what_config_show_prints_is_a_file_with_the_same_values() {
    let tls = "servers.socket={secure=true,tls.cert=\"c.pem\",tls.key=\"k\\\\\\\"\"}";
    let rooms = "rooms.starting=[{name=\"\\\"q\\\"\",auth={\"a b\"=1.5,c=\"d\"}}]";
    let first = loaded("", &[("SWITCHBOARD__NODE__DRAIN_TIMEOUT", "1500ms")], &[tls, rooms]);
    let shown = show(&first);
    assert!(shown.contains("tls.cert = \"c.pem\" # --set\n"), "{shown}");
    assert_eq!(loaded(&shown, &[], &[]).config, first.config);

    let unix = loaded("", &[], &["servers.socket.path=a.sock"]);
    assert_eq!(loaded(&show(&unix), &[], &[]).config, unix.config);
}

#[test]
fn the_reference_page_is_what_the_command_prints() {
    assert_up_to_date("docs/reference/configuration.md", &reference());
}

#[test]
fn the_example_file_is_up_to_date_and_loads_as_it_is_and_uncommented() {
    let example = example();
    assert_up_to_date("switchboard.example.toml", &example);
    let uncommented: Vec<&str> = example
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .collect();
    for text in [example.as_str(), &uncommented.join("\n")] {
        assert_eq!(loaded(text, &[], &[]).config, Config::default());
    }
    assert_eq!(loaded(&uncommented.join("\n"), &[], &[]).origins.iter().count(), keys().len());
}

/// Compares a file of the repository with what it is made from, or writes it anew if `UPDATE_DOCS` is set.
#[track_caller]
fn assert_up_to_date(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{} is out of date; run UPDATE_DOCS=1 cargo test -p switchboard config", path.display());
}
