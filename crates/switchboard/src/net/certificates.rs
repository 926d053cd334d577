//! Certificates that are read again while connections go on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use thiserror::Error;

use crate::config::Tls;

use super::tls::{TlsError, server_config};

/// The certificate of one listener: what new handshakes use, replaced as a whole, and where it comes from.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// The listener's section, such as `servers.web`.
    listener: &'static str,
    files: Tls,
    protocols: &'static [&'static [u8]],
    current: RwLock<Arc<ServerConfig>>,
    /// How the files looked when they were last read, well or not.
    seen: Mutex<Stamps>,
}

/// Why the certificates of a listener cannot be used.
#[derive(Debug, Error)]
#[error("{listener}.{error}")]
pub struct CertificateError {
    /// Whose: its section in the configuration.
    pub listener: &'static str,
    /// Why.
    pub error: TlsError,
}

/// What tells that a file is another one: where it is on the disk, its length and its times.
type Stamps = [Option<[i64; 6]>; 3];

impl Certificates {
    /// Reads the files of a listener.
    ///
    /// # Errors
    ///
    /// See [`TlsError`].
    pub(crate) fn read(
        listener: &'static str,
        files: Tls,
        protocols: &'static [&'static [u8]],
    ) -> Result<Self, CertificateError> {
        // Looked at before they are read: what changes in between is read once more.
        let seen = Mutex::new(stamps(&files));
        let config = server_config(&files, protocols).map_err(|error| CertificateError { listener, error })?;
        let current = RwLock::new(config);
        Ok(Self { listener, files, protocols, current, seen })
    }

    /// What new handshakes use at the moment.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again. New handshakes use what they hold; connections stay as they are. Blocks.
    ///
    /// # Errors
    ///
    /// When they cannot be used: then nothing has changed.
    pub(crate) fn reload(&self) -> Result<(), CertificateError> {
        let found = stamps(&self.files);
        *self.seen() = found;
        let listener = self.listener;
        let config =
            server_config(&self.files, self.protocols).map_err(|error| CertificateError { listener, error })?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Reads the files again if they have changed since they were last read; says so in the log, or why they cannot be used,
    /// once for each change. Blocks.
    fn look(&self) {
        let found = stamps(&self.files);
        if *self.seen() == found {
            return;
        }
        match self.reload() {
            Ok(()) => tracing::info!(listener = self.listener, "certificates have changed and were read again"),
            Err(error) => {
                tracing::error!(%error, "certificates have changed and stay as they are");
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Stamps> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(files: &Tls) -> Stamps {
    [&files.cert, &files.key, &files.client_ca].map(|file| {
        let file = fs::metadata(file.as_deref()?).ok()?;
        let node = [file.dev(), file.ino(), file.len()].map(u64::cast_signed);
        Some([node[0], node[1], node[2], file.mtime(), file.mtime_nsec(), file.ctime_nsec()])
    })
}

/// Looks at the files of all listeners each `interval`, until it is dropped.
pub(crate) async fn watch(all: Vec<Arc<Certificates>>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let all = all.clone();
        // A file system may take its time.
        let looked = tokio::task::spawn_blocking(move || all.iter().for_each(|certificates| certificates.look()));
        if let Err(error) = looked.await {
            tracing::error!(%error, "certificates could not be looked at");
        }
    }
}
