//! The entry: one record of a derived stream (enriched, bad, failed) or of the PII stream, and its bytes.
//!
//! Written by the enricher, read by the loader and by the enricher itself when it opens. An entry says which raw range
//! it covers (its mark), also when the range has no rows for this stream. An output larger than a log record may be is
//! cut into parts. Whether entries join to a gap-free prefix is decided in `ranges`, not here.
//!
//! ```text
//! | version: u8 = 1 or 2 | kind: u8 | header length: u32 | header | slice of the body | crc32c of all before: u32 |
//!
//! header   recipe: text | partition: text | from: text | to: text | sequence: u64 | records: u64
//!          | outcomes, enriched, failed, bad, dropped, erased: u64 each | rows: u32 | part: u32 | parts: u32
//! body     rows times ( offset: text | index: u32 | length: u32 | that many bytes of UTF-8 )
//! text     length: u16 | that many bytes of UTF-8
//! ```
//!
//! Numbers are little-endian. Entries of the failed and the PII stream have version 2, the others 1, as before there was that stream. The body may be cut at any byte; the parts of one entry follow each other, and only the
//! last one makes the mark valid. `docs/formats/enriched-stream.md` has each way in which an entry can be broken.

use bytes::{BufMut, Bytes};
use model::position::{Offset, Partition, Range};
use views::catalog::{Counts, Table};

/// The newest version. A newer one is refused by its number.
pub const FORMAT_VERSION: u8 = 2;

/// Above every sequence number that is ever given: one cannot count on from there.
const SEQUENCE_MAX: u64 = 1 << 62;

/// The highest place that an outcome can have among those of its record: it becomes a 32-bit integer with a sign.
const INDEX_MAX: u32 = i32::MAX as u32;

/// Version, kind and header length, and the checksum at the end.
const FRAME_BYTES: usize = 1 + 1 + 4 + 4;

/// Which stream an entry belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rows are lines of the enriched TSV.
    Enriched,
    /// Rows are bad rows, one line of JSON each.
    Bad,
    /// Rows are failed events, as lines of the enriched TSV.
    Failed,
    /// Rows are events that tell what was pseudonymised, as lines of the enriched TSV.
    Pii,
}

impl Kind {
    /// The table that has these rows; clear values are in none.
    pub fn table(self) -> Option<Table> {
        match self {
            Kind::Enriched => Some(Table::Events),
            Kind::Bad => Some(Table::BadRows),
            Kind::Failed => Some(Table::FailedEvents),
            Kind::Pii => None,
        }
    }

    /// The version of entries of this kind, and the number of the kind in them.
    fn encoded(self) -> [u8; 2] {
        match self {
            Kind::Enriched => [1, 1],
            Kind::Bad => [1, 2],
            Kind::Failed => [2, 3],
            Kind::Pii => [2, 4],
        }
    }

    /// The kind with this number, in an entry of this version.
    fn decoded(version: u8, number: u8) -> Option<Kind> {
        match (version, number) {
            (1.., 1) => Some(Kind::Enriched),
            (1.., 2) => Some(Kind::Bad),
            (2.., 3) => Some(Kind::Failed),
            (2.., 4) => Some(Kind::Pii),
            _ => None,
        }
    }
}

/// What a range of raw came to. The entries of one range in all streams carry the same mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The digest of the recipe that the range was enriched with.
    pub recipe: String,
    /// The covered range of the raw partition.
    pub range: Range,
    /// Grows with each range that is written for this partition, also when it is written again. It joins the entry of
    /// one stream with those of the others.
    pub sequence: u64,
    /// Raw records in the range.
    pub records: u64,
    /// Their outcomes, those without a row included.
    pub counts: Counts,
}

/// The rows of one entry, encoded as they are added.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    body: Vec<u8>,
    count: u32,
}

/// One row of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    pub offset: Offset,
    /// The place of the outcome among all outcomes of its record.
    pub index: u32,
    /// A TSV line or the JSON of a bad row, by the kind of the entry.
    pub text: &'a str,
}

