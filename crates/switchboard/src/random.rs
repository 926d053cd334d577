//! Random numbers that nobody can guess.

use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};

/// 128 bits from the operating system.
pub(crate) fn bits() -> Result<u128, Unspecified> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}
