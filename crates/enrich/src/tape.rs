//! JSON texts read without a document: the places of their values in the text, in one list.
//!
//! Most texts of trackers need no document: their values are compared with a schema, and what is printed in the end is
//! the text that came. Whatever is unusual is not read here (`None`): the callers read it again with [`crate::json`],
//! which also has the words for what is wrong. So the rule for this file is one-sided: what is read here means the same
//! as the document would, and [`Tape::is_canonical`] promises that the document would print as the text.

use std::borrow::Cow;

/// Objects with more keys are not looked through for a key that stands there twice.
const KEYS_MAX: usize = 64;

/// Longer texts are not read here, so that places fit 32 bits.
const BYTES_MAX: usize = 1 << 30;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    /// Digits alone, perhaps with a sign before them; no negative zero.
    Integer,
    /// With a point, and without an exponent.
    Decimal,
    /// What stands between the quotes is the text itself.
    Text,
    /// There are escapes in it.
    Escaped,
    Array,
    Object,
}

/// A value's place. Texts are without their quotes, arrays and objects with their brackets.
#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    start: u32,
    end: u32,
    /// The place in the list behind this value and all that is inside of it.
    next: u32,
}

/// A text that was read.
#[derive(Debug)]
pub(crate) struct Tape<'t> {
    text: &'t str,
    /// A value stands before what is inside of it, a key before its value.
    nodes: Vec<Node>,
    is_canonical: bool,
}

/// One value of a tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a, 't> {
    tape: &'a Tape<'t>,
    at: usize,
}

impl<'t> Tape<'t> {
    /// Reads a text whose deepest value lies at most at level `depth_max`; the root is level 1. `None` for a text that
    /// is no JSON, that is deeper, or that has something unusual in it: an exponent, a negative zero.
    pub(crate) fn read(text: &'t str, depth_max: u32) -> Option<Tape<'t>> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let nodes = Vec::with_capacity(text.len() / 16 + 8);
        let tape = Tape { text, nodes, is_canonical: true };
        let mut reader =
            Reader { bytes: text.as_bytes(), at: 0, tape, depth_left: depth_max.min(127) };
        reader.value()?;
        reader.space();
        (reader.at == text.len()).then_some(reader.tape)
    }

    pub(crate) fn root(&self) -> Item<'_, 't> {
        Item { tape: self, at: 0 }
    }

    /// Whether a document made of the text would print as the text: no space between values, no escape that is written
    /// otherwise, no key of an object twice.
    pub(crate) fn is_canonical(&self) -> bool {
        self.is_canonical && !self.repeats_a_key()
    }

    /// The text as a document would print it, if no key of an object stands there twice: no space between values, every
    /// text with as few escapes as it needs. `None` if half of a surrogate pair stands in it.
    pub(crate) fn print(&self) -> Option<String> {
        let mut printed = String::with_capacity(self.text.len());
        self.root().print(&mut printed)?;
        Some(printed)
    }

    fn repeats_a_key(&self) -> bool {
        let objects = (0..self.nodes.len()).filter(|at| self.nodes[*at].kind == Kind::Object);
        objects.map(|at| Item { tape: self, at }).any(|object| {
            let mut seen = 0u64;
            object.entries().enumerate().any(|(count, (key, _))| {
                let name = key.raw().as_bytes();
                // Keys of another mark are not the same: few have to be compared.
                let (first, last) = (name.first().unwrap_or(&0), name.last().unwrap_or(&0));
                let mark =
                    1 << ((name.len() * 7 + usize::from(*first) * 3 + usize::from(*last)) % 64);
                let may_repeat = seen & mark != 0;
                seen |= mark;
                let mut earlier = object.entries().take(count);
                count == KEYS_MAX
                    || may_repeat && earlier.any(|(earlier, _)| earlier.raw().as_bytes() == name)
            })
        })
    }

    fn raw(&self, at: usize) -> &'t str {
        let Node { start, end, .. } = self.nodes[at];
        &self.text[start as usize..end as usize]
    }
}

impl<'a, 't> Item<'a, 't> {
    pub(crate) fn kind(self) -> Kind {
        self.tape.nodes[self.at].kind
    }

