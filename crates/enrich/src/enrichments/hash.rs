//! The hash functions that configurations name, and their lower-case hex digits.

use md2::Md2;
use md5::Md5;
use serde::Deserialize;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// A hash function by the name that a configuration gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Hash {
    #[serde(rename = "MD2")]
    Md2,
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
            Hash::Md2 => hex(&Md2::digest(bytes)),
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
    let two = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    String::from_utf8(bytes.iter().flat_map(two).collect()).expect("digits are UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of the functions' own documents, for `abc`.
    #[test]
    fn the_functions_are_those_that_their_names_say() {
        for (hash, expected) in [
            (Hash::Md2, "da853b0d3f88d99b30283a69e6ded6bb"),
            (Hash::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (Hash::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Hash::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            assert_eq!(hash.hex(b"abc"), expected, "{hash:?}");
        }
        let digits =
            [(Hash::Sha384, "cb00753f45a35e8b", 96), (Hash::Sha512, "ddaf35a193617aba", 128)];
        for (hash, beginning, length) in digits {
            let found = hash.hex(b"abc");
            assert!(found.starts_with(beginning) && found.len() == length, "{hash:?}: {found}");
        }
    }
}
