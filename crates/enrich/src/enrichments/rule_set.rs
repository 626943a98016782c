//! Long lists of regular expressions of which the first that matches a text counts.
//!
//! To try a thousand of them in turn for each text would take milliseconds. Almost every expression needs some word to
//! stand in the text, letter case aside; one pass over the text finds which words do, and only the expressions that need
//! these are tried, in their order. Each is compiled when it is first tried. `\d`, `\w`, `\s`, `\b` and letter case are
//! ASCII's, as in Java.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use aho_corasick::AhoCorasick;
use regex::bytes::{Captures, Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

/// An expression and its flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) text: String,
    pub(super) ignore_case: bool,
}

/// Patterns in their order.
pub(super) struct RuleSet {
    rules: Vec<(Pattern, OnceLock<Option<Regex>>)>,
    words: AhoCorasick,
    /// The rules that each word lets in.
    of_word: Vec<Vec<usize>>,
    /// The rules that need no word.
    always: Vec<usize>,
}

impl RuleSet {
    /// Reads the patterns.
    ///
    /// # Errors
    /// Names the first one that is not well-formed.
    pub(super) fn new(patterns: Vec<Pattern>) -> Result<RuleSet, String> {
        let mut rules_of_words: std::collections::BTreeMap<Vec<u8>, Vec<usize>> =
            Default::default();
        let mut always = Vec::new();
        for (at, pattern) in patterns.iter().enumerate() {
            let mut parser = ParserBuilder::new();
            parser.unicode(false).utf8(false).case_insensitive(pattern.ignore_case);
            let hir = parser.build().parse(&pattern.text);
            let hir = hir.map_err(|_| format!("`{}` is no regular expression", pattern.text))?;
            match Needs::of(&hir).best() {
                Some(words) => {
                    for word in words {
                        rules_of_words.entry(word).or_default().push(at);
                    }
                }
                None => always.push(at),
            }
        }
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(rules_of_words.keys())
            .map_err(|error| error.to_string())?;
        Ok(RuleSet {
            rules: patterns.into_iter().map(|pattern| (pattern, OnceLock::new())).collect(),
            words,
            of_word: rules_of_words.into_values().collect(),
            always,
        })
    }

    /// Compiles all of them now.
    ///
    /// # Errors
    /// Names the first one that is too large.
    pub(super) fn compile(&self) -> Result<(), String> {
        let too_large = (0..self.rules.len()).find(|at| self.compiled(*at).is_none());
        too_large.map_or(Ok(()), |at| {
            Err(format!("`{}` is too large a regular expression", self.rules[at].0.text))
        })
    }

    /// What the first rule gives that matches and gives something. The rule is named by its place.
    pub(super) fn first<T>(
        &self,
        text: &str,
        mut give: impl FnMut(usize, &Captures<'_>) -> Option<T>,
    ) -> Option<T> {
        let mut candidates: Vec<usize> = self.always.clone();
        for found in self.words.find_overlapping_iter(text) {
            candidates.extend(&self.of_word[found.pattern().as_usize()]);
        }
        candidates.sort_unstable();
        candidates.dedup();
        candidates.into_iter().find_map(|at| {
            let captures = self.compiled(at)?.captures(text.as_bytes())?;
            give(at, &captures)
        })
    }

    fn compiled(&self, at: usize) -> Option<&Regex> {
        let (pattern, compiled) = &self.rules[at];
        let compile = || {
            RegexBuilder::new(&pattern.text)
                .unicode(false)
                .case_insensitive(pattern.ignore_case)
                // A thousand expressions share the memory.
                .dfa_size_limit(256 << 10)
                .build()
                .ok()
        };
        compiled.get_or_init(compile).as_ref()
    }
}

impl std::fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RuleSet of {}", self.rules.len())
    }
}

/// Byte strings in small letters.
type Words = BTreeSet<Vec<u8>>;

