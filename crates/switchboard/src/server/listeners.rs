//! Every listener: bound before the server is ready, closed when it stops.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use switchboard_proto::peer::PeerKind;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::config::{Config, Tls};
use crate::hub::mailbox::Mailbox;
use crate::net::accept::{Acceptor, Becomes, Entrance, Stage, Stopping};
use crate::net::certificates::{self, CertificateError, Certificates};
use crate::net::hand_over::HandOver;
use crate::net::http::Front;
use crate::net::listen::{Bound, ListenAddress, bind, bind_tcp};
use crate::node::Node;
use crate::worker::{AcceptRate, Listener, Loads, WorkerSettings};

use super::settings::{front_settings, off_is_max};
use super::{Addresses, StartError};

/// The protocol of the line listener in TLS handshakes (ALPN). Clients that name none are accepted. A browser names those of
/// HTTP, and its handshake fails: a web page must not have its visitor's browser send lines.
const LINE_PROTOCOL: &[u8] = b"actionhero";

/// What listeners share with workers.
pub(super) struct Shared {
    pub(super) node: Node,
    pub(super) workers: Vec<Mailbox>,
    pub(super) loads: Arc<Loads>,
    pub(super) accept_rate: Arc<AcceptRate>,
    pub(super) settings: WorkerSettings,
    pub(super) started: Instant,
}

/// The listeners of a running server. Dropping this closes those of the control plane and all that they have not handed over.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) addresses: Addresses,
    /// Removed when nobody is accepted any more.
    socket_file: Option<PathBuf>,
    certificates: Vec<Arc<Certificates>>,
    watch: Option<JoinHandle<()>>,
    handshakes_max: usize,
    /// Accepting, and whatever was accepted and not handed over, holds a receiver.
    stopping: watch::Sender<Stage>,
}

impl Listeners {
    /// Binds what the configuration says. What workers accept from by themselves is returned beside it.
    pub(super) fn bind(
        config: &Config,
        shared: &Shared,
        runtime: &Handle,
    ) -> Result<(Self, Vec<Listener>), StartError> {
        let mut this = Self {
            addresses: Addresses::default(),
            socket_file: None,
            certificates: Vec::new(),
            watch: None,
            handshakes_max: off_is_max(config.limits.tls_handshakes_max).min(Semaphore::MAX_PERMITS),
            stopping: watch::Sender::new(Stage::Running),
        };
        let hand_over = HandOver { workers: shared.workers.clone(), loads: Arc::clone(&shared.loads) };
        let entrance = Arc::new(Entrance {
            max_connections: shared.settings.max_connections,
            accept_rate: Arc::clone(&shared.accept_rate),
            started: shared.started,
            handshake_timeout: config.limits.tls_handshake_timeout,
            refusals: Semaphore::new(Entrance::REFUSALS),
            hand_over: hand_over.clone(),
        });
        // Read before anything is bound: a listener in the clear must not be there even for a moment.
        let socket_tls =
            this.read("servers.socket", config.servers.socket.secure, &config.servers.socket.tls, &[LINE_PROTOCOL])?;
        let web_tls = this.read("servers.web", config.servers.web.secure, &config.servers.web.tls, &[b"http/1.1"])?;

        let mut for_workers = Vec::new();
        let socket = &config.servers.socket;
        if socket.enabled {
            let (bound, address) = bind(socket).map_err(|error| {
                let address = match &socket.path {
                    Some(path) => path.display().to_string(),
                    None => format!("{} port {}", socket.bind, socket.port),
                };
                bind_error("servers.socket", " (or path)", address, error)
            })?;
            if let ListenAddress::Unix(path) = &address {
                this.socket_file = Some(path.clone());
            }
            this.addresses.socket = Some(address);
            match (bound, socket_tls) {
                (Bound::Tcp(listener), None) => for_workers.push(Listener::tcp(listener, PeerKind::Socket)),
                (Bound::Unix(listener), None) => for_workers.push(Listener::unix(listener, PeerKind::Socket)),
                (bound, tls) => this.accept(runtime, &entrance, tls, Becomes::Peer(PeerKind::Socket), bound),
            }
        }
        let web = &config.servers.web;
        if web.enabled {
            let (bound, address) = bind_tcp(&web.bind, web.port, web.keepalive, web.backlog)
                .map_err(|error| bind_error("servers.web", "", format!("{} port {}", web.bind, web.port), error))?;
            this.addresses.web = Some(address);
            let front = Front::new(front_settings(config), shared.node.clone(), hand_over);
            this.accept(runtime, &entrance, web_tls, Becomes::Http(Arc::new(front)), bound);
        }
        let interval = config.servers.certificate_check;
        if !this.certificates.is_empty() && !interval.is_zero() {
            this.watch = Some(runtime.spawn(certificates::watch(this.certificates.clone(), interval)));
        }
        Ok((this, for_workers))
    }

