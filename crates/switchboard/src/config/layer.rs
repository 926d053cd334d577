//! Putting the values of one source over those that are there: which key is meant, does the value fit, where is it
//! from.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::check::with_found;
use super::kind::describe;
use super::load::Origins;
use super::nearest::nearest;
use super::problem::{Origin, Problem};
use super::section::{Mismatch, Section, join};
use super::settings::Config;

/// A configuration in the making.
pub(super) struct Layers {
    pub(super) config: Config,
    pub(super) origins: Origins,
    pub(super) problems: Vec<Problem>,
    pub(super) ignored_variables: Vec<String>,
    /// Every key, in the order of the reference.
    keys: Vec<String>,
    /// Keys and the sections that contain them: what may be written on the left of an equals sign.
    names: Vec<String>,
}

/// Where the values of one layer are written.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    CommandLine,
    Environment { name: &'a str },
    File { path: &'a Path, text: &'a str },
    FileOfEnvironment { name: &'a str },
}

/// Problems of one source with the byte where each begins.
type Located = Vec<(usize, Problem)>;

impl Layers {
    /// The defaults, on which everything else is put.
    pub(super) fn new() -> Self {
        let mut config = Config::default();
        let mut keys = Vec::new();
        config.visit("", &mut |key, _| keys.push(key.path.to_owned()));
        let mut names = keys.clone();
        for key in &keys {
            let dots = key.match_indices('.');
            names.extend(dots.map(|(dot, _)| key[..dot].to_owned()));
        }
        names.sort();
        names.dedup();
        Self { config, origins: Origins::default(), problems: Vec::new(), ignored_variables: Vec::new(), keys, names }
    }

    /// Whether there is a key of this name.
    pub(super) fn has_key(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key == name)
    }

    /// The key whose name is most like this one, where the parts of a key are separated by single underscores.
    pub(super) fn key_by_underscores(&self, name: &str) -> Option<&str> {
        let names: Vec<String> = self.keys.iter().map(|key| key.replace('.', "_")).collect();
        let found = nearest(name, &names)?;
        let at = names.iter().position(|name| name == found)?;
        Some(&self.keys[at])
    }

    /// Takes over a TOML document. What is wrong is noted in the order of the lines; the rest applies nevertheless.
    pub(super) fn apply_document(&mut self, path: &Path, text: &str) {
        let source = Source::File { path, text };
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut problems = Located::new();
        for error in errors {
            let start = error.span().map_or(0, |span| span.start);
            let (place, text) = (source.origin(start).place(), error.message().replace('\n', " "));
            problems.push((start, Problem { place, key: String::new(), text }));
        }
        // What is left of a line that is not TOML would only be misunderstood: its syntax error says enough.
        let broken: Vec<usize> = problems.iter().map(|(start, _)| line_of(text, *start)).collect();
        let mut misused = Located::new();
        self.put_table("", document.get_ref(), source, &mut misused);
        problems.extend(misused.into_iter().filter(|(start, _)| !broken.contains(&line_of(text, *start))));
        problems.sort_by_key(|(start, _)| *start);
        self.problems.extend(problems.into_iter().map(|(_, problem)| problem));
    }

    /// Takes over a value from outside a file, where texts are usually written without quotation marks.
    ///
    /// A value that is TOML of the right type is taken as that, any other as text; one in quotation marks never means
    /// the marks themselves. The content of a file is tried as text first: a password may look like anything.
    pub(super) fn apply_text(&mut self, key: &str, value: &str, source: Source<'_>) {
        let plain = Spanned::new(0..value.len(), DeValue::String(value.into()));
        let attempts = match (source, DeValue::parse(value.trim())) {
            (_, Err(_)) => vec![plain],
            // A list in a file is meant as one: what is wrong inside it is worth more than that it is no text.
            (Source::FileOfEnvironment { .. }, Ok(parsed)) if !parsed.get_ref().is_array() => vec![plain, parsed],
            (_, Ok(parsed)) if parsed.get_ref().is_str() => vec![parsed],
            (_, Ok(parsed)) => vec![parsed, plain],
        };
        let mut complaints = None;
        for attempt in &attempts {
            let mut problems = Located::new();
            self.put(key, 0, attempt, source, &mut problems);
            if problems.is_empty() {
                return;
            }
            complaints.get_or_insert(problems);
        }
        self.problems.extend(complaints.into_iter().flatten().map(|(_, problem)| problem));
    }

    fn put_table(&mut self, path: &str, table: &DeTable<'_>, source: Source<'_>, problems: &mut Located) {
        for (key, value) in table {
            // A dot inside a quoted name is not a separator, and no name of ours has one.
            let name = key.get_ref();
            let name = if name.contains('.') { format!("\"{name}\"") } else { name.to_string() };
            self.put(&join(path, &name), key.span().start, value, source, problems);
        }
    }

    fn put(
        &mut self,
        path: &str,
        start: usize,
        value: &Spanned<DeValue<'_>>,
        source: Source<'_>,
        problems: &mut Located,
    ) {
        let problem = |start, key: String, text| (start, Problem { place: source.origin(start).place(), key, text });
        if self.has_key(path) {
            match self.put_value(path, value, source) {
                Ok(()) => self.origins.record(path, source.origin(start)),
                Err(wrong) => problems.extend(wrong.into_iter().map(|wrong| {
                    let found = wrong.found.filter(|_| source.may_be_shown());
                    let start = wrong.span.map_or(start, |span| span.start);
                    problem(start, format!("{path}{}", wrong.inside), with_found(wrong.text, found))
                })),
            }
        } else if self.names.iter().any(|name| name == path) {
            match value.get_ref() {
                DeValue::Table(table) => self.put_table(path, table, source, problems),
                other => {
                    let text = format!("this is a section; expected keys below it, found {}", describe(other));
                    problems.push(problem(start, path.into(), text));
                }
            }
        } else {
            let text = match nearest(path, &self.names) {
                Some(name) => format!("unknown key; did you mean {name}?"),
                None => "unknown key; `switchboard config reference` lists all".into(),
            };
            problems.push(problem(start, path.into(), text));
        }
    }

    fn put_value(&mut self, path: &str, value: &Spanned<DeValue<'_>>, source: Source<'_>) -> Result<(), Vec<Mismatch>> {
        if source.may_be_shown() {
            refuse_variables(value)?;
        }
        let mut result = Ok(());
        self.config.visit("", &mut |key, slot| {
            if key.path == path {
                result = slot.read(value);
            }
        });
        result
    }
}