/// One stream record, taken apart: the whole entry if it is part 0 of 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub kind: Kind,
    pub mark: Mark,
    /// Rows of the whole entry.
    pub rows: u32,
    pub part: u32,
    pub parts: u32,
    /// This part's slice of the body.
    pub body: Bytes,
}

/// Bytes that are not an entry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    #[error("entry has format version {0}, this program reads up to {FORMAT_VERSION}")]
    Newer(u8),
    #[error("entry has {0} bytes, fewer than it says")]
    Short(usize),
    #[error("entry does not have its checksum")]
    Checksum,
    #[error("entry field `{0}` does not have its form")]
    Field(&'static str),
    #[error("row {row} of an entry: {what}")]
    Row { row: u32, what: &'static str },
}

impl Rows {
    /// Adds a row behind all others.
    ///
    /// # Panics
    /// When the text has 4 GiB or more: a record that the log takes cannot come to that.
    pub fn push(&mut self, offset: Offset, index: u32, text: &str) {
        put_text(&mut self.body, &offset.to_string());
        self.body.put_u32_le(index);
        self.body.put_u32_le(u32::try_from(text.len()).expect("a row is far below 4 GiB"));
        self.body.extend_from_slice(text.as_bytes());
        self.count += 1;
    }

    /// The size of the encoded rows.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    pub fn len(&self) -> u32 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The stream records of one entry, in the order in which they are to be appended: one, or several parts when the rows
/// do not fit into `record_bytes_max`.
pub fn encode(kind: Kind, mark: &Mark, rows: &Rows, record_bytes_max: usize) -> Vec<Bytes> {
    // A header has a few hundred bytes; the bound leaves room for the longest names.
    let header_bytes = FRAME_BYTES + header(mark, rows.count, 0, 1).len();
    let slice_bytes = record_bytes_max.saturating_sub(header_bytes).max(1024);
    let slices: Vec<&[u8]> = match rows.body.is_empty() {
        true => vec![&[]],
        false => rows.body.chunks(slice_bytes).collect(),
    };
    let parts = u32::try_from(slices.len()).expect("a slice has at least 1 KiB");
    (0..parts)
        .zip(slices)
        .map(|(part, slice)| {
            let header = header(mark, rows.count, part, parts);
            let mut bytes = Vec::with_capacity(FRAME_BYTES + header.len() + slice.len());
            bytes.put_slice(&kind.encoded());
            bytes.put_u32_le(u32::try_from(header.len()).expect("a header is small"));
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(slice);
            bytes.put_u32_le(crc32c::crc32c(&bytes));
            bytes.into()
        })
        .collect()
}

/// Takes a stream record apart; the body is shared, not copied. Never panics.
pub fn decode(bytes: &Bytes) -> Result<Part, InvalidEntry> {
    let Some((&version, _)) = bytes.split_first() else { return Err(InvalidEntry::Short(0)) };
    if version > FORMAT_VERSION {
        return Err(InvalidEntry::Newer(version));
    }
    if version == 0 {
        return Err(InvalidEntry::Field("version"));
    }
    let Some((content, checksum)) =
        bytes.split_last_chunk::<4>().filter(|_| bytes.len() >= FRAME_BYTES)
    else {
        return Err(InvalidEntry::Short(bytes.len()));
    };
    if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
        return Err(InvalidEntry::Checksum);
    }
    let mut input = Input { rest: &content[1..] };
    let kind = input.u8().and_then(|number| Kind::decoded(version, number));
    let kind = kind.ok_or(InvalidEntry::Field("kind"))?;
    let short = InvalidEntry::Short(bytes.len());
    let header = input.u32().and_then(|length| input.take(length as usize)).ok_or(short)?;
    let body = content.len() - input.rest.len();
    read_header(kind, header, bytes.slice(body..content.len()))
}

/// The rows of a whole entry, `body` being the slices of all its parts joined. Checks that there are as many as the
/// header and the counts say, inside the range and in the order of their positions. Never panics.
pub fn rows<'a>(
    kind: Kind,
    mark: &Mark,
    count: u32,
    body: &'a [u8],
) -> Result<Vec<Row<'a>>, InvalidEntry> {
    // Clear values are no outcomes, so the mark does not count them.
    let expected = kind.table().map(|table| table.rows_of(&mark.counts));
    if expected.is_some_and(|expected| u64::from(count) != expected) || !mark.counts.closes() {
        return Err(InvalidEntry::Field("rows"));
    }
    let mut input = Input { rest: body };
    let mut rows: Vec<Row<'a>> = Vec::new();
    for number in 0..count {
        let broken = |what| InvalidEntry::Row { row: number, what };
        let row = read_row(&mut input).ok_or(broken("it does not have its form"))?;
        if row.offset < mark.range.from || row.offset >= mark.range.to {
            return Err(broken("it lies outside of the entry's range"));
        }
        if rows.last().is_some_and(|last| (last.offset, last.index) >= (row.offset, row.index)) {
            return Err(broken("it does not lie behind the row before"));
        }
        rows.push(row);
    }
    match input.rest.is_empty() {
        true => Ok(rows),
        false => Err(InvalidEntry::Row { row: count, what: "bytes follow the last row" }),
    }
}

