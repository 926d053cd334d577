//! Switchboard wire protocols.
