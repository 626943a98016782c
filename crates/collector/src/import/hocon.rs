//! Reads HOCON, as far as Snowplow's collector configurations go: comments, paths as keys, merged objects, unquoted and
//! triple-quoted strings, `+=`, concatenation, and substitutions from the file itself or from the environment.
//!
//! Written here rather than taken: the import must name each variable that is not set and refuse `include` by name,
//! since a configuration that silently lacks a file would be worse than none. Nothing is read but the text.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

/// A value with all substitutions made. Objects keep the order of their first assignments.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    /// Unquoted text stands here too: what a number or a boolean is, its reader decides.
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
}

/// What was read, and the variables that were asked for and are not set.
#[derive(Debug, PartialEq)]
pub(super) struct Read {
    pub(super) root: Value,
    pub(super) unset: BTreeSet<String>,
}

/// Why a text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Error {
    pub line: usize,
    pub what: String,
}

/// A value before substitution.
#[derive(Clone, Debug)]
enum Node {
    Null,
    Text(String),
    List(Vec<Node>),
    /// All assignments, in order; later ones win, and objects are merged.
    Object(Vec<(Vec<String>, Node)>),
    Substitution {
        path: String,
        optional: bool,
        line: usize,
    },
    Concatenation(Vec<Node>),
    /// `+=`
    Appended(Box<Node>),
}

/// How deep values may lie in each other, so that neither a text nor a circle of substitutions ends the process.
const DEPTH_MAX: usize = 64;
/// What all values may come to together, each with the bytes of its text. Substitutions of substitutions can double what
/// a line says sixty times over.
const SIZE_MAX: usize = 1 << 20;

/// Reads a text; `variable` looks into the environment.
///
/// # Errors
/// With the line: what is no HOCON, `include`, a substitution that must be there and is not.
pub(super) fn read(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Read, Error> {
    let mut parser = Parser { chars: text.chars().peekable(), line: 1, depth: 0 };
    parser.skip_space_and_lines();
    let has_braces = parser.chars.peek() == Some(&'{');
    if has_braces {
        parser.chars.next();
    }
    let root = parser.object(has_braces)?;
    parser.skip_space_and_lines();
    if let Some(rest) = parser.chars.peek().copied() {
        return Err(parser.error(format!("`{rest}` after the end")));
    }
    let mut resolver =
        Resolver { root: &root, variable, unset: BTreeSet::new(), depth: 0, size: 0, line: 1 };
    let value = resolver.resolve(&root)?.unwrap_or(Value::Object(Vec::new()));
    Ok(Read { root: value, unset: resolver.unset })
}

struct Parser<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
    depth: usize,
}

