//! What a client asks for besides queries: transactions, settings, and what drivers send to clean a session.
//!
//! A text is divided into statements here, without a parser, because a client may send `BEGIN; SELECT …; COMMIT` in one
//! message and because the forms of SET and SHOW are PostgreSQL's own. Everything that is not listed here goes to the
//! engine, which lets reading statements through and refuses the rest.

/// One statement of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// For the engine.
    Query(String),
    Begin,
    Commit,
    Rollback,
    /// Accepted, and nothing to do: savepoints, and the cleaning of what does not exist here. The tag of the answer.
    Nothing(&'static str),
    RollbackTo,
    Set {
        name: String,
        value: Option<String>,
    },
    Reset(Option<String>),
    Show(String),
    /// Forgets settings, prepared statements and portals.
    DiscardAll,
    /// One prepared statement, or all.
    Deallocate(Option<String>),
    /// Cannot be had here; what it is.
    Refused(&'static str),
}

/// The statements of a text, without empty ones.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let (mut from, mut at) = (0, 0);
    let mut is_empty = true;
    while let Some(token) = next(text, at) {
        if token.text == ";" {
            statements.extend((!is_empty).then(|| text[from..token.from].trim()));
            from = token.to;
            is_empty = true;
        } else {
            is_empty = false;
        }
        at = token.to;
    }
    statements.extend((!is_empty).then(|| text[from..].trim()));
    statements
}

impl Command {
    /// Recognises one statement by its words.
    pub(crate) fn of(statement: &str) -> Command {
        let tokens: Vec<&str> = tokens(statement).take(64).collect();
        let word =
            |at: usize| tokens.get(at).map(|word| word.to_ascii_lowercase()).unwrap_or_default();
        let rest_is_none = tokens.len() == 1;
        match word(0).as_str() {
            "begin" => Command::Begin,
            "start" if word(1) == "transaction" => Command::Begin,
            "commit" | "end" => Command::Commit,
            "rollback" | "abort" => {
                let at = 1 + usize::from(["work", "transaction"].contains(&word(1).as_str()));
                if word(at) == "to" { Command::RollbackTo } else { Command::Rollback }
            }
            "savepoint" => Command::Nothing("SAVEPOINT"),
            "release" => Command::Nothing("RELEASE"),
            "close" if word(1) == "all" => Command::Nothing("CLOSE CURSOR ALL"),
            "unlisten" => Command::Nothing("UNLISTEN"),
            "discard" if word(1) == "all" => Command::DiscardAll,
            "discard" => Command::Nothing("DISCARD"),
            "deallocate" => {
                let at = 1 + usize::from(word(1) == "prepare");
                let is_all = word(at) == "all";
                Command::Deallocate(
                    (!is_all).then(|| name(tokens.get(at).copied().unwrap_or_default())),
                )
            }
            "set" => set(&tokens),
            "reset" if word(1) == "all" => Command::Reset(None),
            "reset" if word(1) == "session" => Command::Reset(None),
            "reset" if word(1) == "time" && word(2) == "zone" => {
                Command::Reset(Some("timezone".to_owned()))
            }
            "reset" if tokens.len() == 2 => Command::Reset(Some(name(tokens[1]))),
            "show" => {
                show(&tokens).map_or_else(|| Command::Query(statement.to_owned()), Command::Show)
            }
            "copy" => Command::Refused("COPY"),
            "declare" => Command::Refused("DECLARE"),
            "fetch" | "move" => Command::Refused("FETCH"),
            "close" => Command::Refused("CLOSE"),
            "listen" => Command::Refused("LISTEN"),
            "notify" => Command::Refused("NOTIFY"),
            "prepare" => Command::Refused("PREPARE"),
            "execute" => Command::Refused("EXECUTE"),
            "lock" => Command::Refused("LOCK"),
            "checkpoint" if rest_is_none => Command::Refused("CHECKPOINT"),
            _ => Command::Query(statement.to_owned()),
        }
    }
}

