//! From a path's text to its steps.
//!
//! ```text
//! path      = "$" step*                    (inside a condition also "@" step*)
//! step      = ("." | "..") ("*" | name) | ("." | "..")? "[" inside "]"
//! inside    = "*" | name list in quotes | index list | from? ":" to? (":" by?)? | "?(" condition ")"
//! condition = both ("||" both)*      both = one ("&&" one)*
//! one       = "!" one | "(" condition ")" | operand (comparison operand)?
//! operand   = "@" step* | text in quotes | number | true | false | null
//! ```

use super::{Comparison, Condition, InvalidPath, JsonPath, Operand, Pick, Step};
use serde_json::{Number, Value};

/// Brackets inside brackets; the rest of a path is read without recursion.
const NESTING_MAX: usize = 16;

pub(super) fn parse(text: &str) -> Result<JsonPath, InvalidPath> {
    let mut reader = Reader { chars: text.chars().collect(), at: 0, nesting: 0 };
    let path = reader.whole();
    path.map_err(|what| InvalidPath { path: text.to_owned(), at: reader.at + 1, what })
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    nesting: usize,
}

/// What was expected at the reader's place.
type Read<T> = Result<T, String>;

impl Reader {
    fn whole(&mut self) -> Read<JsonPath> {
        if !self.takes("$") {
            return Err("expected `$`".to_owned());
        }
        let path = self.steps()?;
        match self.peek() {
            None => Ok(path),
            Some(_) => Err("expected `.`, `[` or the end".to_owned()),
        }
    }

    fn steps(&mut self) -> Read<JsonPath> {
        let mut steps = Vec::new();
        loop {
            let deep = self.takes("..");
            let dotted = deep || self.takes(".");
            if self.takes("[") {
                let pick = self.inside()?;
                steps.push(Step { deep, pick });
            } else if dotted {
                let pick = if self.takes("*") { Pick::All } else { self.name()? };
                steps.push(Step { deep, pick });
            } else {
                return Ok(JsonPath { steps });
            }
        }
    }

    fn name(&mut self) -> Read<Pick> {
        let ends = |c: char| c.is_whitespace() || ".[]()'\",*=!<>&|?".contains(c);
        let name: String = self.chars[self.at..].iter().take_while(|c| !ends(**c)).collect();
        if name.is_empty() {
            return Err("expected a name".to_owned());
        }
        self.at += name.chars().count();
        if self.peek() == Some('(') {
            return Err(format!("`{name}()` is a function, which paths here have none of,"));
        }
        Ok(Pick::Names(vec![name]))
    }

    /// What stands in brackets, up to and with the closing one.
    fn inside(&mut self) -> Read<Pick> {
        self.spaces();
        let pick = match self.peek() {
            Some('*') => {
                self.at += 1;
                Pick::All
            }
            Some('\'' | '"') => {
                let names = self.list(Reader::quoted)?;
                let mut each = Vec::with_capacity(names.len());
                for name in names {
                    if !each.contains(&name) {
                        each.push(name);
                    }
                }
                Pick::Names(each)
            }
            Some('?') => {
                self.at += 1;
                self.spaces();
                self.expect("(")?;
                let condition = self.nested(Reader::condition)?;
                self.expect(")")?;
                Pick::Where(condition)
            }
            Some(_) => self.numbers()?,
            None => return Err("expected what stands in brackets".to_owned()),
        };
        self.spaces();
        self.expect("]")?;
        Ok(pick)
    }

    /// An index, several of them, or a slice.
    fn numbers(&mut self) -> Read<Pick> {
        let from = self.whole_number()?;
        self.spaces();
        if !self.takes(":") {
            let mut indexes = vec![from.ok_or_else(|| "expected an index".to_owned())?];
            while self.takes(",") {
                self.spaces();
                let index = self.whole_number()?;
                indexes.push(index.ok_or_else(|| "expected an index".to_owned())?);
                self.spaces();
            }
            return Ok(Pick::Indexes(indexes));
        }
        self.spaces();
        let to = self.whole_number()?;
        self.spaces();
        let by = if self.takes(":") { self.whole_number()? } else { None };
        match usize::try_from(by.unwrap_or(1)) {
            Ok(by) if by > 0 => Ok(Pick::Slice { from, to, by }),
            _ => Err("expected a step of 1 or more".to_owned()),
        }
    }

