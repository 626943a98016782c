//! Packs many payloads into one compressed record. Pure; who waits for it and how long is `batching`'s. Snowplow:
//! `collector.md` 5.4.
//!
//! ```text
//! zstd or gzip of:  01 | 01 | [length, 4 bytes big-endian | one payload] …
//! ```

use crate::config::{Compression, CompressionType};
use flate2::write::GzEncoder;
use std::io::{self, Write};

/// Format version and version of the payloads.
const HEADER: [u8; 2] = [1, 1];
/// What a reader may be made to unfold of one record; enrich reads 64 MiB.
const UNFOLDED_BYTES_MAX: usize = 16 << 20;

/// A record that is being filled.
pub(crate) struct Container {
    encoder: Encoder,
    record_bytes_max: usize,
    /// Bytes behind the compression.
    unfolded: usize,
    /// Of those, what the encoder may still keep to itself.
    pending: usize,
    payloads: usize,
}

enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Container {
    /// An empty record that will not be larger than `record_bytes_max`, unless one payload alone is.
    pub(crate) fn new(config: &Compression, record_bytes_max: usize) -> io::Result<Container> {
        let mut encoder = match config.kind {
            CompressionType::Zstd => {
                let level = config.zstd_compression_level;
                Encoder::Zstd(zstd::stream::write::Encoder::new(Vec::new(), level)?)
            }
            CompressionType::Gzip => {
                let level = flate2::Compression::new(config.gzip_compression_level);
                Encoder::Gzip(GzEncoder::new(Vec::new(), level))
            }
        };
        encoder.write(&HEADER)?;
        let (unfolded, pending) = (HEADER.len(), HEADER.len());
        Ok(Container { encoder, record_bytes_max, unfolded, pending, payloads: 0 })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.payloads == 0
    }

    /// Whether a payload can be added. The first one always can.
    pub(crate) fn has_room(&mut self, payload: &[u8]) -> io::Result<bool> {
        let more = 4 + payload.len();
        if self.is_empty() {
            return Ok(true);
        }
        if self.unfolded + more > UNFOLDED_BYTES_MAX {
            return Ok(false);
        }
        if self.at_most(more) > self.record_bytes_max && self.pending > 0 {
            // What the encoder keeps is counted at its worst; asked to give it out, it says what it really is.
            self.encoder.flush()?;
            self.pending = 0;
        }
        Ok(self.at_most(more) <= self.record_bytes_max)
    }

    pub(crate) fn push(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        self.encoder.write(&length.to_be_bytes())?;
        self.encoder.write(payload)?;
        self.unfolded += 4 + payload.len();
        self.pending += 4 + payload.len();
        self.payloads += 1;
        Ok(())
    }

    /// The record.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self.encoder {
            Encoder::Zstd(encoder) => encoder.finish(),
            Encoder::Gzip(encoder) => encoder.finish(),
        }
    }

    /// The largest record that could come of it with so many bytes more.
    fn at_most(&self, more: usize) -> usize {
        let unwritten = self.pending + more;
        // Blocks that do not shrink are stored, with a few bytes of their own each; then the end of the frame.
        self.encoder.written() + unwritten + unwritten / 128 + 64
    }
}

impl Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Encoder::Zstd(encoder) => encoder.write_all(bytes),
            Encoder::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::Zstd(encoder) => encoder.flush(),
            Encoder::Gzip(encoder) => encoder.flush(),
        }
    }

    fn written(&self) -> usize {
        match self {
            Encoder::Zstd(encoder) => encoder.get_ref().len(),
            Encoder::Gzip(encoder) => encoder.get_ref().len(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    /// The payloads of a record, read by the letter of the format.
    pub(crate) fn read(record: &[u8]) -> Vec<Vec<u8>> {
        let mut unfolded = Vec::new();
        match record {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => unfolded = zstd::decode_all(record).unwrap(),
            [0x1f, 0x8b, ..] => {
                flate2::read::GzDecoder::new(record).read_to_end(&mut unfolded).unwrap();
            }
            _ => panic!("no container: {record:?}"),
        }
        let mut rest = unfolded.strip_prefix(&HEADER).unwrap();
        let mut payloads = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (payload, after) = after.split_at(u32::from_be_bytes(*length) as usize);
            payloads.push(payload.to_vec());
            rest = after;
        }
        assert!(rest.is_empty());
        payloads
    }

    fn of(kind: CompressionType) -> Compression {
        Compression { enabled: true, kind, ..Compression::default() }
    }

    const KINDS: [CompressionType; 2] = [CompressionType::Zstd, CompressionType::Gzip];

    #[test]
    fn payloads_come_back_in_order() {
        for kind in KINDS {
            let mut container = Container::new(&of(kind), 1_000_000).unwrap();
            assert!(container.is_empty());
            let payloads: Vec<Vec<u8>> =
                (0..100).map(|it| format!("payload {it}").into()).collect();
            for payload in &payloads {
                assert!(container.has_room(payload).unwrap());
                container.push(payload).unwrap();
            }
            let record = container.finish().unwrap();
            assert!(record.len() < 1000, "{}", record.len());
            assert_eq!(read(&record), payloads);
        }
    }

    #[test]
    fn a_payload_that_is_too_large_alone_is_alone() {
        for kind in KINDS {
            let mut container = Container::new(&of(kind), 10).unwrap();
            let payload: Vec<u8> = (0..=255).collect();
            assert!(container.has_room(&payload).unwrap());
            container.push(&payload).unwrap();
            assert!(!container.has_room(b"x").unwrap());
            assert_eq!(read(&container.finish().unwrap()), [payload]);
        }
    }

    #[test]
    fn a_record_never_unfolds_to_more_than_readers_take() {
        let mut container = Container::new(&of(CompressionType::Zstd), 1 << 30).unwrap();
        let payload = vec![b'a'; 1 << 20];
        let mut count = 0;
        while container.has_room(&payload).unwrap() {
            container.push(&payload).unwrap();
            count += 1;
        }
        assert_eq!(count, 15);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_record_keeps_its_size_whatever_the_payloads_are(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..400), 1..40),
            gzip: bool,
            maximum in 500_usize..4000,
        ) {
            let kind = KINDS[usize::from(gzip)];
            let mut container = Container::new(&of(kind), maximum).unwrap();
            let mut taken = Vec::new();
            for payload in payloads {
                if container.has_room(&payload).unwrap() {
                    container.push(&payload).unwrap();
                    taken.push(payload);
                }
            }
            let record = container.finish().unwrap();
            prop_assert!(record.len() <= maximum || taken.len() == 1);
            prop_assert_eq!(read(&record), taken);
        }
    }
}