/// `SET [SESSION|LOCAL] name {TO|=} value`, `SET TIME ZONE value`, `SET NAMES value`, `SET TRANSACTION …`.
fn set(tokens: &[&str]) -> Command {
    let mut at = 1;
    let word = |at: usize| tokens.get(at).map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    if ["session", "local"].contains(&word(1).as_str()) && word(2) != "=" && word(2) != "to" {
        at = 2;
    }
    if ["transaction", "characteristics"].contains(&word(at).as_str()) {
        // Isolation and access mode: each statement sees one state of the views and nothing is written.
        return Command::Nothing("SET");
    }
    if ["role", "authorization"].contains(&word(at).as_str()) {
        return Command::Refused("SET ROLE");
    }
    let (name, from) = match word(at).as_str() {
        "time" if word(at + 1) == "zone" => ("timezone".to_owned(), at + 2),
        "names" => ("client_encoding".to_owned(), at + 1),
        _ => {
            let mut name = name(tokens.get(at).copied().unwrap_or_default());
            let mut end = at + 1;
            // A setting of an extension: `a.b`.
            while word(end) == "." && end + 1 < tokens.len() {
                name = format!("{name}.{}", word(end + 1));
                end += 2;
            }
            if !["=", "to"].contains(&word(end).as_str()) {
                return Command::Query(tokens.join(" "));
            }
            (name, end + 1)
        }
    };
    let values: Vec<String> = tokens
        .get(from..)
        .unwrap_or_default()
        .iter()
        .filter(|token| **token != ",")
        .map(|token| value(token))
        .collect();
    let is_default = values.len() == 1 && values[0].eq_ignore_ascii_case("default");
    Command::Set { name, value: (!is_default).then(|| values.join(", ")) }
}

/// The setting's name; `None` for the lists that the engine shows.
fn show(tokens: &[&str]) -> Option<String> {
    let words: Vec<String> = tokens.get(1..)?.iter().map(|word| name(word)).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["transaction", "isolation", "level"] => Some("transaction_isolation".to_owned()),
        ["session", "authorization"] => Some("session_authorization".to_owned()),
        ["time", "zone"] => Some("timezone".to_owned()),
        ["tables" | "columns" | "functions" | "databases" | "schemas", ..] => None,
        [one] => Some(one.to_owned()),
        _ => None,
    }
}

/// An identifier without its quotes, in lower case if it had none.
fn name(token: &str) -> String {
    match token.strip_prefix('"').and_then(|token| token.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => token.to_ascii_lowercase(),
    }
}

/// A value without its quotes.
fn value(token: &str) -> String {
    match token.strip_prefix('\'').and_then(|token| token.strip_suffix('\'')) {
        Some(quoted) => quoted.replace("''", "'"),
        None => token.trim_matches('"').to_owned(),
    }
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let token = next(text, at)?;
        at = token.to;
        Some(token.text)
    })
}

struct Token<'a> {
    text: &'a str,
    from: usize,
    to: usize,
}

/// The next token: a word or number, a quoted text or name, a dollar-quoted text, or one character.
fn next(text: &str, at: usize) -> Option<Token<'_>> {
    let from = skip_space(text, at);
    let rest = &text[from..];
    let first = rest.chars().next()?;
    let length = match first {
        '\'' => quoted(rest, '\'', false),
        '"' => quoted(rest, '"', false),
        'e' | 'E' if rest[1..].starts_with('\'') => 1 + quoted(&rest[1..], '\'', true),
        '$' => dollar_quoted(rest).unwrap_or(1),
        _ if is_word(first) => rest.find(|c| !is_word(c) && c != '$').unwrap_or(rest.len()),
        _ => first.len_utf8(),
    };
    Some(Token { text: &rest[..length], from, to: from + length })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Behind white space and comments.
fn skip_space(text: &str, mut at: usize) -> usize {
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        if trimmed.starts_with("--") {
            at += trimmed.find('\n').unwrap_or(trimmed.len());
        } else if trimmed.starts_with("/*") {
            at += comment(trimmed);
        } else {
            return at;
        }
    }
}

/// The length of a comment, which may hold others; one without an end reaches to the end.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

/// The length of a text in quotes; doubled ones are part of it.
fn quoted(text: &str, quote: char, escapes: bool) -> usize {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c == '\\' && escapes {
            characters.next();
        } else if c == quote {
            if characters.peek().is_some_and(|(_, next)| *next == quote) {
                characters.next();
            } else {
                return at + 1;
            }
        }
    }
    text.len()
}

