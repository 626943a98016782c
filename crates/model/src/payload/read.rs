//! Reading a collector payload, with its texts where they lie in the raw record.
//!
//! Called by enrich for every record, where copies would cost more than the reading.

use std::borrow::Cow;

use super::{
    BOOL, BYTE, CollectorPayload, DEPTH_MAX, DOUBLE, HEADERS, I16, I32, I64, InvalidPayload, LIST,
    MAP, SET, STOP, STRING, STRUCT, TIMESTAMP,
};

/// A [`CollectorPayload`] whose texts are borrowed from its raw record, but for those that had to be mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload<'a> {
    pub ip_address: Cow<'a, str>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub encoding: Cow<'a, str>,
    pub collector: Cow<'a, str>,
    pub user_agent: Option<Cow<'a, str>>,
    pub referer_uri: Option<Cow<'a, str>>,
    pub path: Option<Cow<'a, str>>,
    pub querystring: Option<Cow<'a, str>>,
    pub body: Option<Cow<'a, str>>,
    pub headers: Option<Vec<Cow<'a, str>>>,
    pub content_type: Option<Cow<'a, str>>,
    pub hostname: Option<Cow<'a, str>>,
    pub network_userid: Option<Cow<'a, str>>,
    pub schema: Cow<'a, str>,
}

impl<'a> Payload<'a> {
    /// Reads a raw record. Fields may stand in any order, the last of two with one id wins, unknown ids and known ids
    /// of another type are skipped, and bytes after the end of the struct are left alone. Text that is not UTF-8 is
    /// read with replacement characters, as Java's reader does. A missing `timestamp` is 0, another missing field that
    /// is not optional here is empty.
    ///
    /// # Errors
    /// When the bytes are not a Thrift struct; [`InvalidPayload`] prints the cause in the words of the bad row.
    pub fn decode(bytes: &'a [u8]) -> Result<Payload<'a>, InvalidPayload> {
        let mut reader = Reader { rest: bytes };
        let mut payload = Payload::default();
        loop {
            let kind = reader.byte()?;
            if kind == STOP {
                return Ok(payload);
            }
            let id = reader.i16()?;
            match (id, kind) {
                (100, STRING) => payload.ip_address = reader.text()?,
                (TIMESTAMP, I64) => payload.timestamp = reader.i64()?,
                (210, STRING) => payload.encoding = reader.text()?,
                (220, STRING) => payload.collector = reader.text()?,
                (300, STRING) => payload.user_agent = Some(reader.text()?),
                (310, STRING) => payload.referer_uri = Some(reader.text()?),
                (320, STRING) => payload.path = Some(reader.text()?),
                (330, STRING) => payload.querystring = Some(reader.text()?),
                (340, STRING) => payload.body = Some(reader.text()?),
                (HEADERS, LIST) => payload.headers = reader.texts()?.or(payload.headers),
                (360, STRING) => payload.content_type = Some(reader.text()?),
                (400, STRING) => payload.hostname = Some(reader.text()?),
                (410, STRING) => payload.network_userid = Some(reader.text()?),
                (31337, STRING) => payload.schema = reader.text()?,
                _ => reader.skip(kind, DEPTH_MAX)?,
            }
        }
    }

    /// The same with texts of its own.
    pub fn into_owned(self) -> CollectorPayload {
        let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        CollectorPayload {
            ip_address: self.ip_address.into_owned(),
            timestamp: self.timestamp,
            encoding: self.encoding.into_owned(),
            collector: self.collector.into_owned(),
            user_agent: owned(self.user_agent),
            referer_uri: owned(self.referer_uri),
            path: owned(self.path),
            querystring: owned(self.querystring),
            body: owned(self.body),
            headers: self.headers.map(|all| all.into_iter().map(Cow::into_owned).collect()),
            content_type: owned(self.content_type),
            hostname: owned(self.hostname),
            network_userid: owned(self.network_userid),
            schema: self.schema.into_owned(),
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], InvalidPayload> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(InvalidPayload::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], InvalidPayload> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(InvalidPayload::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, InvalidPayload> {
        Ok(self.array::<1>()?[0])
    }

    fn i16(&mut self) -> Result<i16, InvalidPayload> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, InvalidPayload> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn size(&mut self) -> Result<usize, InvalidPayload> {
        let size = i32::from_be_bytes(self.array()?);
        usize::try_from(size).map_err(|_| InvalidPayload::NegativeSize(size))
    }

    fn text(&mut self) -> Result<Cow<'a, str>, InvalidPayload> {
        let size = self.size()?;
        let bytes = self.take(size)?;
        // Nearly all of it is well-formed, and only to check that is several times faster.
        Ok(std::str::from_utf8(bytes)
            .map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed))
    }

    /// `None` for a list of anything but texts, which is skipped.
    fn texts(&mut self) -> Result<Option<Vec<Cow<'a, str>>>, InvalidPayload> {
        let kind = self.byte()?;
        let count = self.count(1)?;
        if kind != STRING && count > 0 {
            for _ in 0..count {
                self.skip(kind, DEPTH_MAX)?;
            }
            return Ok(None);
        }
        // Each text takes at least its length, so the claim of a huge list allocates nothing.
        let mut texts = Vec::with_capacity(count.min(self.rest.len() / 4));
        for _ in 0..count {
            texts.push(self.text()?);
        }
        Ok(Some(texts))
    }

    /// The number of elements of a container. Each takes a byte or more, so the count is bounded by what is left.
    fn count(&mut self, element_bytes_min: usize) -> Result<usize, InvalidPayload> {
        let count = self.size()?;
        match count.checked_mul(element_bytes_min) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(InvalidPayload::Truncated),
        }
    }

    fn skip(&mut self, kind: u8, depth_left: u32) -> Result<(), InvalidPayload> {
        if depth_left == 0 {
            return Err(InvalidPayload::TooDeep);
        }
        match kind {
            BOOL | BYTE => self.take(1).map(drop),
            I16 => self.take(2).map(drop),
            I32 => self.take(4).map(drop),
            I64 | DOUBLE => self.take(8).map(drop),
            STRING => {
                let size = self.size()?;
                self.take(size).map(drop)
            }
            STRUCT => loop {
                let kind = self.byte()?;
                if kind == STOP {
                    return Ok(());
                }
                self.take(2)?;
                self.skip(kind, depth_left - 1)?;
            },
            MAP => {
                let (key, value) = (self.byte()?, self.byte()?);
                for _ in 0..self.count(2)? {
                    self.skip(key, depth_left - 1)?;
                    self.skip(value, depth_left - 1)?;
                }
                Ok(())
            }
            SET | LIST => {
                let element = self.byte()?;
                for _ in 0..self.count(1)? {
                    self.skip(element, depth_left - 1)?;
                }
                Ok(())
            }
            unknown => Err(InvalidPayload::UnknownType(unknown)),
        }
    }
}
