//! Packages from npm, pinned by the lock file of a folder.

use std::fs;
use std::process::{Command, Stdio};

use crate::repository::repository;

/// Installs what the lock file in `folder` of the repository names, unless just that is there.
///
/// # Errors
///
/// When npm is missing or cannot install it.
pub(crate) fn install(folder: &str) -> Result<(), String> {
    let path = repository().join(folder);
    let (lock, stamp) = (path.join("package-lock.json"), path.join("node_modules/.installed-from"));
    let wanted = fs::read(&lock).map_err(|error| format!("{} cannot be read: {error}", lock.display()))?;
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("== tools: npm ci in {folder}/");
    // Its progress is worth seeing while one waits for the network.
    let status = Command::new("npm").arg("ci").current_dir(&path).stdin(Stdio::null()).status();
    let status = status.map_err(|error| format!("npm could not be run: {error}"))?;
    if !status.success() {
        return Err(format!("npm ci ended with {status}: the packages pinned in {folder}/ could not be installed"));
    }
    // Written last: an installation that broke off has no stamp.
    fs::write(&stamp, wanted).map_err(|error| format!("{} cannot be written: {error}", stamp.display()))
}
