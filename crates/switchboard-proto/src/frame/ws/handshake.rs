//! The request that opens a connection: RFC 6455, section 4.2.
//!
//! Only what makes it a WebSocket's request is checked here; the caller checks path, host and origin.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::extensions;

/// What the answer to an accepted request must say: status 101, `Upgrade: websocket`, `Connection: Upgrade`, and the
/// values here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: String,
    /// How messages are compressed, if they are: [`DeflateParams::header`] is the value of `Sec-WebSocket-Extensions`, and
    /// the framer is [`WsFramer::with_deflate`](super::WsFramer::with_deflate).
    pub deflate: Option<DeflateParams>,
    /// The value of `Sec-WebSocket-Protocol`, if the client offered any: the first one, as `ws` and with it Primus do.
    /// Browsers fail a connection that answers none of their offers.
    pub protocol: Option<String>,
}

/// What was agreed about permessage-deflate. That no window outlives a message is always part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateParams {
    /// The client wants to read the server's window size, which is always the largest.
    pub server_max_window_bits: bool,
}

impl DeflateParams {
    /// The value of `Sec-WebSocket-Extensions` in the answer.
    pub const fn header(self) -> &'static str {
        if self.server_max_window_bits {
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15"
        } else {
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        }
    }
}

/// Why a request is not answered with 101. The text is fit for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The method is another one.
    #[error("a WebSocket is opened with GET")]
    Method,
    /// HTTP/1.0, or a version in which a connection is not upgraded.
    #[error("a WebSocket is opened with HTTP/1.1")]
    HttpVersion,
    /// No `Upgrade` to websocket was asked for.
    #[error("this is a WebSocket: ask for an upgrade")]
    NoUpgrade,
    /// `Connection` does not say upgrade.
    #[error("Connection is not Upgrade")]
    Connection,
    /// `Sec-WebSocket-Version` is missing, or not 13.
    #[error("Sec-WebSocket-Version is not 13")]
    Version,
    /// `Sec-WebSocket-Key` is missing, there twice, or not 16 bytes in base64.
    #[error("Sec-WebSocket-Key is not 16 bytes in base64")]
    Key,
    /// `Sec-WebSocket-Extensions` does not follow its grammar.
    #[error("Sec-WebSocket-Extensions is not well-formed")]
    Extensions,
    /// `Sec-WebSocket-Protocol` is not a list of tokens.
    #[error("Sec-WebSocket-Protocol is not a list of tokens")]
    Protocol,
}

impl HandshakeError {
    /// The status of the answer: 426 where another request would do, else 400.
    pub const fn status(self) -> u16 {
        match self {
            Self::NoUpgrade | Self::Version => 426,
            Self::Method | Self::HttpVersion | Self::Connection | Self::Key | Self::Extensions | Self::Protocol => 400,
        }
    }

    /// Headers that belong into the answer.
    pub const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::NoUpgrade => &[("Upgrade", "websocket")],
            Self::Version => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
            Self::Method | Self::HttpVersion | Self::Connection | Self::Key | Self::Extensions | Self::Protocol => &[],
        }
    }
}

/// What every key is joined with before it is hashed.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Decides about a request. `version` is HTTP's, major and minor; `headers` are names, in any case, with their values as
/// they came; `deflate` says whether messages may be compressed.
///
/// # Errors
///
/// When the request does not open a WebSocket.
pub fn accept<'a>(
    method: &str,
    version: (u8, u8),
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    deflate: bool,
) -> Result<Accepted, HandshakeError> {
    if method != "GET" {
        return Err(HandshakeError::Method);
    }
    if version != (1, 1) {
        return Err(HandshakeError::HttpVersion);
    }
    let mut has_upgrade = false;
    let mut has_connection = false;
    let mut ws_version = Single::Missing;
    let mut key = Single::Missing;
    let mut extensions = Ok(None);
    let mut protocol = Ok(None);
    for (name, value) in headers {
        let is = |header: &str| name.eq_ignore_ascii_case(header);
        if is("upgrade") {
            has_upgrade |= has_token(value, b"websocket");
        } else if is("connection") {
            has_connection |= has_token(value, b"upgrade");
        } else if is("sec-websocket-version") {
            ws_version.add(value);
        } else if is("sec-websocket-key") {
            key.add(value);
        } else if is("sec-websocket-extensions")
            && let Ok(accepted) = extensions
        {
            extensions = extensions::negotiate(value).map(|offer| accepted.or(offer));
        } else if is("sec-websocket-protocol")
            && let Ok(first) = protocol
        {
            protocol = first_token(value).map(|offer| first.or(offer));
        }
    }
    if !has_upgrade {
        return Err(HandshakeError::NoUpgrade);
    }
    if !has_connection {
        return Err(HandshakeError::Connection);
    }
    if ws_version != Single::Value(b"13") {
        return Err(HandshakeError::Version);
    }
    let Single::Value(key) = key else { return Err(HandshakeError::Key) };
    if key.len() != 24 || STANDARD.decode_slice(key, &mut [0; 18]) != Ok(16) {
        return Err(HandshakeError::Key);
    }
    let offer = extensions.map_err(|extensions::Malformed| HandshakeError::Extensions)?;
    let protocol = protocol.map_err(|extensions::Malformed| HandshakeError::Protocol)?.map(str::to_owned);
    let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
    Ok(Accepted { accept, deflate: offer.filter(|_| deflate), protocol })
}

/// The first token of a comma-separated list. Empty elements are ignored.
fn first_token(list: &[u8]) -> Result<Option<&str>, extensions::Malformed> {
    let tokens = || list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty());
    if !tokens().all(|token| token.iter().all(|byte| extensions::is_token(*byte))) {
        return Err(extensions::Malformed);
    }
    Ok(tokens().next().and_then(|token| std::str::from_utf8(token).ok()))
}

/// A header that must be there exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Single<'a> {
    Missing,
    Value(&'a [u8]),
    Several,
}

impl<'a> Single<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = if *self == Self::Missing { Self::Value(value.trim_ascii()) } else { Self::Several };
    }
}

/// Whether a comma-separated list has an element, in any case.
fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|element| element.trim_ascii().eq_ignore_ascii_case(token))
}
