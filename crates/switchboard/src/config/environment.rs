//! Settings in the environment: `SWITCHBOARD__SERVERS__SOCKET__PORT=5001`.
//!
//! Two underscores separate the parts of a key, because one may be inside a part. Case does not matter. With `_FILE`
//! behind the name the value is the content of the file that the variable names: so container platforms hand out
//! secrets.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use super::kind::quote;
use super::layer::{Layers, Source};
use super::load::{LoadOptions, read_text};
use super::problem::Problem;

const PREFIX: &str = "SWITCHBOARD__";
/// How a variable begins that may have been meant as a setting.
const NEAR_PREFIX: &str = "SWITCHBOARD_";

/// The key that names applications, and the variables that do when it has not been used.
const APPLICATIONS: &str = "gateway.applications";
const IDS: &str = "BOTS_DISCORD";
const PUBLIC_KEYS: &str = "PUBLIC_KEY";
const SECRET: &str = "KEY_SECRET";

/// Puts all variables of ours over what is there.
pub(super) fn apply(options: &LoadOptions, layers: &mut Layers) {
    let (mut ours, mut near): (Vec<(String, Option<&str>)>, Vec<String>) = (Vec::new(), Vec::new());
    for (name, value) in &options.env {
        let name = name.to_string_lossy();
        let begins = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if begins(PREFIX) {
            ours.push((name.into_owned(), value.to_str()));
        } else if begins(NEAR_PREFIX) && !is_of_container_platform(&name, value) {
            near.push(name.into_owned());
        }
    }
    near.sort();
    for name in near {
        report_near(name, layers);
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

/// Whether a container platform sets this for a service whose name begins with `switchboard`, such as
/// `SWITCHBOARD_ADMIN_PORT=tcp://10.0.0.1:9090`, `SWITCHBOARD_PORT_9090_TCP_ADDR` and `SWITCHBOARD_SERVICE_HOST`.
fn is_of_container_platform(name: &str, value: &OsStr) -> bool {
    let is_url = name.ends_with("_PORT") && value.to_string_lossy().contains("://");
    is_url || name.contains("_PORT_") || name.contains("_SERVICE_PORT") || name.ends_with("_SERVICE_HOST")
}

/// Reports a variable that would be a setting with other underscores as an error. A name that is like no setting may
/// belong to another program: the server starts, and warns.
fn report_near(name: String, layers: &mut Layers) {
    let written = name[NEAR_PREFIX.len()..].to_ascii_lowercase().replace("__", "_");
    let (written, file) = written.strip_suffix("_file").map_or((written.as_str(), ""), |key| (key, "_FILE"));
    let Some(key) = layers.key_by_underscores(written) else { return layers.ignored_variables.push(name) };
    let text = format!("unknown variable; did you mean {PREFIX}{}{file}?", key.replace('.', "__").to_ascii_uppercase());
    layers.problems.push(Problem { place: format!("environment {name}"), key: String::new(), text });
}

fn apply_file(key: &str, name: &str, file: &str, options: &LoadOptions, layers: &mut Layers) -> Result<(), String> {
    let text = read_text(&options.cwd.join(file)).map_err(|error| format!("{file} cannot be read: {error}"))?;
    // Editors and `echo` end a file with a line end that is no part of the secret.
    let value = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    layers.apply_text(key, value, Source::FileOfEnvironment { name });
    Ok(())
}

/// Takes applications from the variables that bots' gateways have always had, if none is configured and both lists are there.
/// Called last, so that whatever else says something about applications wins.
pub(super) fn apply_applications(options: &LoadOptions, layers: &mut Layers) {
    let is_misspelt = layers.problems.iter().any(|problem| problem.key.starts_with(APPLICATIONS));
    if is_misspelt || !layers.config.gateway.applications.is_empty() {
        return;
    }
    let find = |name: &str| options.env.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let (Some(ids), Some(keys)) = (find(IDS), find(PUBLIC_KEYS)) else { return };
    let mut problem = |name: &str, text: String| {
        layers.problems.push(Problem { place: format!("environment {name}"), key: APPLICATIONS.into(), text });
    };
    let mut texts = [ids, keys].into_iter().chain(find(SECRET)).map(|value| value.to_str());
    let (Some(Some(ids)), Some(Some(keys)), Some(secret)) =
        (texts.next(), texts.next(), texts.next().unwrap_or(Some("")))
    else {
        return problem(IDS, format!("the value, or that of {PUBLIC_KEYS} or {SECRET}, is not UTF-8"));
    };
    let (ids, keys): (Vec<&str>, Vec<&str>) = (ids.split_whitespace().collect(), keys.split_whitespace().collect());
    if ids.is_empty() || keys.is_empty() {
        return;
    }
    if ids.len() != keys.len() {
        let text = format!(
            "has {} ids, and {PUBLIC_KEYS} {} keys; both are lists separated by spaces, paired by position",
            ids.len(),
            keys.len()
        );
        return problem(IDS, text);
    }
    let secret = if secret.is_empty() { String::new() } else { format!(", secret = {}", quote(secret)) };
    let pairs = ids.iter().zip(keys);
    let items: Vec<String> =
        pairs.map(|(id, key)| format!("{{ id = {}, public_key = {}{secret} }}", quote(id), quote(key))).collect();
    layers.apply_text(APPLICATIONS, &format!("[{}]", items.join(", ")), Source::Environment { name: IDS });
}
