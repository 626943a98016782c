//! The statement of a configuration, as a database gets it: one statement, `$1` … in place of each `?`.
//!
//! Read just far enough to tell what stands in quotes and comments from what does not. What the statement means is the
//! database's business.

/// One statement and its placeholders.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// With `$1` … `$n`, and without a semicolon at its end.
    pub(super) text: String,
    /// n.
    pub(super) placeholders: usize,
}

impl Statement {
    /// Reads PostgreSQL's spelling. `??` is a question mark that is no placeholder, as its Java driver has it.
    ///
    /// # Errors
    /// For more than one statement, none, a quote or comment without end, and a placeholder that is written `$1`.
    pub(super) fn parse(sql: &str) -> Result<Statement, String> {
        let mut text = String::with_capacity(sql.len() + 16);
        let mut placeholders = 0;
        let mut rest = sql;
        let mut before = None;
        while let Some(first) = rest.chars().next() {
            if let Some(end) = covered(rest, before)? {
                text.push_str(&rest[..end]);
                before = rest[..end].chars().next_back();
                rest = &rest[end..];
                continue;
            }
            let mut taken = first.len_utf8();
            match first {
                '?' if rest.starts_with("??") => {
                    text.push('?');
                    taken = 2;
                }
                '?' => {
                    placeholders += 1;
                    text.push_str(&format!("${placeholders}"));
                }
                ';' => {
                    if !is_blank(&rest[1..])? {
                        return Err("it holds more than one statement".to_owned());
                    }
                    break;
                }
                '$' if !is_word(before) && rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                    return Err("a placeholder is written ?, not $1".to_owned());
                }
                other => text.push(other),
            }
            before = Some(first);
            rest = &rest[taken..];
        }
        match is_blank(&text)? {
            true => Err("it is empty".to_owned()),
            false => Ok(Statement { text, placeholders }),
        }
    }
}

/// The length of the quote or the comment that stands at the beginning of a text, if one does. `before` is the character
/// in front of it.
fn covered(rest: &str, before: Option<char>) -> Result<Option<usize>, String> {
    let end_of = |closing: &str, from: usize| {
        let found = rest[from..].find(closing).map(|at| from + at + closing.len());
        found.ok_or_else(|| format!("{} has no end", &rest[..from]))
    };
    if rest.starts_with("--") {
        return Ok(Some(rest.find('\n').map_or(rest.len(), |at| at + 1)));
    }
    if rest.starts_with("/*") {
        return comment(rest).map(Some);
    }
    // A doubled quote inside is the end of one quote and the beginning of the next: the same to us.
    if rest.starts_with('"') {
        return end_of("\"", 1).map(Some);
    }
    if rest.starts_with('\'') {
        return match before {
            Some('e' | 'E') => escaped(rest).map(Some),
            _ => end_of("'", 1).map(Some),
        };
    }
    let Some(tag) = dollar_tag(rest).filter(|_| !is_word(before)) else { return Ok(None) };
    end_of(tag, tag.len()).map(Some)
}

/// `/* … */`, which may hold others.
fn comment(rest: &str) -> Result<usize, String> {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return Ok(at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    Err("/* has no end".to_owned())
}

/// `'…'` in which a backslash takes the meaning of what follows it.
fn escaped(rest: &str) -> Result<usize, String> {
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '\'' => return Ok(at + 1),
            _ => {}
        }
    }
    Err("' has no end".to_owned())
}

/// The `$tag$` that a text begins with.
fn dollar_tag(rest: &str) -> Option<&str> {
    let tag = rest.strip_prefix('$')?;
    let end = tag.find('$')?;
    let name = &tag[..end];
    let is_name = name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_' || !it.is_ascii())
        && !name.starts_with(|it: char| it.is_ascii_digit());
    is_name.then(|| &rest[..end + 2])
}

fn is_word(character: Option<char>) -> bool {
    character.is_some_and(|it| it.is_alphanumeric() || it == '_' || it == '$')
}

/// Whether there are blanks and comments alone.
fn is_blank(text: &str) -> Result<bool, String> {
    let mut rest = text.trim_start();
    while rest.starts_with("--") || rest.starts_with("/*") {
        rest = rest[covered(rest, None)?.unwrap_or(rest.len())..].trim_start();
    }
    Ok(rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_outside_of_quotes_and_comments() {
        for (sql, text, placeholders) in [
            ("SELECT a FROM t WHERE b = ? AND c=?", "SELECT a FROM t WHERE b = $1 AND c=$2", 2),
            ("SELECT 1; -- ?\n /* ; */ ", "SELECT 1", 0),
            ("SELECT '?', 'a''?', \"?\", ?", "SELECT '?', 'a''?', \"?\", $1", 1),
            (r"SELECT 'a\', ?, E'\'?', ?", r"SELECT 'a\', $1, E'\'?', $2", 2),
            ("SELECT $$?;$$, $a$ ? $$ ; $a$, ?", "SELECT $$?;$$, $a$ ? $$ ; $a$, $1", 1),
            ("SELECT a$b$, ? -- ?", "SELECT a$b$, $1 -- ?", 1),
            ("/* ? /* ; */ ? */ SELECT ?", "/* ? /* ; */ ? */ SELECT $1", 1),
            ("SELECT j ?? 'a', j ??| ?", "SELECT j ? 'a', j ?| $1", 1),
            ("SELECT 'ž?' || ?", "SELECT 'ž?' || $1", 1),
        ] {
            let expected = Statement { text: text.to_owned(), placeholders };
            assert_eq!(Statement::parse(sql), Ok(expected), "{sql}");
        }
    }

    #[test]
    fn what_is_not_one_statement_is_refused() {
        for (sql, what) in [
            ("SELECT 1; DROP TABLE t", "more than one statement"),
            ("SELECT ';'; ; SELECT 2", "more than one statement"),
            ("SELECT E'\\'; '; DELETE FROM t", "more than one statement"),
            ("SELECT $$;$$; DELETE FROM t", "more than one statement"),
            ("SELECT 'a", "' has no end"),
            ("SELECT E'a\\'", "' has no end"),
            ("SELECT \"a", "\" has no end"),
            ("SELECT /* /* */", "/* has no end"),
            ("SELECT $a$ $b$", "$a$ has no end"),
            ("SELECT $1", "written ?"),
            (" ; ", "empty"),
            ("-- nothing", "empty"),
        ] {
            let error = Statement::parse(sql).unwrap_err();
            assert!(error.contains(what), "{sql}: {error}");
        }
    }
}
