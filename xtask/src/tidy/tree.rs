//! The files of a repository, read once.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Every file and its text, by its path from the root with `/` between folders.
pub(super) struct Tree {
    files: BTreeMap<String, File>,
}

/// One file.
pub(super) struct File {
    pub(super) path: String,
    /// Empty where it is no text.
    pub(super) text: String,
}

impl File {
    /// What follows the last dot of its name, if anything.
    pub(super) fn extension(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    /// Whether it is in one of these folders or is one of these files.
    pub(super) fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            self.path
                .strip_prefix(place)
                .is_some_and(|rest| place.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Its lines, numbered from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        // Unlike `lines`, this keeps a carriage return.
        self.text
            .strip_suffix('\n')
            .unwrap_or(&self.text)
            .split('\n')
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

impl Tree {
    /// Reads everything under `root` that people write.
    pub(super) fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self { files: BTreeMap::new() };
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    /// A tree of these paths and texts.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let file =
            |&(path, text): &(&str, &str)| (path.to_owned(), File { path: path.to_owned(), text: text.to_owned() });
        Self { files: files.iter().map(file).collect() }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &File> {
        self.files.values()
    }

    pub(super) fn with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a File> {
        self.files().filter(move |file| file.extension() == extension)
    }

    pub(super) fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Whether there is such a folder; the root's name is empty.
    pub(super) fn has_folder(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        path.is_empty() || self.files.range(inside.clone()..).next().is_some_and(|(path, _)| path.starts_with(&inside))
    }

    fn read_folder(&mut self, folder: &Path, path: &str) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if NOT_OURS.contains(&name.as_str()) {
                continue;
            }
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.read_folder(&entry.path(), &path)?;
            } else if kind.is_file() {
                let text = String::from_utf8(std::fs::read(entry.path())?).unwrap_or_default();
                self.files.insert(path.clone(), File { path, text });
            }
        }
        Ok(())
    }
}

/// Files and folders that no commit contains.
const NOT_OURS: [&str; 4] = [".git", "artifacts", "node_modules", "target"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_those_that_hold_files() {
        let tree = Tree::of(&[("docs/guide/bench.md", ""), ("docs.md", "")]);
        for (folder, is_there) in [("", true), ("docs", true), ("docs/guide", true), ("doc", false), ("docs.md", false)]
        {
            assert_eq!(tree.has_folder(folder), is_there, "{folder}");
        }
    }

    #[test]
    fn a_place_is_a_file_a_folder_or_what_begins_so() {
        let file = |path: &str| File { path: path.to_owned(), text: String::new() };
        assert!(file("src/hub/mod.rs").is_under(&["src/hub"]) && file("src/hub.rs").is_under(&["src/hub.rs"]));
        assert!(!file("src/hubs/mod.rs").is_under(&["src/hub"]));
        assert_eq!((file("a/b.test.js").extension(), file("a.d/LICENSE").extension()), ("js", ""));
    }
}