/// The length of `$tag$…$tag$`; `None` for what is none, such as `$1`.
fn dollar_quoted(text: &str) -> Option<usize> {
    let end = text[1..].find('$')? + 2;
    let tag = &text[..end];
    let inside = &tag[1..end - 1];
    let is_tag = inside.chars().all(is_word) && !inside.starts_with(|c: char| c.is_ascii_digit());
    if !is_tag {
        return None;
    }
    Some(text[end..].find(tag).map_or(text.len(), |at| end + at + end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_divided_at_its_semicolons_only() {
        for (text, statements) in [
            ("", vec![]),
            (" ; -- nothing\n ;", vec![]),
            ("select 1", vec!["select 1"]),
            ("select 1; select 2;", vec!["select 1", "select 2"]),
            (
                "select ';', \"a;b\", $$;$$, $x$;$$;$x$; b",
                vec!["select ';', \"a;b\", $$;$$, $x$;$$;$x$", "b"],
            ),
            ("select 'it''s;'; b", vec!["select 'it''s;'", "b"]),
            ("select e'\\';'; b", vec!["select e'\\';'", "b"]),
            ("select 1 -- ;\n; b", vec!["select 1 -- ;", "b"]),
            ("select /* ; /* ; */ ; */ 1; b", vec!["select /* ; /* ; */ ; */ 1", "b"]),
            ("select $1; b", vec!["select $1", "b"]),
            ("select 'open;", vec!["select 'open;"]),
            ("select 'ü;€'; ß", vec!["select 'ü;€'", "ß"]),
        ] {
            assert_eq!(split(text), statements, "{text}");
        }
    }

    #[test]
    fn commands_are_recognised_in_all_their_forms() {
        let set = |name: &str, value: &str| Command::Set {
            name: name.to_owned(),
            value: Some(value.to_owned()),
        };
        for (text, command) in [
            ("begin read only", Command::Begin),
            ("START TRANSACTION", Command::Begin),
            ("commit work", Command::Commit),
            ("END", Command::Commit),
            ("rollback", Command::Rollback),
            ("ABORT", Command::Rollback),
            ("rollback to savepoint s", Command::RollbackTo),
            ("rollback work to s", Command::RollbackTo),
            ("savepoint s", Command::Nothing("SAVEPOINT")),
            ("set extra_float_digits = 3", set("extra_float_digits", "3")),
            ("SET application_name = 'it''s'", set("application_name", "it's")),
            ("set session DateStyle to ISO, MDY", set("datestyle", "ISO, MDY")),
            ("set local statement_timeout to '5s'", set("statement_timeout", "5s")),
            ("set time zone 'UTC'", set("timezone", "UTC")),
            ("set names 'UTF8'", set("client_encoding", "UTF8")),
            ("set search_path to \"$user\", public", set("search_path", "$user, public")),
            ("set a.b = 1", set("a.b", "1")),
            ("set x to default", Command::Set { name: "x".to_owned(), value: None }),
            ("set transaction read only", Command::Nothing("SET")),
            (
                "set session characteristics as transaction isolation level read committed",
                Command::Nothing("SET"),
            ),
            ("reset all", Command::Reset(None)),
            ("reset datestyle", Command::Reset(Some("datestyle".to_owned()))),
            ("show transaction isolation level", Command::Show("transaction_isolation".to_owned())),
            ("show TimeZone", Command::Show("timezone".to_owned())),
            ("show tables", Command::Query("show tables".to_owned())),
            ("discard all", Command::DiscardAll),
            ("deallocate all", Command::Deallocate(None)),
            ("DEALLOCATE PREPARE \"S1\"", Command::Deallocate(Some("S1".to_owned()))),
            ("close all", Command::Nothing("CLOSE CURSOR ALL")),
            ("unlisten *", Command::Nothing("UNLISTEN")),
            ("declare c cursor for select 1", Command::Refused("DECLARE")),
            ("copy t to stdout", Command::Refused("COPY")),
            ("/* hi */ select 1", Command::Query("/* hi */ select 1".to_owned())),
        ] {
            assert_eq!(Command::of(text), command, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(set|show|reset|rollback|e'|\\$|[ -~\\n€'\";$/*-]){0,20}") {
            for statement in split(&text) {
                let _ = Command::of(statement);
            }
        }
    }
}