    /// What stands in the text: of a text what is between its quotes.
    pub(crate) fn raw(self) -> &'t str {
        self.tape.raw(self.at)
    }

    /// The value as JSON.
    pub(crate) fn json(self) -> &'t str {
        let Node { kind, start, end, .. } = self.tape.nodes[self.at];
        let quote = usize::from(matches!(kind, Kind::Text | Kind::Escaped));
        &self.tape.text[start as usize - quote..end as usize + quote]
    }

    /// The text that is meant; `None` if it is none, or if half of a surrogate pair stands in it.
    pub(crate) fn text(self) -> Option<Cow<'t, str>> {
        match self.kind() {
            Kind::Text => Some(Cow::Borrowed(self.raw())),
            Kind::Escaped => serde_json::from_str(self.json()).ok().map(Cow::Owned),
            _ => None,
        }
    }

    /// The text, if there are no escapes in it.
    pub(crate) fn plain_text(self) -> Option<&'t str> {
        (self.kind() == Kind::Text).then(|| self.raw())
    }

    /// The values of an array; nothing for any other value.
    pub(crate) fn items(self) -> impl Iterator<Item = Item<'a, 't>> {
        let end = if self.kind() == Kind::Array { self.next() } else { 0 };
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            let item = (at < end).then_some(Item { at, ..self })?;
            at = item.next();
            Some(item)
        })
    }

    /// The keys and values of an object; nothing for any other value.
    pub(crate) fn entries(self) -> impl Iterator<Item = (Item<'a, 't>, Item<'a, 't>)> {
        let end = if self.kind() == Kind::Object { self.next() } else { 0 };
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            let key = (at < end).then_some(Item { at, ..self })?;
            let value = Item { at: at + 1, ..self };
            at = value.next();
            Some((key, value))
        })
    }

    fn print(self, printed: &mut String) -> Option<()> {
        match self.kind() {
            Kind::Escaped => {
                let text = serde_json::to_string(&*self.text()?);
                printed.push_str(&text.expect("a text is JSON"));
            }
            Kind::Array => {
                printed.push('[');
                for (at, item) in self.items().enumerate() {
                    printed.push_str(if at > 0 { "," } else { "" });
                    item.print(printed)?;
                }
                printed.push(']');
            }
            Kind::Object => {
                printed.push('{');
                for (at, (key, value)) in self.entries().enumerate() {
                    printed.push_str(if at > 0 { "," } else { "" });
                    // A key has no escapes.
                    printed.push_str(key.json());
                    printed.push(':');
                    value.print(printed)?;
                }
                printed.push('}');
            }
            _ => printed.push_str(self.json()),
        }
        Some(())
    }

    fn next(self) -> usize {
        self.tape.nodes[self.at].next as usize
    }
}

struct Reader<'t> {
    bytes: &'t [u8],
    at: usize,
    tape: Tape<'t>,
    depth_left: u32,
}

