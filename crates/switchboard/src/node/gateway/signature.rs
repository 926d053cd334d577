//! Whether a request bears the signature of an application's platform (Ed25519, RFC 8032).

use std::time::Duration;

use ring::signature::{ED25519, UnparsedPublicKey};

use crate::hex;

/// A request as it came, with what should prove whose it is.
#[derive(Clone, Copy)]
pub(crate) struct SignedBody<'a> {
    /// 128 hexadecimal digits (`X-Signature-Ed25519`).
    pub(crate) signature: &'a str,
    /// What was signed in front of the body (`X-Signature-Timestamp`).
    pub(crate) timestamp: &'a str,
    /// The body, byte for byte.
    pub(crate) body: &'a [u8],
}

impl SignedBody<'_> {
    /// Whether whoever has the private key to this public key, 64 hexadecimal digits, has signed exactly this.
    ///
    /// The check is strict: one signature in one encoding. Keys under which anybody could sign are none of an application: the
    /// configuration refuses them.
    pub(super) fn is_of(&self, public_key: &str) -> bool {
        let Self { signature, timestamp, body } = *self;
        let (Some(key), Some(signature)) = (hex::bytes::<32>(public_key), hex::bytes::<64>(signature)) else {
            return false;
        };
        let message = [timestamp.as_bytes(), body].concat();
        UnparsedPublicKey::new(&ED25519, key).verify(&message, &signature).is_ok()
    }
}

impl SignedBody<'_> {
    /// Whether the time that was signed, in seconds since 1970, differs by at most `max_age` from now. Any time, or none, is
    /// recent for a `max_age` of zero.
    pub(super) fn is_recent(&self, max_age: Duration, now_ms: u64) -> bool {
        let signed_ms = self.timestamp.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1000));
        let max_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        max_age.is_zero() || signed_ms.is_some_and(|signed_ms| signed_ms.abs_diff(now_ms) <= max_ms)
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    /// Secret key, public key, message and signature, as RFC 8032, 7.1 has them.
    const VECTORS: [[&str; 4]; 3] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe2\
             4655141438e7a100b",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee\
             b00d291612bb0c00",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d\
             c027beceea1ec40a",
        ],
    ];

    fn message(digits: &str) -> Vec<u8> {
        digits
            .as_bytes()
            .chunks(2)
            .map(|pair| hex::bytes::<1>(std::str::from_utf8(pair).unwrap()).unwrap()[0])
            .collect()
    }

    fn write(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn signatures_of_rfc_8032_are_right_wherever_the_body_begins() {
        for [secret, key, text, signature] in VECTORS {
            let text = message(text);
            let pair = Ed25519KeyPair::from_seed_unchecked(&hex::bytes::<32>(secret).unwrap()).unwrap();
            assert_eq!(write(pair.public_key().as_ref()), key);
            assert_eq!(write(pair.sign(&text).as_ref()), signature);
            assert!(SignedBody { signature, timestamp: "", body: &text }.is_of(key));
            assert!(
                SignedBody { signature: &signature.to_uppercase(), timestamp: "", body: &text }
                    .is_of(&key.to_uppercase())
            );
        }
        let [_, key, _, signature] = VECTORS[1];
        assert!(SignedBody { signature, timestamp: "r", body: b"" }.is_of(key));
    }

    #[test]
    fn fault_row_66_a_signature_is_of_use_for_a_while_only() {
        let is_recent = |timestamp: &str, max_secs| {
            let body = SignedBody { signature: "", timestamp, body: b"" };
            body.is_recent(Duration::from_secs(max_secs), 1_800_000_000_000)
        };
        for (timestamp, expected) in [
            ("1800000000", true),
            ("1799999700", true),
            ("1799999699", false),
            ("1800000300", true),
            ("1800000301", false),
            ("", false),
            ("-1", false),
            ("now", false),
            ("1800000000000", false),
            ("18446744073709551615", false),
        ] {
            assert_eq!(is_recent(timestamp, 300), expected, "{timestamp}");
            assert!(is_recent(timestamp, 0), "{timestamp}");
        }
    }

    #[test]
    fn fault_row_16_whatever_else_is_no_signature() {
        let [_, key, _, signature] = VECTORS[2];
        let text = message(VECTORS[2][2]);
        let is_right =
            |signature: &str, body: &[u8], key: &str| SignedBody { signature, timestamp: "", body }.is_of(key);
        assert!(is_right(signature, &text, key));
        // Every bit counts: of the signature, of the message, of the key.
        let flipped = |bytes: &[u8], bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        for bit in 0..512 {
            let wrong = write(&flipped(&hex::bytes::<64>(signature).unwrap(), bit));
            assert!(!is_right(&wrong, &text, key), "bit {bit} of the signature");
        }
        for bit in 0..16 {
            assert!(!is_right(signature, &flipped(&text, bit), key), "bit {bit} of the message");
        }
        for bit in 0..256 {
            let wrong = write(&flipped(&hex::bytes::<32>(key).unwrap(), bit));
            assert!(!is_right(signature, &text, &wrong), "bit {bit} of the key");
        }
        // The same number, written with the order of the group added to it.
        let order: [u8; 32] = hex::bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
        let mut larger = hex::bytes::<64>(signature).unwrap();
        let mut carry = 0;
        for (digit, added) in larger[32..].iter_mut().zip(order) {
            let sum = u16::from(*digit) + u16::from(added) + carry;
            (*digit, carry) = (sum as u8, sum >> 8);
        }
        assert!(!is_right(&write(&larger), &text, key));
        let other = VECTORS[1];
        for wrong in [
            "",
            "00",
            &signature[1..],
            &format!("{signature}00"),
            &format!(" {}", &signature[1..]),
            &format!("0x{}", &signature[2..]),
            &signature.replace('a', "g"),
            &"0".repeat(128),
            &"f".repeat(128),
            other[3],
        ] {
            assert!(!is_right(wrong, &text, key), "{wrong}");
        }
        for wrong in ["", "test-key", &key[1..], &format!("{key}00"), &"0".repeat(64), &"f".repeat(64), other[1]] {
            assert!(!is_right(signature, &text, wrong), "{wrong}");
        }
        assert!(!SignedBody { signature, timestamp: "0", body: &text }.is_of(key));
        assert!(!SignedBody { signature, timestamp: "", body: b"" }.is_of(key));
    }
}
