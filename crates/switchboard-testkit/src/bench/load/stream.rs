//! What a client reads from and writes to: a socket, or TLS over one.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::super::super::certs::{Authority, SERVER_NAME};

/// Whom clients trust when they speak TLS. Every connection makes a whole handshake: version 1.3, no resumption.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Trust in the servers of this authority.
    ///
    /// # Errors
    ///
    /// When the authority's certificate cannot be used.
    pub fn new(authority: &Authority) -> Result<Self, rustls::Error> {
        let mut config = authority.client(None, &[&rustls::version::TLS13])?;
        Arc::make_mut(&mut config).resumption = Resumption::disabled();
        Ok(Self(config))
    }
}

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Secure(Box<Secure>),
}

impl Stream {
    pub(super) fn new(socket: TcpStream, trust: Option<&Trust>) -> io::Result<Self> {
        let Some(Trust(config)) = trust else { return Ok(Self::Plain(socket)) };
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Self::Secure(Box::new(Secure { socket, session })))
    }

    pub(super) fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Secure(secure) => &mut secure.socket,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Secure(secure) => secure.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Secure(secure) => secure.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Secure {
    socket: TcpStream,
    session: ClientConnection,
}

impl Secure {
    /// Goes on with the handshake, or reads. As with a socket, less than the buffer takes means that there is no more.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = rustls::Stream::new(&mut self.session, &mut self.socket);
        let mut filled = 0;
        while filled < buffer.len() {
            match stream.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock && filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Takes what is to be sent; until the handshake is done it waits in the session, and a later read sends it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.session.writer().write(bytes)?;
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                result => result?,
            };
        }
        Ok(taken)
    }
}
