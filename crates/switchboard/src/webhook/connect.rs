//! Connections to backends: names are resolved, addresses are looked at, then TCP and, for `https`, TLS.

use std::fs;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::Network;

/// Where Debian and most others keep the authorities of the system.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The authorities that vouch for backends cannot be used.
#[derive(Debug, Error)]
#[error("hooks.ca = \"{}\": {reason}", path.display())]
pub struct AuthoritiesError {
    path: PathBuf,
    reason: String,
}

/// Makes connections. Cloning shares what it needs.
#[derive(Clone)]
pub(super) struct Connector {
    /// `hooks.allow`; empty: any address.
    allow: Arc<[Network]>,
    /// Without one, no URL is `https`.
    tls: Option<TlsConnector>,
    /// How long it may take to connect. The pool goes on connecting when who asked has given up.
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(allow: &[Network], tls: Option<Arc<ClientConfig>>, timeout: Duration) -> Self {
        Self { allow: allow.into(), tls: tls.map(TlsConnector::from), timeout }
    }

    async fn connect(self, uri: Uri) -> io::Result<Stream> {
        let host = uri.host().ok_or_else(|| io::Error::other("the URL has no host"))?;
        // A URL writes an IPv6 address in brackets.
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let socket = self.open(host, port).await?;
        if !is_secure {
            return Ok(Stream::Plain(socket));
        }
        let tls = self.tls.ok_or_else(|| io::Error::other("TLS is not set up"))?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Stream::Tls(Box::new(tls.connect(name, socket).await?)))
    }

    /// Tries every address of the host that is allowed, in the order of the resolver.
    async fn open(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut last = None;
        for address in tokio::net::lookup_host((host, port)).await? {
            let attempt = match self.allows(address.ip()) {
                true => connect(address).await,
                false => {
                    let reason = format!("{host} leads to {}, which hooks.allow does not contain", address.ip());
                    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
                }
            };
            match attempt {
                Ok(socket) => return Ok(socket),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address")))
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|network| network.contains(address))
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.timeout, self.clone().connect(uri));
        Box::pin(async move { connecting.await?.map(TokioIo::new) })
    }
}

/// A configuration that trusts the authorities in `file`, or those of the system.
///
/// # Errors
///
/// When the file cannot be read, or holds no certificate that can be used.
pub(super) fn trusting(file: Option<&Path>) -> Result<Arc<ClientConfig>, AuthoritiesError> {
    let path = file.unwrap_or(Path::new(SYSTEM_AUTHORITIES));
    let error = |reason: String| AuthoritiesError { path: path.to_owned(), reason };
    let pem = fs::read(path).map_err(|reason| error(reason.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let mut roots = RootCertStore::empty();
    // Some systems keep an authority that no library reads; the others are none the worse for it.
    let (added, _) = roots.add_parsable_certificates(certificates.map_err(|reason| error(reason.to_string()))?);
    if added == 0 {
        return Err(error("holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|reason| error(reason.to_string()))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// A connection to a backend.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Calls a method of the stream at hand.
macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Stream::Plain(socket) => {
                let $stream = Pin::new(socket);
                $call
            }
            Stream::Tls(tls) => {
                let $stream = Pin::new(&mut **tls);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(&mut *self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, stream => stream.poll_shutdown(cx))
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
