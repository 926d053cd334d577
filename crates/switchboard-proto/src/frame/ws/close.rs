//! What a close frame says: RFC 6455, sections 5.5.1 and 7.4.

use super::WsFrame;
use super::error::WsError;

/// Whether a client may send this code. What is left out is reserved, or stands for what cannot be sent; 1012 to 1014 were
/// registered after the RFC.
pub(super) fn is_valid_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Reads the payload of a close frame.
pub(super) fn parse(payload: &[u8]) -> Result<WsFrame<'_>, WsError> {
    let (code, reason) = match payload {
        [] => (None, &[][..]),
        [_] => return Err(WsError::MalformedClose),
        [high, low, reason @ ..] => (Some(u16::from_be_bytes([*high, *low])), reason),
    };
    if code.is_some_and(|code| !is_valid_code(code)) {
        return Err(WsError::MalformedClose);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| WsError::NotUtf8)?;
    Ok(WsFrame::Close { code, reason })
}