fn header(mark: &Mark, rows: u32, part: u32, parts: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(256);
    put_text(&mut header, &mark.recipe);
    put_text(&mut header, mark.range.partition.as_str());
    put_text(&mut header, &mark.range.from.to_string());
    put_text(&mut header, &mark.range.to.to_string());
    let Counts { outcomes, enriched, failed, bad, dropped, erased } = mark.counts;
    for number in [mark.sequence, mark.records, outcomes, enriched, failed, bad, dropped, erased] {
        header.put_u64_le(number);
    }
    for number in [rows, part, parts] {
        header.put_u32_le(number);
    }
    header
}

fn read_header(kind: Kind, header: &[u8], body: Bytes) -> Result<Part, InvalidEntry> {
    let mut input = Input { rest: header };
    let recipe = input.text().ok_or(InvalidEntry::Field("recipe"))?.to_owned();
    let partition = input.text().and_then(|name| Partition::parse(name).ok());
    let partition = partition.ok_or(InvalidEntry::Field("partition"))?;
    let from = input.offset().ok_or(InvalidEntry::Field("from"))?;
    let to = input.offset().filter(|to| *to > from).ok_or(InvalidEntry::Field("to"))?;
    let mut number = |name| input.u64().ok_or(InvalidEntry::Field(name));
    let (sequence, records) = (number("sequence")?, number("records")?);
    if sequence > SEQUENCE_MAX {
        return Err(InvalidEntry::Field("sequence"));
    }
    let counts = Counts {
        outcomes: number("outcomes")?,
        enriched: number("enriched")?,
        failed: number("failed")?,
        bad: number("bad")?,
        dropped: number("dropped")?,
        erased: number("erased")?,
    };
    let rows = input.u32().ok_or(InvalidEntry::Field("rows"))?;
    let part = input.u32().ok_or(InvalidEntry::Field("part"))?;
    let parts = input.u32().filter(|parts| *parts > part).ok_or(InvalidEntry::Field("parts"))?;
    if !input.rest.is_empty() {
        return Err(InvalidEntry::Field("header length"));
    }
    let range = Range { partition, from, to };
    let mark = Mark { recipe, range, sequence, records, counts };
    Ok(Part { kind, mark, rows, part, parts, body })
}

fn read_row<'a>(input: &mut Input<'a>) -> Option<Row<'a>> {
    let (offset, index) = (input.offset()?, input.u32().filter(|index| *index <= INDEX_MAX)?);
    let length = input.u32()? as usize;
    let text = std::str::from_utf8(input.take(length)?).ok()?;
    Some(Row { offset, index, text })
}

fn put_text(into: &mut Vec<u8>, text: &str) {
    into.put_u16_le(u16::try_from(text.len()).expect("names and offsets are short"));
    into.extend_from_slice(text.as_bytes());
}

