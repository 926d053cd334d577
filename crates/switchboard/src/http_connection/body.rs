//! Bodies of requests.

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use hyper::body::Body;

use super::is_late;

/// Why there is no body. What is left of it may never come, so the connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is longer than it may be.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// It cannot be read to its end.
    Malformed,
}

/// Reads a body of at most `most_bytes`.
pub(crate) async fn read<B>(mut body: B, most_bytes: usize) -> Result<Vec<u8>, BodyError>
where
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    // Refused before the client is told to go on with it.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > most_bytes {
        return Err(BodyError::TooLarge);
    }
    // Memory is taken for what has arrived, not for what is announced: the rest may come slowly, or never.
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| if is_late(&error) { BodyError::TooSlow } else { BodyError::Malformed })?;
        let Ok(frame) = frame.into_data() else { continue };
        if frame.len() > most_bytes - bytes.len() {
            return Err(BodyError::TooLarge);
        }
        bytes.extend_from_slice(&frame);
    }
    Ok(bytes)
}
