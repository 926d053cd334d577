//! Why a client's bytes were refused.

/// Why a client's bytes were refused: the connection is to be closed with [`WsError::close_code`] and nothing more is
/// read from it. The text is short enough for a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WsError {
    /// A frame came without a mask, which every client's frame has.
    #[error("frame is not masked")]
    Unmasked,
    /// A reserved bit is set that nothing negotiated gives a meaning, or not on this frame.
    #[error("reserved bit is set")]
    ReservedBit,
    /// The opcode means nothing.
    #[error("reserved opcode")]
    ReservedOpcode,
    /// A ping, pong or close frame says that more of it follows.
    #[error("control frame is fragmented")]
    FragmentedControl,
    /// A ping, pong or close frame announces more than 125 bytes.
    #[error("control frame is too long")]
    LongControl,
    /// A length is written in more bytes than it needs, or needs the bit that must be zero.
    #[error("length is not well-formed")]
    MalformedLength,
    /// A frame continues a message that never began.
    #[error("nothing to continue")]
    NothingToContinue,
    /// A message begins while another one has not ended.
    #[error("message has not ended")]
    MessageNotEnded,
    /// A close frame has one byte, or a code that no client may send.
    #[error("close frame is not well-formed")]
    MalformedClose,
    /// Text, or the reason of a close frame, is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A compressed message cannot be inflated.
    #[error("compressed data is not well-formed")]
    MalformedDeflate,
    /// A message is longer than [`max_message_bytes`](super::WsLimits::max_message_bytes), or says it will be.
    #[error("message is too big")]
    TooLarge,
    /// A message comes in more than [`max_fragments`](super::WsLimits::max_fragments) frames.
    #[error("message has too many fragments")]
    TooManyFragments,
    /// Pings and pongs come faster than [`control_per_second`](super::WsLimits::control_per_second).
    #[error("too many pings")]
    TooManyControls,
}

impl WsError {
    /// The code of the close frame that tells the client: 1002 where it broke the protocol, 1007 where a message is not
    /// what it claims to be, 1009 where it is too long, 1008 where frames are too many.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Unmasked
            | Self::ReservedBit
            | Self::ReservedOpcode
            | Self::FragmentedControl
            | Self::LongControl
            | Self::MalformedLength
            | Self::NothingToContinue
            | Self::MessageNotEnded
            | Self::MalformedClose => 1002,
            Self::NotUtf8 | Self::MalformedDeflate => 1007,
            Self::TooManyFragments | Self::TooManyControls => 1008,
            Self::TooLarge => 1009,
        }
    }
}