impl Parser<'_> {
    fn error(&self, what: impl Into<String>) -> Error {
        Error { line: self.line, what: what.into() }
    }

    fn next(&mut self) -> Option<char> {
        let next = self.chars.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn skip_space(&mut self) {
        while self
            .chars
            .peek()
            .is_some_and(|it| it.is_whitespace() && *it != '\n' || *it == '\u{feff}')
        {
            self.next();
        }
    }

    /// Also comments.
    fn skip_space_and_lines(&mut self) {
        loop {
            self.skip_space();
            match self.chars.peek().copied() {
                Some('\n') => drop(self.next()),
                _ if self.at_comment() => self.skip_line(),
                _ => return,
            }
        }
    }

    fn at_comment(&self) -> bool {
        let mut ahead = self.chars.clone();
        match ahead.next() {
            Some('#') => true,
            Some('/') => ahead.next() == Some('/'),
            _ => false,
        }
    }

    fn skip_line(&mut self) {
        while self.chars.peek().is_some_and(|it| *it != '\n') {
            self.next();
        }
    }

    fn object(&mut self, has_braces: bool) -> Result<Node, Error> {
        self.deeper()?;
        let mut fields = Vec::new();
        loop {
            self.skip_space_and_lines();
            match self.chars.peek() {
                None if has_braces => return Err(self.error("a `{` is not closed")),
                None => break,
                Some('}') if has_braces => {
                    self.next();
                    break;
                }
                Some(',') => drop(self.next()),
                Some(_) => fields.push(self.field()?),
            }
        }
        self.depth -= 1;
        Ok(Node::Object(fields))
    }

    fn field(&mut self) -> Result<(Vec<String>, Node), Error> {
        let path = self.key()?;
        if let [first] = &path[..]
            && first == "include"
            && matches!(self.chars.peek(), Some('"' | 'f' | 'u' | 'c' | 'r'))
        {
            let mut named = String::new();
            while let Some(next) = self.chars.next_if(|it| *it != '\n') {
                named.push(next);
            }
            return Err(self.error(format!(
                "`include {}`: included files are not read; put their content here",
                named.trim()
            )));
        }
        let node = match self.chars.peek() {
            Some('{') => self.value()?,
            Some(':' | '=') => {
                self.next();
                self.value()?
            }
            Some('+') => {
                self.next();
                if self.next() != Some('=') {
                    return Err(self.error("`+` wants `=` behind it here"));
                }
                Node::Appended(Box::new(self.value()?))
            }
            _ => return Err(self.error(format!("`{}` has no value", path.join(".")))),
        };
        Ok((path, node))
    }

    /// A path of names, and the space behind it.
    fn key(&mut self) -> Result<Vec<String>, Error> {
        let mut path = Vec::new();
        let (mut name, mut has_name) = (String::new(), false);
        loop {
            match self.chars.peek().copied() {
                Some('"') => {
                    name.push_str(&self.quoted()?);
                    has_name = true;
                }
                Some('.') => {
                    self.next();
                    path.push(std::mem::take(&mut name));
                    has_name = false;
                }
                Some(next) if is_plain(next) && !next.is_whitespace() && !self.at_comment() => {
                    self.next();
                    name.push(next);
                    has_name = true;
                }
                _ => break,
            }
        }
        self.skip_space();
        if !has_name {
            let found = self.chars.peek().map_or("the end".to_owned(), |it| format!("`{it}`"));
            return Err(self.error(format!("a key was expected, not {found}")));
        }
        path.push(name);
        Ok(path)
    }

    /// Everything up to the end of the line, a comma or a bracket; several parts are a concatenation.
    fn value(&mut self) -> Result<Node, Error> {
        self.skip_space();
        if matches!(self.chars.peek(), Some('\n')) || self.at_comment() {
            self.skip_space_and_lines();
        }
        let mut parts = Vec::new();
        let mut space = String::new();
        loop {
            let part = match self.chars.peek().copied() {
                None | Some('\n' | ',' | '}' | ']') => break,
                _ if self.at_comment() => break,
                Some('{') => {
                    self.next();
                    self.object(true)?
                }
                Some('[') => {
                    self.next();
                    self.list()?
                }
                Some('$') => self.substitution()?,
                Some('"') => Node::Text(self.quoted()?),
                Some(next) if next.is_whitespace() => {
                    space.push(next);
                    self.next();
                    continue;
                }
                Some(next) if is_plain(next) || next == '.' => self.unquoted(),
                Some(other) => return Err(self.error(format!("`{other}` must be quoted"))),
            };
            if !parts.is_empty() && !space.is_empty() {
                parts.push(Node::Text(std::mem::take(&mut space)));
            }
            space.clear();
            parts.push(part);
        }
        match parts.len() {
            0 => Err(self.error("a value is missing")),
            1 => Ok(parts.remove(0)),
            _ => Ok(Node::Concatenation(parts)),
        }
    }

    fn list(&mut self) -> Result<Node, Error> {
        self.deeper()?;
        let mut items = Vec::new();
        loop {
            self.skip_space_and_lines();
            match self.chars.peek() {
                None => return Err(self.error("a `[` is not closed")),
                Some(']') => {
                    self.next();
                    break;
                }
                Some(',') => drop(self.next()),
                Some(_) => items.push(self.value()?),
            }
        }
        self.depth -= 1;
        Ok(Node::List(items))
    }

    fn deeper(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(self.error("nested too deeply")) } else { Ok(()) }
    }

    fn unquoted(&mut self) -> Node {
        let mut text = String::new();
        while let Some(next) = self.chars.peek().copied() {
            if next.is_whitespace() || !(is_plain(next) || next == '.') || self.at_comment() {
                break;
            }
            self.next();
            text.push(next);
        }
        if text == "null" { Node::Null } else { Node::Text(text) }
    }

    fn substitution(&mut self) -> Result<Node, Error> {
        let line = self.line;
        self.next();
        if self.next() != Some('{') {
            return Err(self.error("`$` must be quoted, or begin a substitution `${…}`"));
        }
        let optional = self.chars.next_if_eq(&'?').is_some();
        let mut path = String::new();
        loop {
            match self.next() {
                Some('}') => break,
                Some('\n') | None => return Err(self.error("a `${` is not closed")),
                Some(next) => path.push(next),
            }
        }
        Ok(Node::Substitution { path: path.trim().to_owned(), optional, line })
    }

    fn quoted(&mut self) -> Result<String, Error> {
        self.next();
        let mut ahead = self.chars.clone();
        if (ahead.next(), ahead.next()) == (Some('"'), Some('"')) {
            self.next();
            self.next();
            return self.triple_quoted();
        }
        let mut text = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some('\n') | None => return Err(self.error("a `\"` is not closed")),
                Some(next) => text.push(next),
            }
        }
    }

    fn triple_quoted(&mut self) -> Result<String, Error> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some(next) => text.push(next),
                None => return Err(self.error("a `\"\"\"` is not closed")),
            }
            if text.ends_with("\"\"\"") && self.chars.peek() != Some(&'"') {
                text.truncate(text.len() - 3);
                return Ok(text);
            }
        }
    }

    fn escape(&mut self) -> Result<char, Error> {
        let unknown = |it: &Self| it.error("an escape that JSON does not know");
        Ok(match self.next().ok_or_else(|| unknown(self))? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            plain @ ('"' | '\\' | '/') => plain,
            'u' => {
                let digits: String = (0..4).filter_map(|_| self.next()).collect();
                let code = u32::from_str_radix(&digits, 16).map_err(|_| unknown(self))?;
                char::from_u32(code).ok_or_else(|| unknown(self))?
            }
            _ => return Err(unknown(self)),
        })
    }
}

