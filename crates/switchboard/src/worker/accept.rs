//! Where connections come from: listeners that a worker accepts from by itself, and hand-overs from the control plane.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use switchboard_proto::call::CallError;
use switchboard_proto::close::CloseReason;
use switchboard_proto::face::{ConnFacts, Fingerprint, Remote};
use switchboard_proto::id::ConnId;
use switchboard_proto::peer::PeerKind;

use crate::hub::mail::{Admission, Adopted, ConnKey, Mail, Settled, Socket};
use crate::op::Op;

use super::deadlines::Due;
use super::transport::Transport;
use super::{Link, Worker};

/// A listener that needs nothing to wait for: plain TCP or a Unix socket. Accepted TCP sockets inherit their options
/// from it, so that accepting is one system call.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: ListenerSocket,
    kind: PeerKind,
    state: State,
    /// That accepting fails was written to the log, and nothing has been accepted since.
    told: bool,
}

#[derive(Debug)]
enum ListenerSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody waits.
    Idle,
    /// Somebody may wait.
    Ready,
    /// The process is out of something; tried again later.
    Paused,
}

impl Listener {
    /// Takes a listening TCP socket, not blocking.
    pub(crate) fn tcp(socket: std::net::TcpListener, kind: PeerKind) -> Self {
        Self { socket: ListenerSocket::Tcp(TcpListener::from_std(socket)), kind, state: State::Idle, told: false }
    }

