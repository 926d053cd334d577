//! Conversations with the scribe.
