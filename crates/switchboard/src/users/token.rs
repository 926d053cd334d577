//! What a client that has logged in logs in with the next time.

use std::fmt;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};

/// A token that nobody can guess: 256 bits of the system's randomness. Printing one does not show it.
pub struct LoginToken {
    text: String,
}

impl LoginToken {
    const RANDOM_BYTES: usize = 32;

    /// Makes one.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = [0; Self::RANDOM_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
        Ok(Self { text: URL_SAFE_NO_PAD.encode(bytes) })
    }

    /// What the client gets, and the server forgets: 43 characters of base64url.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for LoginToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginToken(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_43_characters_and_no_two_are_the_same() {
        let [one, other] = [(); 2].map(|()| LoginToken::generate().unwrap());
        assert_eq!(one.text().len(), 43);
        assert!(one.text().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{}", one.text());
        assert_ne!(one.text(), other.text());
    }

    #[test]
    fn fault_row_57_a_token_is_not_printed() {
        let token = LoginToken::generate().unwrap();
        assert!(!format!("{token:?}").contains(token.text()));
    }
}
