//! Bytes in, bytes out: a socket, plain or under TLS. The worker drives all of them the same way.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;

use crate::hub::mail::Socket;

/// A connected socket, not blocking.
#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<Tls>),
}

/// A socket and the TLS state after its handshake.
#[derive(Debug)]
pub(super) struct Tls {
    session: ServerConnection,
    socket: Stream,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls a method of the socket at hand.
macro_rules! each {
    ($stream:expr, $socket:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($socket) => $call,
            Stream::Unix($socket) => $call,
        }
    };
}

impl Transport {
    pub(super) fn new(socket: Socket, tls: Option<Box<ServerConnection>>) -> Self {
        match (socket, tls) {
            (Socket::Tcp(socket), None) => Self::Tcp(TcpStream::from_std(socket)),
            (Socket::Unix(socket), None) => Self::Unix(UnixStream::from_std(socket)),
            (Socket::Tcp(socket), Some(session)) => {
                Self::Tls(Box::new(Tls { session: *session, socket: Stream::Tcp(TcpStream::from_std(socket)) }))
            }
            (Socket::Unix(socket), Some(session)) => {
                Self::Tls(Box::new(Tls { session: *session, socket: Stream::Unix(UnixStream::from_std(socket)) }))
            }
        }
    }

    /// Registers for both directions, edge-triggered, for as long as the socket lives: a partial write later costs no
    /// system call to ask for more.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
        match self {
            Self::Tcp(socket) => socket.register(registry, token, BOTH),
            Self::Unix(socket) => socket.register(registry, token, BOTH),
            Self::Tls(tls) => each!(&mut tls.socket, socket => socket.register(registry, token, BOTH)),
        }
    }

    /// Whether a read that returned less than was asked for has emptied the socket.
    pub(super) fn short_read_is_all(&self) -> bool {
        !matches!(self, Self::Tls(_))
    }

    /// Sends what TLS has encrypted and the socket did not take. "Would block" when some is left.
    pub(super) fn flush_pending(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(tls) => tls.write_out(),
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
        }
    }

    /// Says that nothing more will be sent.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
            Self::Tls(tls) => {
                tls.session.send_close_notify();
                tls.write_out()?;
                each!(&tls.socket, socket => socket.shutdown(Shutdown::Write))
            }
        }
    }
}

impl Read for Transport {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(into),
            Self::Unix(socket) => socket.read(into),
            Self::Tls(tls) => tls.read(into),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(&[IoSlice::new(bytes)]),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write_vectored(slices),
            Self::Unix(socket) => socket.write_vectored(slices),
            Self::Tls(tls) => tls.write(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_pending()
    }
}

impl Tls {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            match each!(&mut self.socket, socket => self.session.read_tls(socket)) {
                Ok(0) => return Ok(0),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
            if let Err(error) = self.session.process_new_packets() {
                // The alert that says why; the connection ends whether it arrives or not.
                let _ = self.write_out();
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
            match self.write_out() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    }

    /// Takes what fits into rustls's own bounded buffer, once that is empty: "would block" then always comes from the
    /// socket, which tells when it goes on.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_out()?;
        let taken = self.session.writer().write_vectored(slices)?;
        match self.write_out() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            if each!(&mut self.socket, socket => self.session.write_tls(socket))? == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}
