//! Small changes to an input, drawn from a seed: what the ordinary test tries between two runs of libFuzzer. It knows
//! nothing of coverage; it is there so that every run of the tests tries something that no earlier one did not replay.

use sim::chance::Chance;

/// The longest input that is made.
const BYTES_MAX: usize = 4096;

/// Bytes that mean something to one of the readers.
const WORDS: [&[u8]; 24] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x80",
    b"%",
    b"%u00",
    b"&",
    b"=",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"[[[[[[[[",
    b"{\"a\":",
    b"null",
    b"-1e999",
    b"18446744073709551615",
    b"99999999999999999999",
    b"\t",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"iglu:a/b/jsonschema/1-0-0",
    b"Transfer-Encoding: chunked\r\n",
    b"0",
];

/// An input made of one or two of `corpus`, changed in one to five places. Of an empty corpus, anything.
pub fn mutated(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = pick(corpus, chance);
    for _ in 0..1 + chance.below(5) {
        change(&mut bytes, corpus, chance);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn pick(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    corpus.get(chance.below(corpus.len() as u64) as usize).cloned().unwrap_or_default()
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.below(bytes.len() as u64 + 1) as usize;
    let to = (at + 1 + chance.below(16) as usize).min(bytes.len());
    match (chance.below(7), bytes.get_mut(at)) {
        (0, Some(byte)) => *byte ^= 1 << chance.below(8),
        (1, Some(byte)) => *byte = chance.number() as u8,
        (2, Some(_)) => drop(bytes.drain(at..to)),
        (3, Some(_)) => {
            let again = bytes[at..to].to_vec();
            insert(bytes, to, &again);
        }
        (4, _) => insert(bytes, at, WORDS[chance.below(WORDS.len() as u64) as usize]),
        (5, _) => {
            let other = pick(corpus, chance);
            let from = chance.below(other.len() as u64 + 1) as usize;
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            let any: Vec<u8> = (0..chance.below(8)).map(|_| chance.number() as u8).collect();
            insert(bytes, at, &any);
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    bytes.splice(at..at, more.iter().copied());
}
