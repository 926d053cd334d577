//! TLS: what a handshake needs, from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;

use crate::config::Tls;

/// Why TLS could not be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file could not be read, or holds nothing of the kind.
    #[error("{setting} = \"{}\": {reason}", path.display())]
    File {
        /// Which setting names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The files do not fit together.
    #[error("tls.cert and tls.key do not fit together: {0}")]
    Mismatch(rustls::Error),
    /// The system gives no random bytes for the keys of tickets.
    #[error("no keys for session tickets: {0}")]
    Tickets(rustls::Error),
    /// The authorities cannot be used.
    #[error("tls.client_ca cannot be used: {0}")]
    ClientCa(String),
    /// A setting is missing.
    #[error("secure = true needs {0}")]
    Missing(&'static str),
}

/// Reads certificate, key and authorities, and checks that they fit together. `protocols` are those that are agreed upon in
/// the handshake (ALPN): a client that names others only is refused.
///
/// # Errors
///
/// See [`TlsError`]; each names the setting to look at.
pub fn server_config(tls: &Tls, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
    let cert = tls.cert.as_deref().ok_or(TlsError::Missing("tls.cert"))?;
    let key = tls.key.as_deref().ok_or(TlsError::Missing("tls.key"))?;
    let chain = certificates("tls.cert", cert)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| file_error("tls.key", key, &error))?;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Mismatch)?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("tls.client_ca", path)? {
                roots.add(authority).map_err(|error| TlsError::ClientCa(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| TlsError::ClientCa(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Mismatch)?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // A client that comes back shows a ticket, so no state is kept here and no full handshake is needed. The keys of
    // tickets rotate every six hours. Each configuration has its own: a ticket is of no use for another listener, or after a
    // certificate has changed. Certificates of clients are checked in full handshakes only, so those need one each time.
    if tls.client_ca.is_none() {
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(TlsError::Tickets)?;
    }
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Arc::new(config))
}

fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|error| file_error(setting, path, &error))?;
    if found.is_empty() {
        return Err(TlsError::File { setting, path: path.to_owned(), reason: "holds no certificate".to_owned() });
    }
    Ok(found)
}

fn file_error(setting: &'static str, path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    let reason = match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        rustls::pki_types::pem::Error::NoItemsFound => "holds nothing of the kind".to_owned(),
        error => error.to_string(),
    };
    TlsError::File { setting, path: path.to_owned(), reason }
}