impl Source<'_> {
    /// The origin of what begins at this byte.
    fn origin(&self, start: usize) -> Origin {
        match self {
            Self::CommandLine => Origin::CommandLine,
            Self::Environment { name } | Self::FileOfEnvironment { name } => {
                Origin::Environment { name: (*name).to_owned() }
            }
            Self::File { path, text } => Origin::File { path: path.to_path_buf(), line: line_of(text, start) },
        }
    }

    /// Contents of secrets' files are neither shown nor taken for anything but themselves.
    fn may_be_shown(&self) -> bool {
        !matches!(self, Self::FileOfEnvironment { .. })
    }
}

/// Refuses `${NAME}`: it would be taken literally, where somebody expects the value of a variable.
fn refuse_variables(value: &Spanned<DeValue<'_>>) -> Result<(), Vec<Mismatch>> {
    match value.get_ref() {
        DeValue::String(text) => match variable(text) {
            Some(variable) => {
                let text = format!(
                    "{variable} would be taken literally, variables are not replaced; set this key by \
                     SWITCHBOARD__… in the environment instead"
                );
                Err(vec![Mismatch { inside: String::new(), span: Some(value.span()), text, found: None }])
            }
            None => Ok(()),
        },
        DeValue::Array(items) => items.iter().try_for_each(refuse_variables),
        DeValue::Table(table) => table.values().try_for_each(refuse_variables),
        _ => Ok(()),
    }
}

/// The first `${NAME}` in a text, where a name is letters, digits and underscores.
fn variable(text: &str) -> Option<&str> {
    text.match_indices("${").find_map(|(start, _)| {
        let name = &text[start + 2..];
        let length = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        (length > 0 && name[length..].starts_with('}')).then(|| &text[start..start + 2 + length + 1])
    })
}

/// The line, from 1, of a byte.
fn line_of(text: &str, start: usize) -> usize {
    1 + text.as_bytes()[..start.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}
