//! The hash functions that configurations name, and their lower-case hex digits.

use md5::Md5;
use serde::Deserialize;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// A hash function by the name that a configuration gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Hash {
    #[serde(rename = "MD5")]
    Md5,
    #[serde(rename = "SHA1", alias = "SHA-1")]
    Sha1,
    #[serde(rename = "SHA256", alias = "SHA-256")]
    Sha256,
    #[serde(rename = "SHA384", alias = "SHA-384")]
    Sha384,
    #[serde(rename = "SHA512", alias = "SHA-512")]
    Sha512,
}

impl Hash {
    /// The hash of some bytes, as lower-case hex digits.
    pub(super) fn hex(self, bytes: &[u8]) -> String {
        match self {
            Hash::Md5 => hex(&<Md5 as md5::Digest>::digest(bytes)),
            Hash::Sha1 => hex(&sha1_smol::Sha1::from(bytes).digest().bytes()),
            Hash::Sha256 => hex(&Sha256::digest(bytes)),
            Hash::Sha384 => hex(&Sha384::digest(bytes)),
            Hash::Sha512 => hex(&Sha512::digest(bytes)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