/// Whether a character may stand in unquoted text.
fn is_plain(char: char) -> bool {
    !"$\"{}[]:=,+#`^?!@*&\\.\n".contains(char)
}

struct Resolver<'a> {
    root: &'a Node,
    variable: &'a dyn Fn(&str) -> Option<String>,
    unset: BTreeSet<String>,
    depth: usize,
    /// Of all values so far, also of those that went into others.
    size: usize,
    /// The substitution that was met last.
    line: usize,
}

impl Resolver<'_> {
    /// `None` for an optional substitution of nothing: what it would be the value of is left as it was.
    fn resolve(&mut self, node: &Node) -> Result<Option<Value>, Error> {
        self.size += match node {
            Node::Text(text) => 1 + text.len(),
            _ => 1,
        };
        if self.size > SIZE_MAX {
            let what = format!("the substitutions come to more than {SIZE_MAX} bytes");
            return Err(Error { line: self.line, what });
        }
        Ok(match node {
            Node::Null => Some(Value::Null),
            Node::Text(text) => Some(Value::Text(text.clone())),
            Node::List(items) => {
                let mut values = Vec::new();
                for item in items {
                    values.extend(self.resolve(item)?);
                }
                Some(Value::List(values))
            }
            Node::Object(fields) => {
                let mut object = Vec::new();
                for (path, node) in fields {
                    self.assign(&mut object, path, node)?;
                }
                Some(Value::Object(object))
            }
            Node::Concatenation(parts) => self.concatenate(parts)?,
            Node::Appended(item) => self.resolve(item)?,
            Node::Substitution { path, optional, line } => {
                self.depth += 1;
                self.line = *line;
                if self.depth > DEPTH_MAX {
                    let what = format!("`${{{path}}}` leads back to itself");
                    return Err(Error { line: *line, what });
                }
                let found = match self.look_up(path)? {
                    Some(value) => Some(value),
                    None => (self.variable)(path).map(Value::Text),
                };
                self.depth -= 1;
                if found.is_none() && !optional {
                    let what =
                        format!("`${{{path}}}` is neither in the file nor in the environment");
                    return Err(Error { line: *line, what });
                }
                if found.is_none() {
                    self.unset.insert(path.clone());
                }
                found
            }
        })
    }

    fn assign(
        &mut self,
        object: &mut Vec<(String, Value)>,
        path: &[String],
        node: &Node,
    ) -> Result<(), Error> {
        let Some((first, rest)) = path.split_first() else { return Ok(()) };
        let place = object.iter().position(|(name, _)| name == first);
        let before = place.map(|place| object[place].1.clone());
        let value = if rest.is_empty() {
            match (node, self.resolve(node)?) {
                (_, None) => return Ok(()),
                (Node::Appended(_), Some(item)) => {
                    let mut items = match before {
                        Some(Value::List(items)) => items,
                        _ => Vec::new(),
                    };
                    items.push(item);
                    Value::List(items)
                }
                (_, Some(value)) => merge(before, value),
            }
        } else {
            let mut inner = match before {
                Some(Value::Object(fields)) => fields,
                _ => Vec::new(),
            };
            self.assign(&mut inner, rest, node)?;
            Value::Object(inner)
        };
        match place {
            Some(place) => object[place].1 = value,
            None => object.push((first.clone(), value)),
        }
        Ok(())
    }

    fn concatenate(&mut self, parts: &[Node]) -> Result<Option<Value>, Error> {
        let mut whole = None;
        let mut text = String::new();
        for part in parts {
            match self.resolve(part)? {
                None => {}
                Some(Value::Text(more)) => text.push_str(&more),
                Some(Value::Null) => text.push_str("null"),
                Some(Value::List(more)) => {
                    let mut items = match whole.take() {
                        Some(Value::List(items)) => items,
                        _ => Vec::new(),
                    };
                    items.extend(more);
                    whole = Some(Value::List(items));
                }
                Some(object @ Value::Object(_)) => whole = Some(merge(whole.take(), object)),
            }
        }
        Ok(match whole {
            Some(whole) => Some(whole),
            None if text.trim().is_empty() && parts.len() > 1 => None,
            None => Some(Value::Text(text)),
        })
    }

    /// The value at a path of the file.
    fn look_up(&mut self, path: &str) -> Result<Option<Value>, Error> {
        let names: Vec<String> = path.split('.').map(|name| name.trim().to_owned()).collect();
        let Node::Object(fields) = self.root else { return Ok(None) };
        let mut found = Vec::new();
        let mut any = false;
        for (at, node) in fields {
            // Only what lies on the way is looked at, so that a field may refer to its neighbours.
            let shared = at.iter().zip(&names).take_while(|(a, b)| a == b).count();
            if shared == at.len().min(names.len()) {
                any = true;
                let Some(node) = narrow(node, &names[shared..]) else { continue };
                self.assign(&mut found, at, &node)?;
            }
        }
        if !any {
            return Ok(None);
        }
        let mut value = Value::Object(found);
        for name in &names {
            let Value::Object(fields) = value else { return Ok(None) };
            match fields.into_iter().find(|(found, _)| found == name) {
                Some((_, inner)) => value = inner,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }
}

/// The part of a node that a path leads to.
fn narrow(node: &Node, path: &[String]) -> Option<Node> {
    if path.is_empty() {
        return Some(node.clone());
    }
    let Node::Object(fields) = node else { return None };
    let on_the_way = fields.iter().filter_map(|(at, inner)| {
        let shared = at.iter().zip(path).take_while(|(a, b)| a == b).count();
        (shared == at.len().min(path.len()))
            .then(|| Some((at.clone(), narrow(inner, &path[shared..])?)))
            .flatten()
    });
    Some(Node::Object(on_the_way.collect()))
}

/// Objects are merged, everything else is replaced.
fn merge(before: Option<Value>, value: Value) -> Value {
    match (before, value) {
        (Some(Value::Object(mut fields)), Value::Object(more)) => {
            for (name, value) in more {
                match fields.iter().position(|(known, _)| *known == name) {
                    Some(place) => {
                        let before = std::mem::replace(&mut fields[place].1, Value::Null);
                        fields[place].1 = merge(Some(before), value);
                    }
                    None => fields.push((name, value)),
                }
            }
            Value::Object(fields)
        }
        (_, value) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn print(value: &Value) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(items) => {
                format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(" "))
            }
            Value::Object(fields) => {
                let field = |(name, value): &(String, Value)| format!("{name}:{}", print(value));
                format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn environment(name: &str) -> Option<String> {
        (name == "PORT").then(|| "9090".to_owned())
    }

    fn check(text: &str, expect: &str) {
        let read = read(text, &environment).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(print(&read.root), expect, "{text}");
    }

    #[test]
    fn values_of_every_form() {
        check("", "{}");
        check("{}", "{}");
        check(
            "{ a = 1, b: two words , c = \"q\\\"\\u0041\" }",
            r#"{a:"1" b:"two words" c:"q\"A"}"#,
        );
        check("a {\n b = 365 days # why\n // no\n}\n", r#"{a:{b:"365 days"}}"#);
        check("a.b.c = true\na.b.d = null", r#"{a:{b:{c:"true" d:null}}}"#);
        check("a = [1, two\n three, [\"4\"],]", r#"{a:["1" "two" "three" ["4"]]}"#);
        check("a = \"\"\"x\n\"y\"\"\"\"", "{a:\"x\\n\\\"y\\\"\"}");
        check("\"a.b\" = c\n\"/x/y\": \"/i\"", r#"{a.b:"c" /x/y:"/i"}"#);
        check("a = 1.5\nb = 127.0.0.1", r#"{a:"1.5" b:"127.0.0.1"}"#);
        check("a =\n  1", r#"{a:"1"}"#);
        check("a = \"${SP_NUID}\"", r#"{a:"${SP_NUID}"}"#);
    }

    #[test]
    fn later_values_win_and_objects_are_merged() {
        check("a = 1\na = 2", r#"{a:"2"}"#);
        check("a { b = 1 }\na { c = 2 }\na.b = 3", r#"{a:{b:"3" c:"2"}}"#);
        check("a = [1]\na += 2", r#"{a:["1" "2"]}"#);
        check("a = { b = 1 } { c = 2 }", r#"{a:{b:"1" c:"2"}}"#);
    }

    #[test]
    fn substitutions_come_from_the_file_or_the_environment() {
        check("a = 1\na = ${?NOT}\nb = ${?PORT}\nc = ${?NOT}", r#"{a:"1" b:"9090"}"#);
        check("a { b = 1, c = ${a.b} }\nd = x${a.b}y", r#"{a:{b:"1" c:"1"} d:"x1y"}"#);
        check("base { b = 1 }\na = ${base} { c = 2 }", r#"{base:{b:"1"} a:{b:"1" c:"2"}}"#);
        check("a = [${?NOT}, ${PORT}]", r#"{a:["9090"]}"#);
        let read = read("a = ${?NOT}", &environment).unwrap();
        assert_eq!(read.unset, BTreeSet::from(["NOT".to_owned()]));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, part) in [
            ("a = 1\ninclude \"other.conf\"", 2, "`include \"other.conf\"`"),
            ("include required(file(\"x\"))", 1, "included files are not read"),
            ("a = ${NOT}", 1, "neither in the file nor in the environment"),
            ("a = 1\n\nb = ${b}", 3, "leads back to itself"),
            ("a {\n b = 1", 2, "not closed"),
            ("a = [1", 1, "not closed"),
            ("a = \"x\n", 2, "not closed"),
            ("a", 1, "has no value"),
            ("= 1", 1, "a key was expected"),
            ("a = b@c", 1, "must be quoted"),
            ("a =", 1, "a value is missing"),
            ("{} b", 1, "after the end"),
        ] {
            let error = read(text, &environment).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.what.contains(part), "{text}: {error}");
        }
        assert!(read(&"a {".repeat(1000), &environment).is_err());
        assert!(read(&"[".repeat(1000), &environment).is_err());
    }

    proptest! {
        #[test]
        fn no_text_ends_the_process(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", "\"", "\"\"\"", "${", "${?a.b}", "${a}", "a", ".", "b", "=", ":", "+=", ",",
                    "\n", " ", "#", "//", "\\", "include", "null", "é", "\u{feff}",
                ]),
                0..40,
            )
        ) {
            let _ = read(&parts.concat(), &environment);
        }
    }
}