/// What is left to read. Every method answers `None` rather than read beyond the end.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u16::from_le_bytes(self.array()?);
        std::str::from_utf8(self.take(length.into())?).ok()
    }

    fn offset(&mut self) -> Option<Offset> {
        self.text()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark(from: u64, to: u64, enriched: u64, bad: u64) -> Mark {
        Mark {
            recipe: "f".repeat(64),
            range: Range {
                partition: Partition::of_stream("raw", 1),
                from: Offset::from_number(from),
                to: Offset::from_number(to),
            },
            sequence: 7,
            records: to - from,
            counts: Counts {
                outcomes: enriched + bad,
                enriched,
                failed: 0,
                bad,
                dropped: 0,
                erased: 0,
            },
        }
    }

    fn some_rows(texts: &[String]) -> Rows {
        let mut rows = Rows::default();
        for (number, text) in (0u32..).zip(texts) {
            rows.push(Offset::from_number(u64::from(number / 3)), number % 3, text);
        }
        rows
    }

    fn joined(entries: &[Bytes]) -> (Part, Vec<u8>) {
        let parts: Vec<Part> = entries.iter().map(|entry| decode(entry).unwrap()).collect();
        let body = parts.iter().flat_map(|part| part.body.to_vec()).collect();
        (parts.into_iter().next_back().unwrap(), body)
    }

    #[test]
    fn an_entry_without_rows_still_carries_its_mark() {
        let mark = mark(3, 9, 0, 0);
        let entries = encode(Kind::Bad, &mark, &Rows::default(), 1 << 20);
        let (part, body) = joined(&entries);
        assert_eq!((part.kind, part.part, part.parts, part.rows), (Kind::Bad, 0, 1, 0));
        assert_eq!(rows(Kind::Bad, &mark, 0, &body), Ok(vec![]));
        assert_eq!(part.mark, mark);
    }

    #[test]
    fn a_newer_version_is_refused_by_its_number() {
        let entry = &encode(Kind::Bad, &mark(0, 1, 0, 0), &Rows::default(), 1 << 20)[0];
        let mut bytes = entry.to_vec();
        bytes[0] = 3;
        assert_eq!(decode(&bytes.into()), Err(InvalidEntry::Newer(3)));
    }

    #[test]
    fn only_failed_events_have_the_newer_version_and_only_there() {
        let mark = mark(0, 1, 0, 0);
        let entry = |kind| encode(kind, &mark, &Rows::default(), 1 << 20).remove(0).to_vec();
        for (kind, version) in
            [(Kind::Enriched, 1), (Kind::Bad, 1), (Kind::Failed, 2), (Kind::Pii, 2)]
        {
            assert_eq!(entry(kind)[0], version);
            assert_eq!(decode(&entry(kind).into()).map(|part| part.kind), Ok(kind));
        }
        let mut older = entry(Kind::Failed);
        older[0] = 1;
        let end = older.len() - 4;
        let checksum = crc32c::crc32c(&older[..end]).to_le_bytes();
        older[end..].copy_from_slice(&checksum);
        assert_eq!(decode(&older.into()), Err(InvalidEntry::Field("kind")));
    }

    #[test]
    fn a_failed_outcome_is_a_row_of_two_kinds() {
        let one = some_rows(&["a".into()]);
        let mut mark = mark(0, 5, 0, 0);
        (mark.counts.outcomes, mark.counts.failed) = (1, 1);
        for kind in [Kind::Bad, Kind::Failed] {
            assert!(rows(kind, &mark, 1, &one.body).is_ok());
            assert_eq!(rows(kind, &mark, 0, &[]), Err(InvalidEntry::Field("rows")));
        }
    }

    #[test]
    fn rows_that_do_not_close_with_the_counts_are_refused() {
        let three = some_rows(&["a".into(), "b".into(), "c".into()]);
        for wrong in [mark(0, 5, 2, 0), mark(0, 5, 4, 0)] {
            assert_eq!(
                rows(Kind::Enriched, &wrong, three.len(), &three.body),
                Err(InvalidEntry::Field("rows"))
            );
        }
        assert!(rows(Kind::Enriched, &mark(0, 5, 3, 9), three.len(), &three.body).is_ok());
    }

    #[test]
    fn rows_outside_of_the_range_or_out_of_order_are_refused() {
        let mut outside = Rows::default();
        outside.push(Offset::from_number(5), 0, "x");
        let mut twice = Rows::default();
        twice.push(Offset::from_number(1), 0, "x");
        twice.push(Offset::from_number(1), 0, "x");
        for (broken, count) in [(outside, 1), (twice, 2)] {
            let read = rows(Kind::Bad, &mark(0, 5, 0, count), broken.len(), &broken.body);
            assert!(matches!(read, Err(InvalidEntry::Row { .. })), "{read:?}");
        }
    }

    #[test]
    fn an_index_or_a_sequence_number_that_cannot_be_is_refused_despite_its_checksum() {
        let read = |index| {
            let mut one = Rows::default();
            one.push(Offset::from_number(1), index, "x");
            rows(Kind::Bad, &mark(0, 5, 0, 1), 1, &one.body).map(|rows| rows.len())
        };
        assert_eq!(read(INDEX_MAX), Ok(1));
        assert!(matches!(read(INDEX_MAX + 1), Err(InvalidEntry::Row { row: 0, .. })));
        let numbered = |sequence| {
            let mark = Mark { sequence, ..mark(0, 1, 0, 0) };
            decode(&encode(Kind::Bad, &mark, &Rows::default(), 1 << 20)[0])
        };
        assert!(numbered(SEQUENCE_MAX).is_ok());
        assert_eq!(numbered(u64::MAX), Err(InvalidEntry::Field("sequence")));
    }

    proptest! {
        #[test]
        fn an_entry_reads_back_however_many_parts_it_has(
            texts in proptest::collection::vec("\\PC{0,2000}", 0..20),
            kind in prop_oneof![Just(Kind::Enriched), Just(Kind::Bad), Just(Kind::Failed), Just(Kind::Pii)],
        ) {
            let count = texts.len() as u64;
            let mut mark = match kind {
                Kind::Enriched => mark(0, 50, count, 3),
                Kind::Bad | Kind::Failed | Kind::Pii => mark(0, 50, 3, count),
            };
            if kind == Kind::Failed {
                std::mem::swap(&mut mark.counts.bad, &mut mark.counts.failed);
            }
            let entries = encode(kind, &mark, &some_rows(&texts), 1400);
            prop_assert!(entries.iter().all(|entry| entry.len() <= 1400));
            let (part, body) = joined(&entries);
            prop_assert_eq!((part.part + 1, part.parts as usize), (part.parts, entries.len()));
            let read = rows(kind, &part.mark, part.rows, &body).unwrap();
            prop_assert_eq!(read.iter().map(|row| row.text).collect::<Vec<_>>(), texts);
            prop_assert_eq!(part.mark, mark);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes.clone().into());
            let _ = rows(Kind::Bad, &mark(0, 5, 0, 2), 2, &bytes);
            // Behind a checksum that holds, too.
            let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
            let mut framed = vec![1 + byte(1) % 2, 1 + byte(0) % 3];
            framed.extend_from_slice(&bytes);
            framed.put_u32_le(crc32c::crc32c(&framed));
            let _ = decode(&framed.into());
        }

        #[test]
        fn a_changed_or_missing_byte_is_noticed(at in 0usize..10_000, to in any::<u8>(), cut in any::<bool>()) {
            let mut bytes =
                encode(Kind::Enriched, &mark(0, 9, 2, 0), &some_rows(&["a".into(), "b".into()]), 1 << 20)[0].to_vec();
            let at = at % bytes.len();
            if cut {
                bytes.truncate(at);
            } else {
                prop_assume!(bytes[at] != to);
                bytes[at] = to;
            }
            prop_assert!(decode(&bytes.into()).is_err());
        }
    }
}