    /// Takes a listening Unix socket, not blocking.
    pub(crate) fn unix(socket: std::os::unix::net::UnixListener, kind: PeerKind) -> Self {
        Self { socket: ListenerSocket::Unix(UnixListener::from_std(socket)), kind, state: State::Idle, told: false }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.socket {
            ListenerSocket::Tcp(socket) => socket.register(registry, token, Interest::READABLE),
            ListenerSocket::Unix(socket) => socket.register(registry, token, Interest::READABLE),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    pub(super) fn ready(&mut self) {
        if self.state == State::Idle {
            self.state = State::Ready;
        }
    }

    pub(super) fn retry(&mut self) {
        if self.state == State::Paused {
            self.state = State::Ready;
        }
    }

    fn accept(&self) -> io::Result<(Transport, Remote)> {
        match &self.socket {
            ListenerSocket::Tcp(socket) => {
                let (socket, address) = socket.accept()?;
                Ok((Transport::Tcp(socket), address.into()))
            }
            ListenerSocket::Unix(socket) => {
                let (socket, _) = socket.accept()?;
                Ok((Transport::Unix(socket), Remote::Unix))
            }
        }
    }
}

impl Worker {
    /// Most connections accepted in one turn, so that a flood does not starve those that are there.
    const ACCEPTS_PER_TURN: usize = 64;
    /// How long accepting pauses when the process is out of file descriptors or memory.
    const ACCEPT_PAUSE_MS: u64 = 100;
    /// How many more connections than the least loaded worker this one may take before it hands over.
    const IMBALANCE: usize = 8;

    /// Accepts from every listener where somebody may wait.
    pub(super) fn accept(&mut self) {
        for index in 0..self.listeners.len() {
            let mut accepted = 0;
            while self.listeners[index].is_ready() && accepted < Self::ACCEPTS_PER_TURN {
                accepted += 1;
                self.accept_one(index);
            }
        }
    }

    fn accept_one(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        let kind = listener.kind.clone();
        match listener.accept() {
            Ok((transport, remote)) => {
                listener.told = false;
                self.admit(transport, remote, kind);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => listener.state = State::Idle,
                // The client went away while it waited.
                io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                _ => {
                    if !std::mem::replace(&mut listener.told, true) {
                        tracing::warn!(
                            %error, retry_ms = Self::ACCEPT_PAUSE_MS,
                            "accepting failed; new connections wait in the kernel, existing ones go on"
                        );
                    }
                    listener.state = State::Paused;
                    self.deadlines.push(self.now.monotonic_ms + Self::ACCEPT_PAUSE_MS, Due::Accept);
                }
            },
        }
    }

    /// Takes an accepted connection, hands it to the least loaded worker, or refuses it.
    fn admit(&mut self, mut transport: Transport, remote: Remote, kind: PeerKind) {
        if self.total_load() >= self.settings.max_connections {
            tracing::debug!(%remote, limit = self.settings.max_connections, "too many connections");
            // One attempt: whoever floods us is not waited for.
            let _ = transport.write(b"{\"error\":\"too many connections, try again later\",\"context\":\"api\"}\r\n");
            return;
        }
        if !self.accept_rate.allows(remote, self.now.monotonic_ms) {
            return tracing::debug!(%remote, "too many connections from one address in a second");
        }
        let own = self.load().load(Ordering::Relaxed);
        let (worker, least) = self.loads.least();
        if own <= least + Self::IMBALANCE {
            let facts = self.new_facts(self.loads.new_id(), remote, &kind, None);
            return self.open(transport, Vec::new(), facts, kind, None);
        }
        let socket = match transport {
            Transport::Tcp(socket) => Socket::Tcp(OwnedFd::from(socket).into()),
            Transport::Unix(socket) => Socket::Unix(OwnedFd::from(socket).into()),
            // Accepting makes no such transport.
            Transport::Tls(_) => return,
        };
        let adopted = Adopted {
            socket,
            tls: None,
            received: Vec::new(),
            kind,
            id: self.loads.new_id(),
            fingerprint: None,
            remote,
            admission: None,
        };
        let mail = Mail::Adopt(Box::new(adopted));
        let mailbox = self.mailboxes[worker].clone();
        // Counted where it goes, or all that one turn accepts would go there.
        self.loads.of(worker).fetch_add(1, Ordering::Relaxed);
        match (mailbox.try_reserve(mail.weight()), mail) {
            (Some(permit), mail) => permit.push(mail),
            (None, Mail::Adopt(adopted)) => {
                self.loads.of(worker).fetch_sub(1, Ordering::Relaxed);
                let Adopted { socket, id, kind, .. } = *adopted;
                let facts = self.new_facts(id, remote, &kind, None);
                self.open(Transport::new(socket, None), Vec::new(), facts, kind, None);
            }
            (None, _) => {}
        }
    }

    /// Takes over a connection that was counted when it was handed over.
    pub(super) fn adopt(&mut self, adopted: Adopted) {
        let Adopted { socket, tls, received, kind, id, fingerprint, remote, admission } = adopted;
        self.load().fetch_sub(1, Ordering::Relaxed);
        let facts = self.new_facts(id, remote, &kind, fingerprint);
        self.open(Transport::new(socket, tls), received, facts, kind, admission);
    }

    fn new_facts(&self, id: ConnId, remote: Remote, kind: &PeerKind, presented: Option<Fingerprint>) -> ConnFacts {
        let fingerprint = presented.or_else(|| kind.fingerprint(id, &self.faces));
        ConnFacts { id, kind: kind.connection_type(), remote, connected_at: self.now.unix_ms, fingerprint }
    }

    /// Begins with a connection. Without an admission the node is asked for one.
    fn open(
        &mut self,
        transport: Transport,
        received: Vec<u8>,
        facts: ConnFacts,
        kind: PeerKind,
        admission: Option<Admission>,
    ) {
        let peer = kind.open();
        // TLS may have decrypted something already, which readiness does not tell.
        let readable = matches!(transport, Transport::Tls(_));
        let stash = (!received.is_empty()).then(|| Box::new(received));
        let link = Link {
            transport,
            peer,
            facts,
            stash,
            closing: None,
            readable,
            end_told: false,
            at_end: false,
            streaming: false,
            outside: true,
            muted: false,
            has_more: false,
        };
        let key = self.hub.insert(link.peer.wire_format(), link);
        self.load().fetch_add(1, Ordering::Relaxed);
        let registered = match self.hub.get_mut(key) {
            Some(connection) => connection.link.transport.register(self.poll.registry(), Token(key.slot as usize)),
            None => Ok(()),
        };
        if let Err(error) = registered {
            tracing::warn!(%error, "a connection could not be registered");
            return self.cut(key, CloseReason::Internal);
        }
        let Some(caller) = self.caller(key) else { return };
        match admission.map_or_else(|| self.calls.admit(&caller), |admission| Op::Ready(Ok(admission))) {
            Op::Ready(admission) => {
                self.admitted(key, admission);
                // Its bytes may be there already: those that came with it, or those that TLS has decrypted.
                if self.hub.get(key).is_some_and(|connection| readable || connection.link.stash.is_some()) {
                    self.resumed.push(key);
                }
            }
            Op::Wait(future) => self.settle_later(key, async move { Settled::Admission(future.await) }),
        }
    }

    /// Welcomes a connection, or turns it away. One that ended meanwhile has been told.
    pub(super) fn admitted(&mut self, key: ConnKey, admission: Result<Admission, CallError>) {
        let Some(connection) = self.hub.get_mut(key).filter(|connection| connection.link.closing.is_none()) else {
            return;
        };
        let admission = match admission {
            Ok(admission) => admission,
            Err(reason) => return self.step(key, |peer, cx| peer.on_refused(&reason, cx)),
        };
        connection.link.outside = false;
        let Some(caller) = self.caller(key) else { return };
        self.calls.opened(&caller, admission);
        self.step(key, |peer, cx| peer.on_open(cx));
        if self.is_draining {
            self.step(key, |peer, cx| peer.on_shutdown(cx));
        }
    }
}
