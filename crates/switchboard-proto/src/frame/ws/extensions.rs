//! What a client offers in `Sec-WebSocket-Extensions`: RFC 6455, section 9.1, and RFC 7692, section 7.1.

use super::handshake::DeflateParams;

/// The header does not follow its grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The first offer of permessage-deflate in `value` that can be accepted as it is. An offer with anything unknown,
/// doubled or out of range is passed over, as the RFC demands.
pub(super) fn negotiate(value: &[u8]) -> Result<Option<DeflateParams>, Malformed> {
    let mut cursor = Cursor { rest: value };
    let mut accepted = None;
    loop {
        cursor.skip_space();
        match cursor.rest.first() {
            None => return Ok(accepted),
            // Elements of a list may be empty.
            Some(b',') => cursor.rest = &cursor.rest[1..],
            Some(_) => {
                let offer = cursor.offer()?;
                accepted = accepted.or(offer);
            }
        }
    }
}

/// What has been seen of one offer.
#[derive(Default)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: bool,
    client_max_window_bits: bool,
    is_refused: bool,
}

impl Offer {
    fn param(&mut self, name: &[u8], value: Option<&[u8]>) {
        let (seen, is_good) = match name.to_ascii_lowercase().as_slice() {
            b"server_no_context_takeover" => (&mut self.server_no_context_takeover, value.is_none()),
            b"client_no_context_takeover" => (&mut self.client_no_context_takeover, value.is_none()),
            // Frames are compressed once for all recipients, with the largest window.
            b"server_max_window_bits" => (&mut self.server_max_window_bits, value == Some(b"15")),
            b"client_max_window_bits" => (&mut self.client_max_window_bits, value.is_none_or(is_window_bits)),
            _ => {
                self.is_refused = true;
                return;
            }
        };
        self.is_refused |= *seen || !is_good;
        *seen = true;
    }
}

fn is_window_bits(value: &[u8]) -> bool {
    matches!(value, [b'8' | b'9'] | [b'1', b'0'..=b'5'])
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// One element of the list.
    fn offer(&mut self) -> Result<Option<DeflateParams>, Malformed> {
        let is_deflate = self.token()?.eq_ignore_ascii_case(b"permessage-deflate");
        let mut offer = Offer::default();
        loop {
            self.skip_space();
            match self.rest.split_first() {
                None | Some((b',', _)) => break,
                Some((b';', rest)) => self.rest = rest,
                Some(_) => return Err(Malformed),
            }
            self.skip_space();
            let name = self.token()?;
            self.skip_space();
            if let [b'=', rest @ ..] = self.rest {
                self.rest = rest;
                self.skip_space();
                let value = self.value()?;
                offer.param(name, Some(&value));
            } else {
                offer.param(name, None);
            }
        }
        let params = DeflateParams { server_max_window_bits: offer.server_max_window_bits };
        Ok((is_deflate && !offer.is_refused).then_some(params))
    }

    fn skip_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn token(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.rest.iter().position(|byte| !is_token(*byte)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// A token, bare or in quotes.
    fn value(&mut self) -> Result<Vec<u8>, Malformed> {
        let [b'"', rest @ ..] = self.rest else { return self.token().map(<[u8]>::to_vec) };
        self.rest = rest;
        let mut value = Vec::new();
        loop {
            let (byte, rest) = match self.rest {
                [b'"', rest @ ..] if !value.is_empty() => {
                    self.rest = rest;
                    return Ok(value);
                }
                [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (*byte, rest),
                [] => return Err(Malformed),
            };
            if !is_token(byte) {
                return Err(Malformed);
            }
            value.push(byte);
            self.rest = rest;
        }
    }
}

/// Whether a byte may stand in a token: RFC 9110, section 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
