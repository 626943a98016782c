//! Where each value of a JSON text stands: the line and column of every JSON pointer, and keys that are given twice.
//!
//! For texts that the JSON parser has already taken, so there is nothing here that a wrong text could break: whatever is
//! not understood ends the reading. The parser's own limit of nesting bounds the recursion.

use std::collections::HashMap;

/// A place in a text, counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// The places of a text's values. That of an object's member is the place of its key.
#[derive(Debug, Default)]
pub(super) struct Lines {
    places: HashMap<String, Place>,
    /// Pointers of members whose key stood there before, with the place of the later one.
    pub(super) doubled: Vec<(String, Place)>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Lines {
        let mut reader = Reader { text, at: 0, lines: Lines::default(), newlines: newlines(text) };
        let place = reader.place();
        reader.lines.places.insert(String::new(), place);
        _ = reader.value("");
        reader.lines
    }

    /// The place of a pointer, or of the nearest value around it.
    pub(super) fn place(&self, pointer: &str) -> Place {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.places.get(pointer) {
                return *place;
            }
            let Some(end) = pointer.rfind('/') else { return Place { line: 1, column: 1 } };
            pointer = &pointer[..end];
        }
    }
}

/// A key as a part of a JSON pointer.
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn newlines(text: &str) -> Vec<usize> {
    text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    lines: Lines,
    newlines: Vec<usize>,
}

impl<'a> Reader<'a> {
    fn blank(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn place(&mut self) -> Place {
        self.blank();
        let line = self.newlines.partition_point(|newline| *newline < self.at);
        let start = if line == 0 { 0 } else { self.newlines[line - 1] + 1 };
        Place { line: line + 1, column: self.text[start..self.at].chars().count() + 1 }
    }

    /// Takes a character if it is the next one.
    fn takes(&mut self, character: char) -> bool {
        self.blank();
        let is_next = self.text[self.at..].starts_with(character);
        self.at += if is_next { character.len_utf8() } else { 0 };
        is_next
    }

    fn string(&mut self) -> Option<&'a str> {
        self.blank();
        let mut bytes = self.text.as_bytes()[self.at..].iter().enumerate().skip(1);
        let end = loop {
            match bytes.next()? {
                (at, b'"') => break at,
                (_, b'\\') => _ = bytes.next(),
                _ => {}
            }
        };
        let string = &self.text[self.at..=self.at + end];
        self.at += end + 1;
        Some(string)
    }

    fn value(&mut self, pointer: &str) -> Option<()> {
        if self.takes('{') {
            while !self.takes('}') {
                let place = self.place();
                let key: String = serde_json::from_str(self.string()?).ok()?;
                self.takes(':').then_some(())?;
                let member = format!("{pointer}/{}", escaped(&key));
                if self.lines.places.insert(member.clone(), place).is_some() {
                    self.lines.doubled.push((member.clone(), place));
                }
                self.value(&member)?;
                self.takes(',');
            }
        } else if self.takes('[') {
            let mut count = 0;
            while !self.takes(']') {
                let place = self.place();
                let item = format!("{pointer}/{count}");
                self.lines.places.insert(item.clone(), place);
                self.value(&item)?;
                self.takes(',');
                count += 1;
            }
        } else if self.text[self.at..].starts_with('"') {
            self.string()?;
        } else {
            let rest = &self.text[self.at..];
            let end = rest.find([',', ']', '}', ' ', '\t', '\r', '\n']).unwrap_or(rest.len());
            (end > 0).then_some(())?;
            self.at += end;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_value_has_its_place() {
        let text = "{\n  \"a\": [1, {\"b/c\": \"x\\\"]\"}],\n  \"ä\": null, \"z\": true,\n  \"a\": {}\n}\n";
        let lines = Lines::of(text);
        let at = |pointer: &str| {
            let Place { line, column } = lines.place(pointer);
            (line, column)
        };
        assert_eq!(at(""), (1, 1));
        assert_eq!(at("/a/0"), (2, 9));
        assert_eq!(at("/a/1/b~1c"), (2, 13));
        assert_eq!(at("/ä"), (3, 3));
        assert_eq!(at("/z"), (3, 14));
        assert_eq!(at("/a/1/nothing/here"), (2, 12));
        assert_eq!(at("/nothing"), (1, 1));
        assert_eq!(lines.doubled, [("/a".to_owned(), Place { line: 4, column: 3 })]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_hang_or_panic(text in "[\\[\\]{}\",:a1 \\\\\n]{0,30}") {
            Lines::of(&text);
        }
    }
}
