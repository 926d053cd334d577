//! Where the repository is, and where cargo builds it.

use std::path::{Path, PathBuf};

/// The repository's root folder.
pub(crate) fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    // A path of the user's may be relative; then it counts from where chores run, which is the root.
    repository().join(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from))
}