impl Reader<'_> {
    fn peek(&self) -> u8 {
        // A zero byte stands nowhere in JSON.
        self.bytes.get(self.at).copied().unwrap_or_default()
    }

    fn space(&mut self) {
        while let b' ' | b'\t' | b'\n' | b'\r' = self.peek() {
            self.tape.is_canonical = false;
            self.at += 1;
        }
    }

    fn value(&mut self) -> Option<()> {
        self.space();
        if self.depth_left == 0 {
            return None;
        }
        match self.peek() {
            b'"' => self.text(),
            b'{' => self.container(Kind::Object, b'}'),
            b'[' => self.container(Kind::Array, b']'),
            b'n' => self.word("null", Kind::Null),
            b't' => self.word("true", Kind::Bool),
            b'f' => self.word("false", Kind::Bool),
            _ => self.number(),
        }
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) {
        let next = self.tape.nodes.len() as u32 + 1;
        self.tape.nodes.push(Node { kind, start: start as u32, end: end as u32, next });
    }

    fn container(&mut self, kind: Kind, close: u8) -> Option<()> {
        let place = self.tape.nodes.len();
        self.push(kind, self.at, self.at);
        self.at += 1;
        self.depth_left -= 1;
        self.space();
        if self.peek() == close {
            self.at += 1;
        } else {
            loop {
                if kind == Kind::Object {
                    self.space();
                    self.key()?;
                }
                self.value()?;
                self.space();
                let byte = self.peek();
                self.at += 1;
                match byte {
                    b',' => {}
                    byte if byte == close => break,
                    _ => return None,
                }
            }
        }
        self.depth_left += 1;
        let next = self.tape.nodes.len() as u32;
        let node = &mut self.tape.nodes[place];
        (node.end, node.next) = (self.at as u32, next);
        Some(())
    }

    fn key(&mut self) -> Option<()> {
        if self.peek() != b'"' {
            return None;
        }
        self.text()?;
        // Of two keys that are spelled otherwise one may mean the other. And the names with a dollar are those by which
        // the document's library hands over its own things.
        let key = self.tape.nodes.last()?;
        if key.kind == Kind::Escaped || self.bytes.get(key.start as usize) == Some(&b'$') {
            return None;
        }
        self.space();
        (self.peek() == b':').then(|| self.at += 1)
    }

    fn word(&mut self, word: &str, kind: Kind) -> Option<()> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return None;
        }
        self.push(kind, self.at, self.at + word.len());
        self.at += word.len();
        Some(())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        let first = self.peek();
        let whole = self.digits();
        if whole == 0 || (first == b'0' && whole > 1) {
            return None;
        }
        let mut kind = Kind::Integer;
        if self.peek() == b'.' {
            self.at += 1;
            kind = Kind::Decimal;
            if self.digits() == 0 {
                return None;
            }
        }
        let is_unusual = matches!(self.peek(), b'e' | b'E') || &self.bytes[start..self.at] == b"-0";
        self.push(kind, start, self.at);
        (!is_unusual).then_some(())
    }

    fn text(&mut self) -> Option<()> {
        self.at += 1;
        let start = self.at;
        let mut kind = Kind::Text;
        loop {
            self.at += plain_len(&self.bytes[self.at..]);
            match self.peek() {
                b'"' => break,
                b'\\' => {
                    kind = Kind::Escaped;
                    // As the document is printed: any other escape is written in another way, or not needed.
                    let escaped = *self.bytes.get(self.at + 1)?;
                    if !matches!(escaped, b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') {
                        self.tape.is_canonical = false;
                    }
                    if !matches!(
                        escaped,
                        b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' | b'/' | b'u'
                    ) {
                        return None;
                    }
                    self.at += 2;
                }
                // A control character, or the end.
                _ => return None,
            }
        }
        self.push(kind, start, self.at);
        self.at += 1;
        Some(())
    }
}

/// How many bytes come before the first quote, backslash or control character. Most texts are short and looked through
/// by words of eight bytes; what is longer by 32, which the compiler compares at once.
fn plain_len(bytes: &[u8]) -> usize {
    const SHORT: usize = 64;
    let (short, long) = bytes.split_at(bytes.len().min(SHORT));
    if let Some(found) = find_special(short) {
        return found;
    }
    let is_plain =
        |chunk: &&[u8; 32]| chunk.iter().fold(true, |all, byte| all & !is_special(*byte));
    let (chunks, _) = long.as_chunks::<32>();
    let at = short.len() + chunks.iter().take_while(is_plain).count() * 32;
    find_special(&bytes[at..]).map_or(bytes.len(), |found| at + found)
}

fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

fn find_special(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        if let Some(found) = first_special(*word) {
            return Some(at * 8 + found);
        }
    }
    let found = rest.iter().position(|byte| is_special(*byte))?;
    Some(words.len() * 8 + found)
}