    fn condition(&mut self) -> Read<Condition> {
        let mut some = vec![self.both()?];
        while self.takes_after_spaces("||") {
            some.push(self.both()?);
        }
        Ok(if some.len() == 1 { some.remove(0) } else { Condition::Either(some) })
    }

    fn both(&mut self) -> Read<Condition> {
        let mut all = vec![self.one()?];
        while self.takes_after_spaces("&&") {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::Both(all) })
    }

    fn one(&mut self) -> Read<Condition> {
        self.spaces();
        if self.takes("!") {
            return Ok(Condition::Not(Box::new(self.nested(Reader::one)?)));
        }
        if self.takes("(") {
            let condition = self.nested(Reader::condition)?;
            self.spaces();
            self.expect(")")?;
            return Ok(condition);
        }
        let left = self.operand()?;
        self.spaces();
        const COMPARISONS: [(&str, Comparison); 6] = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (sign, comparison) in COMPARISONS {
            if self.takes(sign) {
                self.spaces();
                return Ok(Condition::Compare(left, comparison, self.operand()?));
            }
        }
        match left {
            Operand::Path(path) => Ok(Condition::Exists(path)),
            Operand::Literal(_) => Err("expected a comparison".to_owned()),
        }
    }

    fn operand(&mut self) -> Read<Operand> {
        if self.takes("@") {
            return Ok(Operand::Path(self.nested(Reader::steps)?));
        }
        if matches!(self.peek(), Some('\'' | '"')) {
            return Ok(Operand::Literal(Value::String(self.quoted()?)));
        }
        for (word, value) in
            [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)]
        {
            if self.takes(word) {
                return Ok(Operand::Literal(value));
            }
        }
        let is_part = |c: &&char| c.is_ascii_digit() || "+-.eE".contains(**c);
        let text: String = self.chars[self.at..].iter().take_while(is_part).collect();
        let number = text.parse::<Number>();
        let number = number.map_err(|_| "expected `@`, a text in quotes or a number".to_owned())?;
        self.at += text.chars().count();
        Ok(Operand::Literal(Value::Number(number)))
    }

    /// A text in quotes of either kind; a backslash stands before a character that is meant as it is.
    fn quoted(&mut self) -> Read<String> {
        let quote = self.peek().filter(|c| matches!(c, '\'' | '"'));
        let quote = quote.ok_or_else(|| "expected a text in quotes".to_owned())?;
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(format!("expected {quote}")),
                Some(c) if c == quote => break,
                Some('\\') => {
                    self.at += 1;
                    text.push(self.peek().ok_or_else(|| "expected a character".to_owned())?);
                }
                Some(c) => text.push(c),
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(text)
    }

    fn list<T>(&mut self, one: fn(&mut Reader) -> Read<T>) -> Read<Vec<T>> {
        let mut all = vec![one(self)?];
        while self.takes_after_spaces(",") {
            self.spaces();
            all.push(one(self)?);
        }
        Ok(all)
    }

    fn whole_number(&mut self) -> Read<Option<i64>> {
        let is_part = |c: &&char| c.is_ascii_digit() || **c == '-';
        let text: String = self.chars[self.at..].iter().take_while(is_part).collect();
        if text.is_empty() {
            return Ok(None);
        }
        let number = text.parse().map_err(|_| "expected a whole number".to_owned())?;
        self.at += text.len();
        Ok(Some(number))
    }

    fn nested<T>(&mut self, inner: fn(&mut Reader) -> Read<T>) -> Read<T> {
        if self.nesting == NESTING_MAX {
            return Err("too many conditions inside each other".to_owned());
        }
        self.nesting += 1;
        let result = inner(self);
        self.nesting -= 1;
        result
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn takes(&mut self, text: &str) -> bool {
        let is_here = self.chars[self.at..].iter().copied().take(text.len()).eq(text.chars());
        if is_here {
            self.at += text.len();
        }
        is_here
    }

    fn takes_after_spaces(&mut self, text: &str) -> bool {
        let before = self.at;
        self.spaces();
        let is_here = self.takes(text);
        if !is_here {
            self.at = before;
        }
        is_here
    }

    fn expect(&mut self, text: &str) -> Read<()> {
        match self.takes(text) {
            true => Ok(()),
            false => Err(format!("expected `{text}`")),
        }
    }
}
