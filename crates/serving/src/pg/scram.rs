//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side: the password never crosses the wire, and is not kept either.
//!
//! Called by a connection while it starts. Channel binding is not offered. A user that does not exist is asked and
//! refused exactly as a wrong password is.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

use crate::config::Secret;

/// The name of the mechanism.
pub(crate) const MECHANISM: &str = "SCRAM-SHA-256";

/// PostgreSQL's number of rounds.
const ITERATIONS: std::num::NonZeroU32 = std::num::NonZeroU32::new(4096).expect("not zero");

const KEY_BYTES: usize = digest::SHA256_OUTPUT_LEN;

/// What the server knows of a password.
#[derive(Clone)]
pub(crate) struct Verifier {
    salt: [u8; 16],
    stored_key: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(********)")
    }
}

/// Why there is no proof: what the client sent is no SCRAM, or the password is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Malformed,
    Wrong,
}

/// A conversation that waits for the client's proof.
#[derive(Debug)]
pub(crate) struct Challenge {
    verifier: Verifier,
    /// What the client must repeat: its `gs2-header`.
    header: String,
    first_bare: String,
    server_first: String,
    nonce: String,
    /// False for a user that does not exist.
    is_known: bool,
}

impl Verifier {
    /// `None` when the system has no randomness.
    pub(crate) fn new(password: &Secret) -> Option<Verifier> {
        let mut salt = [0; 16];
        SystemRandom::new().fill(&mut salt).ok()?;
        Some(Verifier::with_salt(password, salt))
    }

    fn with_salt(password: &Secret, salt: [u8; 16]) -> Verifier {
        let mut salted = [0; KEY_BYTES];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, ITERATIONS, &salt, password.reveal().as_bytes(), &mut salted);
        let client_key = mac(&salted, b"Client Key");
        let stored_key = array(digest::digest(&digest::SHA256, &client_key).as_ref());
        Verifier { salt, stored_key, server_key: mac(&salted, b"Server Key") }
    }

    /// Answers the client's first message.
    pub(crate) fn challenge(
        &self,
        client_first: &str,
        is_known: bool,
    ) -> Result<Challenge, Failure> {
        let mut random = [0; 18];
        SystemRandom::new().fill(&mut random).map_err(|_| Failure::Malformed)?;
        self.challenge_with(client_first, &BASE64_STANDARD.encode(random), is_known)
    }

    fn challenge_with(
        &self,
        client_first: &str,
        server_nonce: &str,
        is_known: bool,
    ) -> Result<Challenge, Failure> {
        // `n,,` or `y,,`: no channel binding. The user is the one of the startup message.
        let bare = client_first.strip_prefix("n,,").or_else(|| client_first.strip_prefix("y,,"));
        let bare = bare.ok_or(Failure::Malformed)?;
        let header = client_first[..3].to_owned();
        let nonce = bare.split(',').find_map(|part| part.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| !nonce.is_empty()).ok_or(Failure::Malformed)?;
        let nonce = format!("{nonce}{server_nonce}");
        let server_first =
            format!("r={nonce},s={},i={ITERATIONS}", BASE64_STANDARD.encode(self.salt));
        Ok(Challenge {
            verifier: self.clone(),
            header,
            first_bare: bare.to_owned(),
            server_first,
            nonce,
            is_known,
        })
    }
}

impl Challenge {
    pub(crate) fn text(&self) -> &str {
        &self.server_first
    }

    /// Checks the client's proof; the answer is the proof of the server.
    pub(crate) fn verify(self, client_final: &str) -> Result<String, Failure> {
        let (without_proof, proof) = client_final.rsplit_once(",p=").ok_or(Failure::Malformed)?;
        let proof = BASE64_STANDARD.decode(proof).map_err(|_| Failure::Malformed)?;
        let mut parts = without_proof.split(',');
        let binding = parts.next().and_then(|part| part.strip_prefix("c="));
        let nonce = parts.next().and_then(|part| part.strip_prefix("r="));
        let binding = BASE64_STANDARD.decode(binding.ok_or(Failure::Malformed)?);
        if binding.ok().as_deref() != Some(self.header.as_bytes()) || nonce != Some(&self.nonce) {
            return Err(Failure::Malformed);
        }
        if proof.len() != KEY_BYTES {
            return Err(Failure::Malformed);
        }
        let signed = format!("{},{},{without_proof}", self.first_bare, self.server_first);
        let signature = mac(&self.verifier.stored_key, signed.as_bytes());
        let client_key: Vec<u8> =
            proof.iter().zip(signature).map(|(proof, signature)| proof ^ signature).collect();
        let shown = digest::digest(&digest::SHA256, &client_key);
        if !is_same(shown.as_ref(), &self.verifier.stored_key) || !self.is_known {
            return Err(Failure::Wrong);
        }
        let proof = mac(&self.verifier.server_key, signed.as_bytes());
        Ok(format!("v={}", BASE64_STANDARD.encode(proof)))
    }
}

/// Compares in a time that says nothing about where the two differ.
pub(crate) fn is_same(shown: &[u8], expected: &[u8]) -> bool {
    let differs = shown.iter().zip(expected).fold(0, |differs, (a, b)| differs | (a ^ b));
    shown.len() == expected.len() && std::hint::black_box(differs) == 0
}

fn mac(key: &[u8], text: &[u8]) -> [u8; KEY_BYTES] {
    array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref())
}

fn array(bytes: &[u8]) -> [u8; KEY_BYTES] {
    bytes.try_into().expect("SHA-256 makes 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conversation of RFC 7677, section 3.
    fn rfc() -> (Verifier, Challenge) {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::with_salt(&Secret::new("pencil"), salt.try_into().unwrap());
        let challenge = verifier.challenge_with(
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            true,
        );
        (verifier, challenge.unwrap())
    }

    const PROOF: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_conversation_of_the_standard_is_accepted() {
        let (_, challenge) = rfc();
        assert_eq!(
            challenge.text(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let proof = challenge.verify(PROOF).unwrap();
        assert_eq!(proof, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_wrong_proof_and_an_unknown_user_fail_alike() {
        let (_, challenge) = rfc();
        let wrong = PROOF.replace("p=dHzb", "p=dHzc");
        assert_eq!(challenge.verify(&wrong), Err(Failure::Wrong));
        let (_, challenge) = rfc();
        let unknown = Challenge { is_known: false, ..challenge };
        assert_eq!(unknown.verify(PROOF), Err(Failure::Wrong));
    }

    #[test]
    fn what_is_no_scram_is_refused() {
        let (verifier, _) = rfc();
        for first in ["", "n", "n,,", "n,,n=user", "n,,r=", "p=tls-unique,,n=,r=abc", "ü,,r=a"] {
            assert!(verifier.challenge(first, true).is_err(), "{first}");
        }
        for last in
            ["", "c=biws", "c=biws,r=x,p=", "c=biws,r=x,p=AAAA", ",p=", "r=,c=,p=AAAA", "c=,p=!"]
        {
            let (_, challenge) = rfc();
            assert_eq!(challenge.verify(last), Err(Failure::Malformed), "{last}");
        }
    }
}