/// The place of the first such byte. A byte of a word is below `n` if subtracting `n` from it borrows and its own highest
/// bit is not set.
fn first_special(bytes: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & HIGHS;
    let word = u64::from_le_bytes(bytes);
    // With this bit turned the quote stands right above the control characters, which stay among themselves.
    let quote_or_control = below(word ^ (ONES * 2), 0x21);
    let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
    let found = quote_or_control | backslash;
    // The lowest mark is always right; only marks above one can be made by its borrow.
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// The document of a value, put together from the places alone.
    fn document(item: Item<'_, '_>) -> Value {
        match item.kind() {
            Kind::Text | Kind::Escaped => item.text().unwrap().into_owned().into(),
            Kind::Array => item.items().map(document).collect(),
            Kind::Object => {
                item.entries().map(|(key, value)| (key.raw().to_owned(), document(value))).collect()
            }
            _ => serde_json::from_str(item.json()).unwrap(),
        }
    }

    /// What is read is what the document says, and what is called canonical prints as it came.
    fn check(text: &str, depth_max: u32) {
        let known = crate::json::parse(text, depth_max);
        let Some(tape) = Tape::read(text, depth_max) else { return };
        let has_half_a_pair = text.contains("\\u");
        match known {
            Ok(known) => {
                if !has_half_a_pair {
                    assert_eq!(document(tape.root()), known, "{text}");
                }
                if tape.is_canonical() {
                    assert_eq!(known.to_string(), text);
                }
                if let Some(printed) = tape.print() {
                    let again = Tape::read(&printed, depth_max).unwrap();
                    if again.is_canonical() {
                        assert_eq!(known.to_string(), printed);
                    }
                }
            }
            // A wrong escape is found by whoever wants the text.
            Err(_) => assert!(has_half_a_pair && !tape.is_canonical(), "{text}"),
        }
    }

    #[test]
    fn what_is_canonical_and_what_is_not() {
        for (text, expect) in [
            (r#"{"a":[1,-2,0,1.50,true,false,null,"é \" \\ \n",{}],"b":[]}"#, Some(true)),
            (r#"{"a": 1}"#, Some(false)),
            (" 1", Some(false)),
            (r#"["\/"]"#, Some(false)),
            (r#"["\u0001"]"#, Some(false)),
            (r#"{"a":1,"b":2,"a":3}"#, Some(false)),
            (r#"{"a":1,"\u0061":3}"#, None),
            (r#"{"$serde_json::private::Number":"1"}"#, None),
            ("1e5", None),
            ("-0", None),
            ("-0.0", Some(true)),
            ("01", None),
            ("1.", None),
            ("[1,]", None),
            ("[1 2]", None),
            ("{\"a\"}", None),
            ("\"a\tb\"", None),
            ("\"a", None),
            ("", None),
            ("nul", None),
            ("1 1", None),
            (r#"["\x"]"#, None),
        ] {
            let found = Tape::read(text, 50).map(|tape| tape.is_canonical());
            assert_eq!(found, expect, "{text}");
            check(text, 50);
        }
        assert!(Tape::read("[[1]]", 3).is_some() && Tape::read("[[1]]", 2).is_none());
        let deep = "[".repeat(100_000);
        assert!(Tape::read(&deep, 1000).is_none());
        let keys: Vec<String> = (0..KEYS_MAX + 1).map(|n| format!("\"{n}\":0")).collect();
        for (count, expect) in [(KEYS_MAX, true), (KEYS_MAX + 1, false)] {
            let text = format!("{{{}}}", keys[..count].join(","));
            assert_eq!(Tape::read(&text, 50).unwrap().is_canonical(), expect);
        }
    }

    proptest! {
        #[test]
        fn every_text_is_read_as_the_document_is_or_not_at_all(
            text in "([\\[\\]{}:,\"a1\\\\ ]|\"a\":|\"b\":|-|0|1\\.5|e1|null|true|\\\\u0061|\\\\n|é|\t){0,24}",
            depth_max in 1u32..6,
        ) {
            check(&text, depth_max);
        }

        #[test]
        fn plain_text_ends_at_the_first_byte_that_is_not(
            plain in 0usize..90, bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let bytes = [vec![b'a'; plain], bytes].concat();
            let expect = bytes.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count();
            prop_assert_eq!(plain_len(&bytes), expect);
        }
    }

    #[test]
    fn plain_text_ends_at_every_place_at_the_right_byte() {
        for byte in 0..=255u8 {
            for at in 0..90 {
                let mut bytes = [b'!'; 90];
                bytes[at] = byte;
                let is_plain = !matches!(byte, b'"' | b'\\' | 0..0x20);
                assert_eq!(plain_len(&bytes), if is_plain { 90 } else { at });
            }
        }
    }
}
