//! The client hints: what newer browsers tell in headers of their own, instead of in the user agent.

/// Empty where a header is missing or says nothing.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// Names and versions: of `Sec-CH-UA-Full-Version-List`, or else of `Sec-CH-UA`.
    pub(super) brands: Vec<(String, String)>,
    pub(super) platform: String,
    pub(super) platform_version: String,
    pub(super) model: String,
    pub(super) arch: String,
    pub(super) bitness: String,
    pub(super) mobile: String,
    /// Whether any of the headers is there.
    pub(super) any: bool,
}

impl Hints {
    /// Takes the hints of lines such as `Sec-CH-UA-Mobile: ?1`.
    pub(super) fn of<'a>(headers: impl Iterator<Item = &'a str>) -> Hints {
        let mut hints = Hints::default();
        let mut full = Vec::new();
        for header in headers {
            let Some((name, value)) = header.split_once(": ") else { continue };
            let Some(name) = strip_prefix_ignoring_case(name, "sec-ch-ua") else { continue };
            let text = || value.trim().trim_matches('"').trim().to_owned();
            match name.to_ascii_lowercase().as_str() {
                "" => hints.brands = brands(value),
                "-full-version-list" => full = brands(value),
                "-platform" => hints.platform = text(),
                "-platform-version" => hints.platform_version = text(),
                "-model" => hints.model = text(),
                "-arch" => hints.arch = text(),
                "-bitness" => hints.bitness = text(),
                "-mobile" => hints.mobile = text(),
                _ => continue,
            }
            hints.any = true;
        }
        if !full.is_empty() {
            hints.brands = full;
        }
        hints
    }

    /// The version of a brand.
    pub(super) fn brand(&self, name: &str) -> Option<&str> {
        self.brands.iter().find(|(known, _)| known == name).map(|(_, version)| version.as_str())
    }
}

/// `"Chromium";v="120", "Opera";v="106"`; brands that only test their readers (`Not;A=Brand`) are left out.
fn brands(text: &str) -> Vec<(String, String)> {
    let mut brands = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('"') {
        let Some((name, after)) = after.split_once('"') else { break };
        let Some((_, after)) = after.split_once("v=\"") else { break };
        let Some((version, after)) = after.split_once('"') else { break };
        rest = after;
        let letters: String = name.chars().filter(char::is_ascii_alphabetic).collect();
        if letters != "NotABrand" && letters != "NotBrand" {
            brands.push((name.trim().to_owned(), version.to_owned()));
        }
    }
    brands
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}