/// What a text must hold for an expression to match.
struct Needs {
    /// All that the expression can match, if that is a short list.
    exact: Option<Words>,
    /// Words of which one must be there.
    one_of: Option<Words>,
}

/// The longest list of all that a part of an expression can match.
const EXACT_MAX: usize = 32;

/// The longest list of words for one expression.
const WORDS_MAX: usize = 200;

impl Needs {
    const NOTHING: Needs = Needs { exact: None, one_of: None };

    fn exactly(words: impl IntoIterator<Item = Vec<u8>>) -> Needs {
        Needs { exact: Some(words.into_iter().collect()), one_of: None }
    }

    fn of(hir: &Hir) -> Needs {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => Needs::exactly([Vec::new()]),
            HirKind::Literal(literal) => Needs::exactly([literal.0.to_ascii_lowercase()]),
            HirKind::Class(class) => Needs::of_class(class),
            HirKind::Capture(capture) => Needs::of(&capture.sub),
            HirKind::Repetition(repetition) => {
                let inner = Needs::of(&repetition.sub);
                match (repetition.min, repetition.max, inner.exact) {
                    (0, Some(1), Some(words)) => {
                        Needs::exactly(words.into_iter().chain([Vec::new()]))
                    }
                    (0, ..) => Needs::NOTHING,
                    (1, Some(1), exact) => Needs { exact, one_of: inner.one_of },
                    (_, _, exact) => {
                        Needs { exact: None, one_of: Needs { exact, one_of: inner.one_of }.best() }
                    }
                }
            }
            HirKind::Concat(parts) => Needs::of_row(parts),
            HirKind::Alternation(parts) => {
                let parts: Vec<Needs> = parts.iter().map(Needs::of).collect();
                let exact: Option<Words> = parts.iter().map(|part| part.exact.clone()).try_fold(
                    Words::new(),
                    |mut all, words| {
                        all.extend(words?);
                        Some(all)
                    },
                );
                if let Some(exact) = exact.filter(|exact| exact.len() <= EXACT_MAX) {
                    return Needs { exact: Some(exact), one_of: None };
                }
                let one_of = parts.into_iter().try_fold(Words::new(), |mut all, part| {
                    all.extend(part.best()?);
                    Some(all)
                });
                Needs { exact: None, one_of: one_of.filter(|words| words.len() <= WORDS_MAX) }
            }
        }
    }

    /// A class of few characters is each of them.
    fn of_class(class: &Class) -> Needs {
        let Class::Bytes(class) = class else { return Needs::NOTHING };
        let size: usize =
            class.ranges().iter().map(|it| usize::from(it.end() - it.start()) + 1).sum();
        if size > 8 {
            return Needs::NOTHING;
        }
        let bytes = class.ranges().iter().flat_map(|range| range.start()..=range.end());
        Needs::exactly(bytes.map(|byte| vec![byte.to_ascii_lowercase()]))
    }

    /// Neighbours that are exact grow together; of all that came about so the best is kept.
    fn of_row(parts: &[Hir]) -> Needs {
        let one = || Words::from([Vec::new()]);
        let (mut whole, mut run, mut best) = (true, one(), None);
        for part in parts {
            let needs = Needs::of(part);
            match needs.exact {
                Some(words) if run.len() * words.len() <= EXACT_MAX => run = product(&run, &words),
                Some(words) => {
                    whole = false;
                    best = better(best, Some(std::mem::replace(&mut run, words)));
                }
                None => {
                    whole = false;
                    best = better(best, Some(std::mem::replace(&mut run, one())));
                    best = better(best, needs.one_of);
                }
            }
        }
        match whole {
            true => Needs { exact: Some(run), one_of: None },
            false => Needs { exact: None, one_of: better(best, Some(run)) },
        }
    }

    /// The words to look for, if there are some that are worth it.
    fn best(self) -> Option<Words> {
        better(better(None, self.exact), self.one_of)
    }
}

fn product(before: &Words, after: &Words) -> Words {
    before.iter().flat_map(|a| after.iter().map(|b| [&a[..], b].concat())).collect()
}

