//! Settings in the environment: `SWITCHBOARD__SERVERS__SOCKET__PORT=5001`.
//!
//! Two underscores separate the parts of a key, because one may be inside a part. Case does not matter. With `_FILE`
//! behind the name the value is the content of the file that the variable names: so container platforms hand out
//! secrets.

use std::collections::BTreeMap;

use super::layer::{Layers, Source};
use super::load::{LoadOptions, read_text};
use super::problem::Problem;

const PREFIX: &str = "SWITCHBOARD__";

/// Puts all variables of ours over what is there.
pub(super) fn apply(options: &LoadOptions, layers: &mut Layers) {
    let mut ours: Vec<(String, Option<&str>)> = Vec::new();
    for (name, value) in &options.env {
        let name = name.to_string_lossy();
        if name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX)) {
            ours.push((name.into_owned(), value.to_str()));
        }
    }
    // The environment has no order of its own; problems should have one.
    ours.sort();
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for (name, value) in &ours {
        let written = name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
        let (key, is_file) = match written.strip_suffix("_file") {
            Some(key) if !layers.has_key(&written) && layers.has_key(key) => (key, true),
            _ => (written.as_str(), false),
        };
        let outcome = match (names.insert(key.to_owned(), name), value) {
            (Some(other), _) => Err(format!("set twice, also by {other}; remove one of them")),
            (None, None) => Err("the value is not UTF-8".into()),
            (None, Some(file)) if is_file => apply_file(key, name, file, options, layers),
            (None, Some(value)) => {
                layers.apply_text(key, value, Source::Environment { name });
                Ok(())
            }
        };
        if let Err(text) = outcome {
            layers.problems.push(Problem { place: format!("environment {name}"), key: key.into(), text });
        }
    }
}

fn apply_file(key: &str, name: &str, file: &str, options: &LoadOptions, layers: &mut Layers) -> Result<(), String> {
    let text = read_text(&options.cwd.join(file)).map_err(|error| format!("{file} cannot be read: {error}"))?;
    // Editors and `echo` end a file with a line end that is no part of the secret.
    let value = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    layers.apply_text(key, value, Source::FileOfEnvironment { name });
    Ok(())
}
