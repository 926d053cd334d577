//! Binding: a TCP port or a Unix socket.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::{Admin, SocketServer};

/// A bound listener, not blocking.
#[derive(Debug)]
pub enum Bound {
    /// On a TCP port.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

/// Where a listener listens, as the ready line shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address with its real port.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => fmt::Display::fmt(address, f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ListenAddress {
    /// The TCP address, if it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

/// Binds what the configuration says.
///
/// # Errors
///
/// Those of the system, and "address in use" when another process answers on the Unix socket.
pub fn bind(config: &SocketServer) -> io::Result<(Bound, ListenAddress)> {
    match &config.path {
        Some(path) => Ok((Bound::Unix(bind_unix(path, config.backlog)?), ListenAddress::Unix(path.clone()))),
        None => bind_tcp(&config.bind, config.port, config.keepalive, config.backlog),
    }
}

/// Binds a TCP port; `keepalive` and `backlog` are those of its section.
///
/// # Errors
///
/// Those of the system.
pub fn bind_tcp(ip: &str, port: u16, keepalive: Duration, backlog: u16) -> io::Result<(Bound, ListenAddress)> {
    let ip: IpAddr = ip.parse().map_err(|_| io::Error::other("not an IP address"))?;
    let listener = listen(SocketAddr::new(ip, port), keepalive, backlog)?;
    let address = listener.local_addr()?;
    Ok((Bound::Tcp(listener), ListenAddress::Tcp(address)))
}

/// Binds the admin API's listener, not blocking.
///
/// # Errors
///
/// Those of the system.
pub fn bind_admin(config: &Admin) -> io::Result<(TcpListener, SocketAddr)> {
    // Operators are few. A peer that vanished, or does not read its answer, frees its place after some 75 seconds.
    const KEEPALIVE: Duration = Duration::from_secs(30);
    const BACKLOG: u16 = 128;
    let ip: IpAddr = config.bind.parse().map_err(|_| io::Error::other("not an IP address"))?;
    let listener = listen(SocketAddr::new(ip, config.port), KEEPALIVE, BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Options are set on the listener: Linux hands them on to every accepted socket.
fn listen(address: SocketAddr, keepalive: Duration, backlog: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Answers to one read leave in one write already; waiting for more would only add delay.
    socket.set_tcp_nodelay(true)?;
    if !keepalive.is_zero() {
        const PROBES: u32 = 3;
        let interval = keepalive / 2;
        let probing = TcpKeepalive::new().with_time(keepalive).with_interval(interval).with_retries(PROBES);
        socket.set_tcp_keepalive(&probing)?;
        // A peer that vanishes while something is being sent to it is not probed, so the same patience is set for that.
        socket.set_tcp_user_timeout(Some(keepalive + interval * PROBES))?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::from(backlog))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, backlog: u16) -> io::Result<UnixListener> {
    let bind = || -> io::Result<UnixListener> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&socket2::SockAddr::unix(path)?)?;
        socket.listen(i32::from(backlog))?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    match bind() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            std::fs::remove_file(path)?;
            bind()
        }
        result => result,
    }
}

/// A socket file on which nobody listens was left behind by a process that was killed.
fn is_stale(path: &Path) -> bool {
    let is_socket = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