/// The list that lets fewer texts through: long words, and few of them. A single character says nothing.
fn better(a: Option<Words>, b: Option<Words>) -> Option<Words> {
    let shortest = |words: &Words| words.iter().map(Vec::len).min().unwrap_or_default();
    let b = b.filter(|words| shortest(words) >= 2);
    match (a, b) {
        (Some(a), Some(b)) => {
            let score = |words: &Words| (shortest(words).min(8), std::cmp::Reverse(words.len()));
            Some(if score(&b) > score(&a) { b } else { a })
        }
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(pattern: &str, ignore_case: bool) -> Option<Vec<String>> {
        let mut parser = ParserBuilder::new();
        parser.unicode(false).utf8(false).case_insensitive(ignore_case);
        let words = Needs::of(&parser.build().parse(pattern).unwrap()).best()?;
        Some(words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect())
    }

    #[test]
    fn the_word_that_an_expression_needs_is_found() {
        let check = |pattern, expect: &[&str]| {
            assert_eq!(words(pattern, false).unwrap_or_default(), expect, "{pattern}");
        };
        check(r"(GeoEvent Server) (\d+)", &["geoevent server "]);
        check(r"(?:a|b)cd\d+longer", &["longer"]);
        check(r"\bHbb[TtXx]v\b", &["hbbtv", "hbbxv"]);
        check(r"(Firefox|Iceweasel)/(\d+)", &["firefox/", "iceweasel/"]);
        check(r"(?:xy)*z?", &[]);
        check(r".*", &[]);
        check(r"(?:ab.*|cd.*)", &["ab", "cd"]);
        assert_eq!(words("(iphone)", true), Some(vec!["iphone".to_owned()]));
    }

    fn set(patterns: &[&str]) -> RuleSet {
        let pattern = |text: &&str| Pattern { text: (*text).to_owned(), ignore_case: false };
        RuleSet::new(patterns.iter().map(pattern).collect()).unwrap()
    }

    #[test]
    fn the_first_rule_that_gives_something_counts() {
        let rules = set(&["never", "a(b)?", "ab", "."]);
        let first = |text, skip: usize| rules.first(text, |at, _| (at != skip).then_some(at));
        assert_eq!(first("xxab", 9), Some(1));
        assert_eq!(first("xxab", 1), Some(2));
        assert_eq!(first("x", 9), Some(3));
        assert_eq!(first("", 9), None);
    }

    #[test]
    fn a_pattern_that_cannot_be_used_is_named() {
        let broken = Pattern { text: "(a".to_owned(), ignore_case: false };
        assert_eq!(RuleSet::new(vec![broken]).unwrap_err(), "`(a` is no regular expression");
        let large = Pattern { text: "(?:[a-f]{900}){900}".to_owned(), ignore_case: false };
        let error = RuleSet::new(vec![large]).unwrap().compile().unwrap_err();
        assert_eq!(error, "`(?:[a-f]{900}){900}` is too large a regular expression");
    }

    proptest! {
        #[test]
        fn the_words_keep_no_rule_from_matching(
            text in "[aAbBcC ]{0,12}",
            patterns in prop::collection::vec("(\\([aA]b\\|C\\)|b\\+|[aAbBcC]{1,4}|\\[ab\\]c|a\\?b|\\.\\*|B\\{2,3\\}|\\\\bab){1,3}", 1..6),
            ignore_case: bool,
        ) {
            let patterns: Vec<Pattern> =
                patterns.into_iter().map(|text| Pattern { text, ignore_case }).collect();
            let plainly = patterns.iter().position(|pattern| {
                let mut builder = RegexBuilder::new(&pattern.text);
                let regex = builder.unicode(false).case_insensitive(ignore_case).build().unwrap();
                regex.is_match(text.as_bytes())
            });
            let rules = RuleSet::new(patterns).unwrap();
            prop_assert_eq!(rules.first(&text, |at, _| Some(at)), plainly);
        }
    }
}
