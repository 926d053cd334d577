//! What a client said in the request that became its WebSocket.

use crate::shard::AppCredentials;

/// What a client said in the request that became its WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// `Identification` came: the client is of the kind that waits for a first message and reads compressed ones.
    pub header_mode: bool,
    /// Credentials of the headers.
    pub credentials: AppCredentials,
    /// Two headers for the same thing disagree.
    pub is_contradictory: bool,
    /// `Shard-In`.
    pub shard: HeaderNumber,
    /// `Shard-Total`.
    pub total: HeaderNumber,
    /// The query asks for a first message (`hello=1`).
    pub wants_hello: bool,
    /// How messages to the client are compressed (`compress=…`), if the query says so.
    pub compress: Option<Compress>,
    /// The query asks for a version, or a compression, that there is not.
    pub is_unsupported: bool,
    /// `permessage-deflate` was agreed on.
    pub deflate: bool,
}

/// A whole number in a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderNumber {
    /// The header is not there.
    #[default]
    Absent,
    /// A number.
    Number(u64),
    /// Something else.
    Bad,
}

/// How messages to a client are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// Text frames, as they are.
    None,
    /// Each message is a zlib stream in a binary frame.
    Zlib,
    /// One deflate window for the connection.
    ZlibStream,
    /// One zstd window for the connection.
    ZstdStream,
}

impl Opening {
    /// Reads the query of the request, without its question mark, and its headers, names in lower case.
    pub fn read<'a>(
        query: Option<&str>,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        deflate: bool,
    ) -> Self {
        let mut opening = Self { deflate, ..Self::default() };
        for (name, value) in headers {
            opening.take_header(name, value);
        }
        opening.header_mode = opening.credentials.id.is_some();
        for pair in query.unwrap_or_default().split('&') {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("hello", value) => opening.wants_hello = value == "1",
                ("v", value) => opening.is_unsupported |= value != "1",
                ("compress", "none") => opening.compress = Some(Compress::None),
                ("compress", "zlib") => opening.compress = Some(Compress::Zlib),
                ("compress", "zlib-stream") => opening.compress = Some(Compress::ZlibStream),
                ("compress", "zstd-stream") => opening.compress = Some(Compress::ZstdStream),
                ("compress", _) => opening.is_unsupported = true,
                _ => {}
            }
        }
        opening
    }

    fn take_header(&mut self, name: &str, value: &[u8]) {
        let place = match name {
            "identification" | "identification-id" => &mut self.credentials.id,
            "public-key" => &mut self.credentials.public_key,
            "secret" | "authorization" => &mut self.credentials.secret,
            "forwarded" | "via" | "x-real-ip" | "cf-connecting-ip" | "true-client-ip" => {
                self.credentials.is_forwarded = true;
                return;
            }
            name if name.starts_with("x-forwarded-") => {
                self.credentials.is_forwarded = true;
                return;
            }
            "shard-in" => return self.is_contradictory |= !self.shard.take(value),
            "shard-total" => return self.is_contradictory |= !self.total.take(value),
            _ => return,
        };
        let Ok(mut text) = std::str::from_utf8(value) else {
            // No credential has such bytes.
            self.is_contradictory = true;
            return;
        };
        if name == "authorization" {
            match text.split_once(' ') {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => text = token.trim_start(),
                // Meant for somebody in between.
                _ => return,
            }
        }
        match place {
            Some(known) => self.is_contradictory |= known != text,
            None => *place = Some(text.to_owned()),
        }
    }
}

impl HeaderNumber {
    /// Takes a header. `false`: it was there before and said something else.
    fn take(&mut self, value: &[u8]) -> bool {
        let number = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let read = number.and_then(|text| text.parse().ok()).map_or(Self::Bad, Self::Number);
        let is_new = *self == Self::Absent;
        let agrees = is_new || *self == read;
        if is_new {
            *self = read;
        }
        agrees
    }

    /// The number, if it is one.
    pub const fn number(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Absent | Self::Bad => None,
        }
    }
}
