//! Reads a chunked body: sizes in, sizes and trailers discarded, data out. It is fed as bytes arrive.
//!
//! Strict where leniency would let two programs in a row disagree on where a body ends: no spaces around a size, no
//! bare line ends, bounded extensions and trailers.

/// How many bytes of extensions and trailers one body may carry.
const EXTRAS_MAX: usize = 16 * 1024;

/// The state between two pieces of input.
#[derive(Debug)]
pub(crate) struct Chunked {
    expect: Expect,
    /// Bytes of data that may still come: one below the size that is refused.
    data_left: u64,
    extras_left: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Size {
        size: u64,
        digits: u32,
    },
    Extension {
        size: u64,
    },
    SizeLineFeed {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCarriageReturn,
    DataLineFeed,
    /// The beginning of a trailer line, or the empty line that ends the body.
    TrailerLine,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
}

/// What the input held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// How many bytes of the input belong to the body; all of them unless it ended.
    pub(crate) consumed: usize,
    pub(crate) ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadChunk {
    /// The body reaches the size that is refused.
    TooLarge,
    /// 400: the bytes are no chunks.
    Malformed,
}

impl Chunked {
    /// Refuses a body of `refused_at` bytes or more.
    pub(crate) fn new(refused_at: usize) -> Chunked {
        Chunked {
            expect: Expect::Size { size: 0, digits: 0 },
            data_left: (refused_at as u64).saturating_sub(1),
            extras_left: EXTRAS_MAX,
        }
    }

    /// Takes the next bytes and appends their data to `body`.
    pub(crate) fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<Decoded, BadChunk> {
        let mut at = 0;
        while at < input.len() {
            if let Expect::Data { left } = self.expect {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - at);
                body.extend_from_slice(&input[at..at + length]);
                at += length;
                let left = left - length as u64;
                self.expect =
                    if left == 0 { Expect::DataCarriageReturn } else { Expect::Data { left } };
                continue;
            }
            let byte = input[at];
            at += 1;
            if self.expect == Expect::LastLineFeed {
                return match byte {
                    b'\n' => Ok(Decoded { consumed: at, ended: true }),
                    _ => Err(BadChunk::Malformed),
                };
            }
            self.expect = self.next(byte)?;
        }
        Ok(Decoded { consumed: at, ended: false })
    }

    /// The state after one byte that is not data.
    fn next(&mut self, byte: u8) -> Result<Expect, BadChunk> {
        match (self.expect, byte) {
            (Expect::Size { size, digits }, _) if byte.is_ascii_hexdigit() && digits < 16 => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                Ok(Expect::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
            }
            (Expect::Size { size, digits: 1.. }, b'\r') => Ok(Expect::SizeLineFeed { size }),
            (Expect::Size { size, digits: 1.. }, b';') => Ok(Expect::Extension { size }),
            (Expect::Extension { size }, b'\r') => Ok(Expect::SizeLineFeed { size }),
            (Expect::Extension { .. } | Expect::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                self.spend_extra()
            }
            (Expect::SizeLineFeed { size: 0 }, b'\n') => Ok(Expect::TrailerLine),
            (Expect::SizeLineFeed { size }, b'\n') => {
                self.data_left = self.data_left.checked_sub(size).ok_or(BadChunk::TooLarge)?;
                Ok(Expect::Data { left: size })
            }
            (Expect::DataCarriageReturn, b'\r') => Ok(Expect::DataLineFeed),
            (Expect::DataLineFeed, b'\n') => Ok(Expect::Size { size: 0, digits: 0 }),
            (Expect::TrailerLine, b'\r') => Ok(Expect::LastLineFeed),
            (Expect::TrailerLine, b'!'..=b'~') => {
                self.expect = Expect::Trailer;
                self.spend_extra()
            }
            (Expect::Trailer, b'\r') => Ok(Expect::TrailerLineFeed),
            (Expect::TrailerLineFeed, b'\n') => Ok(Expect::TrailerLine),
            _ => Err(BadChunk::Malformed),
        }
    }

