//! Passwords as clients send them and as configurations keep them.
//!
//! Many clients send only the SHA-256 of a password, so that digest, in lower-case hexadecimal, is what stored hashes are
//! made of. A hash is a PHC string of Argon2, such as `$argon2id$v=19$m=19456,t=2,p=1$…$…`.

use std::io;
use std::sync::Arc;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version, password_hash};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

/// The SHA-256 of a password. It is as good as the password, so it is never printed.
#[derive(Clone)]
pub(crate) struct PasswordDigest([u8; SHA256_OUTPUT_LEN]);

impl PasswordDigest {
    /// The digest of a password.
    pub(crate) fn of(password: &str) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, password.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits of either case.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != SHA256_OUTPUT_LEN || !rest.is_empty() {
            return None;
        }
        let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Self(bytes))
    }

    /// The bytes themselves. Comparing them takes a time that tells something: do not.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What hashes are made of.
    fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A hash of a password that was read and can be checked against. It may be guessed at, so it is never printed. Cloning
/// shares it.
#[derive(Clone)]
pub(crate) struct PasswordHash(Arc<phc::PasswordHash>);

/// Why a text is no hash that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHash {
    /// It is not a PHC string of Argon2, version 19, with salt and hash.
    NotArgon2,
    /// Checking it would cost more than [`MOST_MEMORY_KIB`], [`MOST_PASSES`] or [`MOST_LANES`].
    TooCostly,
}

/// What a check of a password could not get: memory, for instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

/// Most memory that the check of a stored hash may take: `m`, in KiB.
const MOST_MEMORY_KIB: u32 = 256 * 1024;
/// Most passes over that memory: `t`.
const MOST_PASSES: u32 = 16;
/// Most lanes: `p`.
const MOST_LANES: u32 = 16;

impl PasswordHash {
    /// Reads a PHC string.
    pub(crate) fn parse(text: &str) -> Result<Self, BadHash> {
        let hash = phc::PasswordHash::new(text).map_err(|_| BadHash::NotArgon2)?;
        let is_known = Algorithm::try_from(hash.algorithm.as_str()).is_ok()
            // Without a version it would mean the old one to some, the new one to others.
            && hash.version == Some(Version::V0x13.into())
            && hash.salt.is_some()
            && hash.hash.is_some();
        let params = Params::try_from(&hash).map_err(|_| BadHash::NotArgon2)?;
        if !is_known {
            Err(BadHash::NotArgon2)
        } else if params.m_cost() > MOST_MEMORY_KIB || params.t_cost() > MOST_PASSES || params.p_cost() > MOST_LANES {
            Err(BadHash::TooCostly)
        } else {
            Ok(Self(Arc::new(hash)))
        }
    }

    /// Makes a hash of a password, with a salt of its own.
    pub(crate) fn make(password: &PasswordDigest) -> io::Result<String> {
        let mut salt = [0; argon2::RECOMMENDED_SALT_LEN];
        SystemRandom::new().fill(&mut salt).map_err(|_| io::Error::other("the system gives no random bytes"))?;
        let made = Argon2::default().hash_password_with_salt(password.hex().as_bytes(), &salt);
        made.map(|hash| hash.to_string()).map_err(|error| io::Error::other(error.to_string()))
    }

    /// Whether this is the hash of that password. Takes tens of milliseconds and [`PasswordHash::cost`] of memory.
    pub(crate) fn is_of(&self, password: &PasswordDigest) -> Result<bool, Failed> {
        match Argon2::default().verify_password(password.hex().as_bytes(), &*self.0) {
            Ok(()) => Ok(true),
            Err(password_hash::Error::PasswordInvalid) => Ok(false),
            Err(_) => Err(Failed),
        }
    }

    /// What a check costs, to compare hashes by: memory in KiB times passes.
    pub(crate) fn cost(&self) -> u64 {
        Params::try_from(&*self.0).map_or(0, |params| u64::from(params.m_cost()) * u64::from(params.t_cost()))
    }
}

#[cfg(test)]
impl PasswordHash {
    /// A hash that is checked fast, for tests.
    #[allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
    pub(crate) fn make_cheaply(password: &str, passes: u32) -> String {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, passes, 1, None).unwrap());
        let hash = argon2.hash_password_with_salt(PasswordDigest::of(password).hex().as_bytes(), b"some salt");
        hash.unwrap().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_in_either_case() {
        let hex = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let digest = PasswordDigest::of("secret");
        assert_eq!(digest.hex(), hex);
        for text in [hex.to_owned(), hex.to_uppercase()] {
            assert_eq!(PasswordDigest::from_hex(&text).unwrap().as_bytes(), digest.as_bytes(), "{text}");
        }
        for bad in ["", &hex[1..], &hex[2..], &format!("{hex}00"), &hex.replace('2', "g"), &hex.replace("2b", "é")] {
            assert!(PasswordDigest::from_hex(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_hash_is_of_one_password_only_and_has_its_own_salt() {
        let [one, other] = [(); 2].map(|()| PasswordHash::make(&PasswordDigest::of("secret")).unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && one != other, "{one} {other}");
        let hash = PasswordHash::parse(&one).unwrap();
        assert_eq!(hash.is_of(&PasswordDigest::of("secret")), Ok(true));
        assert_eq!(hash.is_of(&PasswordDigest::of("Secret")), Ok(false));
    }

    #[test]
    fn hashes_of_the_reference_implementation_are_understood() {
        // Made by argon2-cffi 25.1 of the lower-case hexadecimal SHA-256 of `secret`.
        let text = "$argon2id$v=19$m=64,t=2,p=2$c29tZSBzYWx0IG9mIDE2Yg$f+vd2mWWtlZn+cc5D7OykN3NrVIccBmIIwrgnBux4pY";
        let hash = PasswordHash::parse(text).ok().unwrap();
        assert_eq!(hash.is_of(&PasswordDigest::of("secret")), Ok(true));
        assert_eq!(hash.is_of(&PasswordDigest::of("secret ")), Ok(false));
    }

    #[test]
    fn what_is_no_hash_of_argon2_or_costs_too_much_is_refused() {
        let good = PasswordHash::make_cheaply("secret", 1);
        assert_eq!(PasswordHash::parse(&good).map(|hash| hash.cost()).ok(), Some(64));
        let with = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replace(from, to)
        };
        let no_hash = good.rsplit_once('$').unwrap().0.to_owned();
        let bcrypt = "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW".to_owned();
        for bad in [
            String::new(),
            "secret".into(),
            bcrypt,
            no_hash,
            with("argon2id", "scrypt"),
            with("$v=19", ""),
            with("v=19", "v=16"),
            with("m=64", "m=1"),
            with("t=1", "t=0"),
            with("t=1", "x=1"),
            format!("{good}$"),
        ] {
            assert_eq!(PasswordHash::parse(&bad).err(), Some(BadHash::NotArgon2), "{bad}");
        }
        for costly in [
            with("m=64", "m=262145"),
            with("m=64", "m=4294967295"),
            with("t=1", "t=17"),
            with("m=64,t=1,p=1", "m=256,t=1,p=17"),
        ] {
            assert_eq!(PasswordHash::parse(&costly).err(), Some(BadHash::TooCostly), "{costly}");
        }
    }
}