    fn read(
        &mut self,
        listener: &'static str,
        secure: bool,
        tls: &Tls,
        protocols: &'static [&'static [u8]],
    ) -> Result<Option<Arc<Certificates>>, CertificateError> {
        if !secure {
            return Ok(None);
        }
        let certificates = Arc::new(Certificates::read(listener, tls.clone(), protocols)?);
        self.certificates.push(Arc::clone(&certificates));
        Ok(Some(certificates))
    }

    fn accept(
        &mut self,
        runtime: &Handle,
        entrance: &Arc<Entrance>,
        certificates: Option<Arc<Certificates>>,
        becomes: Becomes,
        bound: Bound,
    ) {
        let stopping = Stopping(self.stopping.subscribe());
        let handshakes = Arc::new(Semaphore::new(self.handshakes_max));
        let acceptor = Acceptor { entrance: Arc::clone(entrance), certificates, handshakes, becomes, stopping };
        runtime.spawn(async move {
            if let Err(error) = acceptor.run(bound).await {
                tracing::error!(%error, "a listener ended");
            }
        });
    }

    /// Reads the certificates of every listener again.
    ///
    /// # Errors
    ///
    /// The first of those that cannot be used; the log has the others.
    pub(super) fn reload_certificates(&self) -> Result<(), CertificateError> {
        let mut first = Ok(());
        for certificates in &self.certificates {
            match (certificates.reload(), &first) {
                (Err(error), Ok(())) => first = Err(error),
                (Err(error), Err(_)) => tracing::error!(%error, "certificates stay as they are"),
                (Ok(()), _) => {}
            }
        }
        first
    }

    /// Accepts nobody any more. Requests over HTTP that are under way go on.
    pub(super) fn begin_stop(&mut self) {
        // Now, not at the end: by then the file may be that of a server that has taken over.
        self.remove_socket_file();
        self.stopping.send_replace(Stage::Stopping);
    }

    /// Waits until nobody accepts, and nothing that came over HTTP is under way.
    pub(super) async fn emptied(&self) {
        self.stopping.closed().await;
    }

    fn remove_socket_file(&mut self) {
        if let Some(path) = self.socket_file.take() {
            // Somebody may have removed it; then there is nothing to do.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stopping.send_replace(Stage::Ended);
        self.watch.iter().for_each(JoinHandle::abort);
        self.remove_socket_file();
    }
}

fn bind_error(listener: &'static str, or: &str, address: String, error: io::Error) -> StartError {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => format!("; another process listens there: stop it, or set {listener}.port{or}"),
        io::ErrorKind::PermissionDenied => "; ports below 1024 and foreign folders need more rights".to_owned(),
        io::ErrorKind::AddrNotAvailable => format!("; {listener}.bind is no address of this machine"),
        io::ErrorKind::NotFound => format!("; the folder of {listener}.path does not exist"),
        _ => String::new(),
    };
    StartError::Bind { listener, address, error, remedy }
}
