//! The public folder, and nothing outside it.
//!
//! Names are resolved by the system below a directory handle; no text is compared. Only regular files are opened, and
//! without waiting, so that neither a device nor a pipe can hold anybody up.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use switchboard_proto::call::Content;

use crate::config::Files;

/// Where files come from.
#[derive(Clone, Debug)]
pub(super) struct PublicFolder {
    /// `None`: the default folder.
    root: Option<PathBuf>,
    index: String,
    /// Whether names that begin with a dot are served.
    hidden: bool,
}

/// An open file.
#[derive(Debug)]
struct OpenFile {
    file: std::fs::File,
    length: u64,
    media_type: &'static str,
    modified_ms: Option<u64>,
}

impl PublicFolder {
    /// The folder that is used while `files.root` is not set.
    const DEFAULT: &str = "public";

    pub(super) fn new(settings: &Files) -> Self {
        Self { root: settings.root.clone(), index: settings.index.clone(), hidden: settings.hidden }
    }

    fn path(&self) -> &Path {
        self.root.as_deref().unwrap_or(Path::new(Self::DEFAULT))
    }

    /// Returns `true` if no folder is configured and the default one does not exist. Blocks.
    pub(super) fn is_absent(&self) -> bool {
        self.root.is_none() && !self.path().exists()
    }

    /// Opens the file of that name, or the index file of the folder of that name. Blocks.
    ///
    /// # Errors
    ///
    /// Whatever the reason: it cannot be had.
    pub(super) fn open(&self, name: &str) -> io::Result<impl Content + use<>> {
        if name.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        // A leading slash means the public folder, as on the real servers.
        let name = match name.trim_start_matches('/') {
            "" => ".",
            name => name,
        };
        // Opened each time, so that a folder that is put in place later, or replaced, is found.
        let root = Dir::open_ambient_dir(self.path(), ambient_authority())?;
        let path = Path::new(name);
        if !self.hidden && is_hidden(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (file, name) = match open_regular(&root, path) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                (open_regular(&root, &path.join(&self.index))?, self.index.as_str())
            }
            opened => (opened?, name),
        };
        let metadata = file.metadata()?;
        let since_1970 = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Ok(OpenFile {
            file,
            length: metadata.len(),
            media_type: mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream"),
            modified_ms: since_1970.and_then(|since| u64::try_from(since.as_millis()).ok()),
        })
    }
}

/// Whether a part of a path begins with a dot. The folder of RFC 8615 is public.
fn is_hidden(path: &Path) -> bool {
    let mut parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
    parts.any(|part| part.as_os_str().as_encoded_bytes().starts_with(b".") && part.as_os_str() != ".well-known")
}

fn open_regular(root: &Dir, path: &Path) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let file = root.open_with(path, &options)?.into_std();
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else if kind.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, "not a regular file"))
    }
}

impl Content for OpenFile {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, piece: &mut [u8]) -> io::Result<usize> {
        // A file that grows meanwhile is sent as long as it was.
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = piece.len().min(left);
        self.file.read_at(&mut piece[..length], offset)
    }

    fn media_type(&self) -> &str {
        self.media_type
    }

    fn modified_ms(&self) -> Option<u64> {
        self.modified_ms
    }
}
