//! What a client that has logged in logs in with the next time.

use std::fmt;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

/// The SHA-256 of a token: what the server keeps of it.
pub type TokenHash = [u8; SHA256_OUTPUT_LEN];

/// A token that nobody can guess: 256 bits of the system's randomness. Printing one does not show it.
pub struct LoginToken {
    text: String,
    hash: TokenHash,
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
        let text = URL_SAFE_NO_PAD.encode(bytes);
        Ok(Self { hash: Self::hash_of(&text), text })
    }

    /// What the server keeps of a token with this text, whoever says it. A token is long and random, so one round of
    /// SHA-256 hides it, and looking the hash up tells by its time nothing about the token.
    pub fn hash_of(text: &str) -> TokenHash {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        hash
    }

    /// What the client gets, and the server forgets: 43 characters of base64url.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the server keeps.
    pub fn hash(&self) -> TokenHash {
        self.hash
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
        assert_eq!((one.hash(), other.hash()), (LoginToken::hash_of(one.text()), LoginToken::hash_of(other.text())));
        assert_ne!(one.hash(), other.hash());
    }

    #[test]
    fn fault_row_57_a_token_is_not_printed_and_not_in_what_the_server_keeps() {
        let token = LoginToken::generate().unwrap();
        assert!(!format!("{token:?}").contains(token.text()));
        assert!(!token.hash().windows(8).any(|part| token.text().as_bytes().windows(8).any(|other| other == part)));
    }
}