    fn spend_extra(&mut self) -> Result<Expect, BadChunk> {
        self.extras_left = self.extras_left.checked_sub(1).ok_or(BadChunk::Malformed)?;
        Ok(self.expect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(input: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), BadChunk> {
        let (mut chunked, mut body, mut consumed) = (Chunked::new(101), Vec::new(), 0);
        for piece in input.chunks(piece) {
            let decoded = chunked.decode(piece, &mut body)?;
            consumed += decoded.consumed;
            if decoded.ended {
                return Ok((body, consumed, true));
            }
        }
        Ok((body, consumed, false))
    }

    #[test]
    fn data_comes_out_and_what_follows_the_body_is_left() {
        let input =
            b"4\r\nWiki\r\n00A;ext=\"1\"\r\npedia, \r\n.\r\n0\r\nTrailer: x\r\nY:\r\n\r\nGET /";
        for piece in [1, 2, 3, 7, input.len()] {
            let (body, consumed, ended) = decode(input, piece).unwrap();
            assert_eq!((body.as_slice(), ended), (&b"Wikipedia, \r\n."[..], true), "{piece}");
            assert_eq!(&input[consumed..], b"GET /");
        }
        assert_eq!(decode(b"0\r\n\r\n", 1), Ok((vec![], 5, true)));
        assert_eq!(decode(b"4\r\nWi", 1), Ok((b"Wi".to_vec(), 5, false)));
    }

    #[test]
    fn sizes_and_line_ends_with_two_readings_are_refused() {
        for input in [
            &b"\r\n"[..],
            b" 4\r\nWiki",
            b"4 \r\nWiki",
            b"+4\r\nWiki",
            b"-4\r\nWiki",
            b"0x4\r\nWiki",
            b"4\nWiki",
            b"4\rWiki",
            b"g\r\n",
            b";a\r\n",
            b"4;a\nWiki",
            b"4\r\nWikiX\r\n",
            b"4\r\nWiki\n0\r\n",
            b"0\r\n\n",
            b"0\r\n\rx",
            b"0\r\nA: b\n\r\n",
            b"0\r\n folded\r\n\r\n",
            b"00000000000000001\r\n",
        ] {
            assert_eq!(decode(input, input.len()), Err(BadChunk::Malformed), "{input:?}");
            assert_eq!(decode(input, 1), Err(BadChunk::Malformed), "{input:?}");
        }
        let endless = [&b"0\r\n"[..], &b"A: b\r\n".repeat(EXTRAS_MAX / 4 + 1)].concat();
        assert_eq!(decode(&endless, 99), Err(BadChunk::Malformed));
    }

    #[test]
    fn the_limit_is_met_exactly() {
        let body = |count: usize| format!("{count:x}\r\n{}\r\n0\r\n\r\n", "a".repeat(count));
        assert!(decode(body(100).as_bytes(), 9).unwrap().2);
        assert_eq!(decode(body(101).as_bytes(), 9), Err(BadChunk::TooLarge));
        assert_eq!(decode(b"ffffffffffffffff\r\n", 1), Err(BadChunk::TooLarge));
        let many = b"1\r\na\r\n".repeat(101);
        assert_eq!(decode(&many, 1), Err(BadChunk::TooLarge));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic_or_exceed_the_limit(input: Vec<u8>) {
            if let Ok((body, ..)) = decode(&input, 3) {
                prop_assert!(body.len() <= 100);
            }
        }

        #[test]
        fn any_split_of_the_input_gives_the_same_data(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9), 0..9),
            piece in 1_usize..20,
        ) {
            let mut input = Vec::new();
            for chunk in &chunks {
                input.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                input.extend_from_slice(chunk);
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(decode(&input, piece), Ok((chunks.concat(), input.len(), true)));
        }
    }
}
