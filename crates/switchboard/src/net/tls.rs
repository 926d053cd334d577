//! TLS: certificates from PEM files, handshakes on the control plane, then the hand-over to a worker.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use switchboard_proto::face::Remote;
use switchboard_proto::peer::PeerKind;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;
use crate::hub::mail::{Adopted, Mail, Socket};
use crate::hub::mailbox::Mailbox;
use crate::worker::AcceptRate;

use super::listen::Bound;

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
    /// The authorities cannot be used.
    #[error("tls.client_ca cannot be used: {0}")]
    ClientCa(String),
    /// A setting is missing.
    #[error("secure = true needs {0}")]
    Missing(&'static str),
}

/// Reads certificate, key and authorities, and checks that they fit together.
///
/// # Errors
///
/// See [`TlsError`]; each names the setting to look at.
pub fn server_config(tls: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
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
    // Sessions are resumed from tickets that clients keep, so nothing is kept for them here.
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

/// The configuration that new handshakes use; replaced as a whole.
#[derive(Debug)]
pub struct Certificates(RwLock<Arc<ServerConfig>>);

impl Certificates {
    /// Begins with `config`.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(RwLock::new(config))
    }

    /// The configuration at the moment.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on new handshakes use `config`. Connections stay as they are.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

/// Accepts connections, shakes hands and hands over.
pub(crate) struct TlsListener {
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) kind: PeerKind,
    /// `limits.tls_handshake_timeout`; zero for none.
    pub(crate) handshake_timeout: Duration,
    /// `limits.tls_handshakes_max`.
    pub(crate) handshakes_max: usize,
    pub(crate) max_connections: usize,
    pub(crate) accept_rate: Arc<AcceptRate>,
    pub(crate) started: Instant,
    pub(crate) workers: Vec<Mailbox>,
    pub(crate) loads: Arc<[AtomicUsize]>,
}

enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl TlsListener {
    /// How long accepting pauses when the process is out of file descriptors or memory.
    const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

    /// Runs until it is dropped.
    ///
    /// # Errors
    ///
    /// When the listener cannot be used by the runtime.
    pub(crate) async fn run(self, bound: Bound) -> io::Result<()> {
        let accepting = match bound {
            Bound::Tcp(listener) => Accepting::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Bound::Unix(listener) => Accepting::Unix(tokio::net::UnixListener::from_std(listener)?),
        };
        let handshakes = Arc::new(Semaphore::new(self.handshakes_max.min(Semaphore::MAX_PERMITS)));
        let this = Arc::new(self);
        // Ends with the listener: a handshake that nobody waits for may never end by itself.
        let mut shaking = JoinSet::new();
        loop {
            while shaking.try_join_next().is_some() {}
            // Taken before accepting: who has to wait waits in the kernel.
            let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return Ok(()) };
            let this = Arc::clone(&this);
            match &accepting {
                Accepting::Tcp(listener) => match listener.accept().await {
                    Ok((stream, address)) => {
                        let remote = Remote::from(address);
                        shaking.spawn(async move {
                            let into = |stream: tokio::net::TcpStream| stream.into_std().map(Socket::Tcp);
                            this.shake_hands(stream, remote, into).await;
                            drop(permit);
                        });
                    }
                    Err(error) => Self::pause(&error).await,
                },
                Accepting::Unix(listener) => match listener.accept().await {
                    Ok((stream, _)) => {
                        shaking.spawn(async move {
                            let into = |stream: tokio::net::UnixStream| stream.into_std().map(Socket::Unix);
                            this.shake_hands(stream, Remote::Unix, into).await;
                            drop(permit);
                        });
                    }
                    Err(error) => Self::pause(&error).await,
                },
            }
        }
    }

    async fn pause(error: &io::Error) {
        if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
            tracing::warn!(%error, "accepting failed; connections wait in the kernel and existing ones go on");
            tokio::time::sleep(Self::ACCEPT_PAUSE).await;
        }
    }

    async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        remote: Remote,
        into_std: impl FnOnce(S) -> io::Result<Socket>,
    ) {
        if self.is_full(remote) {
            return;
        }
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !self.accept_rate.allows(remote, elapsed_ms) {
            return tracing::debug!(%remote, "too many connections from one address in a second");
        }
        let handshake = TlsAcceptor::from(self.certificates.current()).accept(stream);
        let shaken = if self.handshake_timeout.is_zero() {
            Ok(handshake.await)
        } else {
            tokio::time::timeout(self.handshake_timeout, handshake).await
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%remote, %error, "a TLS handshake failed"),
            Err(_) => return tracing::debug!(%remote, "a TLS handshake took too long"),
        };
        // Others may have been quicker meanwhile.
        if self.is_full(remote) {
            return;
        }
        let (stream, session) = stream.into_inner();
        match into_std(stream) {
            Ok(socket) => self.hand_over(socket, session, remote).await,
            Err(error) => tracing::warn!(%error, "a socket could not be handed over"),
        }
    }

    fn is_full(&self, remote: Remote) -> bool {
        let total: usize = self.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum();
        let is_full = total >= self.max_connections;
        if is_full {
            tracing::debug!(%remote, limit = self.max_connections, "too many connections");
        }
        is_full
    }

    async fn hand_over(&self, socket: Socket, session: rustls::ServerConnection, remote: Remote) {
        let loads = self.loads.iter().map(|load| load.load(Ordering::Relaxed)).enumerate();
        let Some((worker, _)) = loads.min_by_key(|(_, load)| *load) else { return };
        let adopted = Adopted {
            socket,
            tls: Some(Box::new(session)),
            received: Vec::new(),
            kind: self.kind,
            id: crate::worker::new_id(),
            fingerprint: None,
            remote,
            admission: None,
        };
        self.loads[worker].fetch_add(1, Ordering::Relaxed);
        self.workers[worker].push(Mail::Adopt(Box::new(adopted))).await;
    }
}
