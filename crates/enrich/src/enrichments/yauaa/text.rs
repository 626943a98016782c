//! A user agent taken apart: products with versions, and the remarks in parentheses.

/// `Chrome/83.0` or `Instagram 7.10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Product<'a> {
    pub(super) name: &'a str,
    /// Empty where there is none.
    pub(super) version: &'a str,
}

/// The parts of a user agent, in their order.
#[derive(Debug)]
pub(super) struct Agent<'a> {
    pub(super) text: &'a str,
    /// The same in small letters.
    pub(super) lower: String,
    pub(super) products: Vec<Product<'a>>,
    /// What stands between parentheses, cut at semicolons.
    pub(super) remarks: Vec<&'a str>,
}

impl<'a> Agent<'a> {
    pub(super) fn parse(text: &'a str) -> Agent<'a> {
        let mut agent = Agent {
            text,
            lower: text.to_ascii_lowercase(),
            products: Vec::new(),
            remarks: Vec::new(),
        };
        let mut depth = 0;
        let mut start = 0;
        for (at, character) in text.char_indices() {
            match character {
                '(' => {
                    if depth == 0 {
                        agent.add_products(&text[start..at]);
                        start = at + 1;
                    }
                    depth += 1;
                }
                ')' if depth > 0 => {
                    depth -= 1;
                    if depth == 0 {
                        agent.add_remarks(&text[start..at]);
                        start = at + 1;
                    }
                }
                _ => {}
            }
        }
        match depth {
            0 => agent.add_products(&text[start..]),
            _ => agent.add_remarks(&text[start..]),
        }
        agent
    }

    fn add_products(&mut self, text: &'a str) {
        let mut words = text.split([' ', ',']).filter(|word| !word.is_empty()).peekable();
        while let Some(word) = words.next() {
            let (name, version) = word.split_once('/').unwrap_or((word, ""));
            if version.is_empty()
                && !name.is_empty()
                && let Some(next) = words.peek().copied().filter(|next| is_version(next))
            {
                words.next();
                self.products.push(Product { name, version: next });
            } else {
                self.products.push(Product { name, version });
            }
        }
    }

    fn add_remarks(&mut self, text: &'a str) {
        self.remarks.extend(text.split(';').map(str::trim).filter(|remark| !remark.is_empty()));
    }

    /// The version of a product, whatever the case of its name.
    pub(super) fn version(&self, name: &str) -> Option<&'a str> {
        let found = self.products.iter().find(|product| product.name.eq_ignore_ascii_case(name));
        found.map(|product| product.version)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.version(name).is_some()
    }

    /// Whether a remark is this word.
    pub(super) fn remarks_on(&self, word: &str) -> bool {
        self.remarks.iter().any(|remark| remark.eq_ignore_ascii_case(word))
    }

    /// What follows the first of these words in a remark that begins with it.
    pub(super) fn remark_after(&self, start: &str) -> Option<&'a str> {
        self.remarks.iter().find_map(|remark| {
            let (head, rest) = remark.split_at_checked(start.len())?;
            head.eq_ignore_ascii_case(start).then(|| rest.trim())
        })
    }

    /// What follows these words, which are in small letters, wherever they stand.
    pub(super) fn after(&self, lower: &str) -> Option<&'a str> {
        let start = self.lower.find(lower)? + lower.len();
        self.text.get(start..)
    }

    /// Whether the text holds this, which is in small letters.
    pub(super) fn holds(&self, lower: &str) -> bool {
        self.lower.contains(lower)
    }
}

/// A number and what belongs to it.
pub(super) fn is_version(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

/// What comes before the first point.
pub(super) fn major(version: &str) -> &str {
    version.split(['.', '_']).next().unwrap_or(version)
}

/// `100.0.0.0`: browsers that hide all but the first number.
pub(super) fn is_reduced(version: &str) -> bool {
    version.ends_with(".0.0.0") && !version.starts_with("0.")
}

/// The word that `text` begins with, up to a character that no version has.
pub(super) fn leading_version(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
    &text[..end.unwrap_or(text.len())]
}
