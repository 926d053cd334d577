//! Where values come from: defaults, then the file, then the environment, then `--set`; the last one wins.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::check::conflicts;
use super::environment;
use super::layer::{Layers, Source};
use super::problem::{ConfigError, Origin, Problem};
use super::settings::Config;

/// The file that is read when no other is named, if it exists.
pub const DEFAULT_FILE: &str = "switchboard.toml";

/// What a configuration is made from. Nothing else of the process is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The file to read; it must exist. `None`: [`DEFAULT_FILE`] in `cwd` if there is one.
    pub file: Option<PathBuf>,
    /// The environment. Variables whose name does not begin with `SWITCHBOARD__` are ignored, except `BOTS_DISCORD`,
    /// `PUBLIC_KEY` and `KEY_SECRET`, which name applications when none is configured, and variables such as
    /// `SWITCHBOARD_ADMIN_PORT` that are like a setting: they are errors. See [`Loaded::ignored_variables`].
    pub env: Vec<(OsString, OsString)>,
    /// Settings of the command line, each `KEY=VALUE`; the last one for a key wins.
    pub set: Vec<String>,
    /// The directory where relative names of the configuration file and of secrets' files start.
    pub cwd: PathBuf,
}

/// A configuration that can be used, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The effective values.
    pub config: Config,
    /// Where each of them comes from.
    pub origins: Origins,
    /// The file that was read, as it was named; `None` if there was none.
    pub file: Option<PathBuf>,
    /// Variables of the environment that begin with `SWITCHBOARD_` and are like no setting. They may be mistakes.
    pub ignored_variables: Vec<String>,
}

/// Where the value of each key comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// The origin of a key such as `servers.socket.port`; the default for what was not set.
    pub fn of(&self, key: &str) -> &Origin {
        self.0.get(key).unwrap_or(&Origin::Default)
    }

    /// The keys that were set, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.0.iter().map(|(key, origin)| (key.as_str(), origin))
    }

    pub(super) fn record(&mut self, key: &str, origin: Origin) {
        self.0.insert(key.to_owned(), origin);
    }
}

impl Config {
    /// Reads and checks a configuration. All that is wrong is reported at once.
    ///
    /// The result depends on the arguments, the named files and, for the default of `node.name`, host name and
    /// process id.
    pub fn load(options: &LoadOptions) -> Result<Loaded, ConfigError> {
        let (loaded, problems) = read(options);
        ConfigError::check(problems)?;
        Ok(loaded)
    }

    /// Reads a configuration for a client of the admin API, which need not have the secrets and files that the server
    /// has: only problems of the file itself and of the section `[admin]` are errors.
    pub(crate) fn load_for_admin(options: &LoadOptions) -> Result<Self, ConfigError> {
        let (loaded, mut problems) = read(options);
        problems.retain(|problem| problem.key.is_empty() || problem.key.split('.').next() == Some("admin"));
        ConfigError::check(problems)?;
        Ok(loaded.config)
    }
}

/// Puts the sources over one another, and finds all that is wrong.
fn read(options: &LoadOptions) -> (Loaded, Vec<Problem>) {
    let mut layers = Layers::new();
    let file = read_file(options, &mut layers);
    environment::apply(options, &mut layers);
    for setting in &options.set {
        apply_setting(setting, &mut layers);
    }
    environment::apply_applications(options, &mut layers);
    let Layers { config, origins, mut problems, ignored_variables, .. } = layers;
    problems.extend(contradictions(&config, &origins, &problems));
    (Loaded { config, origins, file, ignored_variables }, problems)
}

fn read_file(options: &LoadOptions, layers: &mut Layers) -> Option<PathBuf> {
    let path = options.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    match read_text(&options.cwd.join(&path)) {
        Ok(text) => {
            layers.apply_document(&path, &text);
            Some(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && options.file.is_none() => None,
        Err(error) => {
            let text = format!("cannot be read: {error}");
            layers.problems.push(Problem { place: path.display().to_string(), key: String::new(), text });
            None
        }
    }
}

fn apply_setting(setting: &str, layers: &mut Layers) {
    match setting.split_once('=') {
        Some((key, value)) => layers.apply_text(key.trim(), value.trim(), Source::CommandLine),
        None => {
            let text = format!("expected KEY=VALUE, found {setting:?}");
            layers.problems.push(Problem { place: Origin::CommandLine.place(), key: String::new(), text });
        }
    }
}

/// Values that do not go together, as far as the values involved are themselves sound.
fn contradictions(config: &Config, origins: &Origins, problems: &[Problem]) -> Vec<Problem> {
    let unsound: BTreeSet<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    let mut found = Vec::new();
    for conflict in conflicts(config) {
        if !unsound.contains(conflict.key) && !conflict.others.iter().any(|key| unsound.contains(key)) {
            let place = origins.of(conflict.key).place();
            found.push(Problem { place, key: conflict.key.into(), text: conflict.text });
        }
    }
    // Only loading can tell a port that was asked for from the one that is there by default.
    let (path, port) = ("servers.socket.path", "servers.socket.port");
    if config.servers.socket.path.is_some() && *origins.of(port) != Origin::Default {
        let text = format!("a Unix socket has no port; remove this key or {port} ({})", origins.of(port));
        found.push(Problem { place: origins.of(path).place(), key: path.into(), text });
    }
    found
}

/// Reads a small text file whole.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    const MAX_BYTES: u64 = 1 << 20;
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(text)
}
