//! Robots that say that they are one.
//!
//! A person who is taken for a robot is worse than a robot that is missed: only what names itself counts, and programs
//! that fetch pages on their own.

use super::text::{Agent, Product, is_version, leading_version};

/// A robot by its own words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Robot<'a> {
    /// As it writes it.
    pub(super) name: &'a str,
    /// Empty where it tells none.
    pub(super) version: &'a str,
    /// Who runs it, as far as its address tells.
    pub(super) brand: String,
    pub(super) is_google: bool,
    pub(super) is_mobile: bool,
    pub(super) is_iphone: bool,
    pub(super) url: &'a str,
    pub(super) email: &'a str,
    /// The name of a program that runs on App Engine.
    hosted: Option<&'a str>,
}

/// Words that are part of a robot's name, in small letters.
const WORDS: [&str; 13] = [
    "spider",
    "crawl",
    "slurp",
    "archiver",
    "indexer",
    "fetcher",
    "scraper",
    "scanner",
    "monitor",
    "checker",
    "validator",
    "externalhit",
    "lighthouse",
];

/// Names without such a word.
const NAMES: [&str; 14] = [
    "googleother",
    "googleassociationservice",
    "google web preview",
    "google page speed insights",
    "google",
    "curl",
    "wget",
    "python-requests",
    "go-http-client",
    "libwww-perl",
    "apache-httpclient",
    "okhttp",
    "node.js",
    "ptst",
];

/// Devices whose name has such a word and that are none.
const NOT_ROBOTS: [&str; 5] =
    ["cubot", "robotics", "google-apps-script", "wireless transcoder", "compatible with"];

impl<'a> Robot<'a> {
    pub(super) fn of(agent: &Agent<'a>) -> Option<Robot<'a>> {
        let url = url(agent);
        let named = name(agent);
        // An address with a plus sign is how robots say who they are.
        let says_so = agent.holds("+http") || agent.holds("+ http") || is_only_a_name(agent);
        let (name, version) = match named {
            Some(Product { name, version }) => (name, version),
            None if says_so => match agent.remarks[..] {
                ["compatible", remark] if agent.products.len() == 1 && !remark.starts_with('+') => {
                    let (name, version) = remark.split_once('/').unwrap_or((remark, ""));
                    (name, leading_version(version))
                }
                ["compatible", name, address] if address.starts_with("http") => (name, ""),
                [address] if address.starts_with("http") => {
                    agent.products.first().map(|first| (first.name, first.version))?
                }
                _ => (first_name(agent)?, ""),
            },
            None => return None,
        };
        let lower = name.to_ascii_lowercase();
        let is_google = lower.contains("google") || url.contains("google.com");
        let email = email(agent);
        let brand = match is_google {
            true => "Google".to_owned(),
            false => brand(url, email).unwrap_or_else(|| name.to_owned()),
        };
        let is_mobile = ["mobile", "android", "iphone"].iter().any(|word| agent.holds(word));
        let is_iphone = agent.holds("iphone");
        let hosted =
            agent.after("appid: s~").map(|rest| rest.split([')', ';']).next().unwrap_or(rest));
        Some(Robot { name, version, brand, is_google, is_mobile, is_iphone, url, email, hosted })
    }
}

impl Robot<'_> {
    /// As it is known.
    pub(super) fn known_name(&self) -> String {
        // Programs that run at Google's are named by their users.
        if let Some(program) = self.hosted {
            return super::browser::capitals(program);
        }
        if let Some((user, version)) = self.version.split_once('/')
            && self.name == "PTST"
            && !version.is_empty()
        {
            return format!("{user} WebpageTest");
        }
        let known = KNOWN.iter().find(|(start, _)| self.name.starts_with(start));
        match known {
            Some((_, name)) => (*name).to_owned(),
            None if self.name.starts_with("Google-") => self.name.replace('-', " "),
            None => super::browser::capitals(self.name),
        }
    }
}

/// Robots that are known by another name than the one they write.
const KNOWN: [(&str, &str); 13] = [
    ("Mediapartners-Google", "Google AdSense crawler"),
    ("Storebot-Google", "Google Storebot"),
    ("AdsBot-Google", "Google AdsBot"),
    ("APIs-Google", "Google APIs"),
    ("DuplexWeb-Google", "Google Duplex on the Web"),
    ("FeedFetcher-Google", "Google Feedfetcher"),
    ("GoogleOther", "Google Generic Crawler"),
    ("GoogleAssociationService", "Google Association Service"),
    ("Google-SearchByImage", "Google Search by image"),
    ("Google-HotelAdsVerifier", "Google Hotel Ads Verifier"),
    ("Google-Structured-Data-Testing-Tool", "Google-Structured-Data-Testing-Tool"),
    ("Go-http-client", "Go http client"),
    ("PTST", "WebpageTest"),
];

/// The product or remark that is a robot's name.
fn name<'a>(agent: &Agent<'a>) -> Option<Product<'a>> {
    let in_remarks = agent.remarks.iter().flat_map(|remark| remark.split(',')).map(|remark| {
        let remark = remark.trim();
        let (name, version) = remark.split_once('/').unwrap_or((remark, ""));
        let name = name.split(" +").next().unwrap_or(name);
        Product { name: name.trim(), version: leading_version(version) }
    });
    in_remarks.chain(agent.products.iter().copied()).find(|product| is_robot(product.name))
}

fn is_robot(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let is_address = lower.contains("http:") || lower.contains("https:") || lower.contains('@');
    let is_known = NAMES.iter().any(|known| lower == *known);
    let is_short = name.len() <= 40 && name.split(' ').count() <= 3 || is_known;
    if is_address || !is_short || NOT_ROBOTS.iter().any(|word| lower.contains(word)) {
        return false;
    }
    // `Googlebot`, `bot-7` and `robots`, but not `fuboTV`.
    let ends_in_bot = lower.match_indices("bot").any(|(at, _)| {
        let rest = lower[at + "bot".len()..].trim_start_matches('s');
        !rest.starts_with(|next: char| next.is_ascii_alphabetic())
    });
    ends_in_bot
        || WORDS.iter().any(|word| lower.contains(word))
        || lower.starts_with("google-")
        || lower.contains("-google")
        || NAMES
            .iter()
            .any(|known| lower.split([' ', '/']).next() == Some(known) || lower == *known)
}

/// `(compatible; Name; https://…)`, `(compatible; name/2.0)` with nothing behind it, or `name/2.0 (https://…)`.
fn is_only_a_name(agent: &Agent<'_>) -> bool {
    let is_address = |remark: &str| remark.starts_with("http://") || remark.starts_with("https://");
    let is_mozilla = agent.products.first().is_some_and(|first| first.name == "Mozilla");
    match agent.remarks[..] {
        ["compatible", name, address] => !is_address(name) && is_address(address),
        ["compatible", name] => {
            let is_named = name.split_once('/').is_some_and(|(_, version)| is_version(version));
            is_named && is_mozilla && agent.products.len() == 1
        }
        [address] => is_address(address) && !is_mozilla,
        _ => false,
    }
}

/// What comes first and is no browser's usual word.
fn first_name<'a>(agent: &Agent<'a>) -> Option<&'a str> {
    let usual =
        ["Mozilla", "AppleWebKit", "Chrome", "Safari", "Version", "Mobile", "like", "Gecko"];
    let product = agent.products.iter().find(|product| !usual.contains(&product.name));
    let remark = agent.remarks.iter().find(|remark| {
        let lower = remark.to_ascii_lowercase();
        !lower.starts_with("compatible") && !lower.contains("http") && !lower.contains('@')
    });
    let remark = remark.map(|remark| remark.split('/').next().unwrap_or(remark));
    product.map(|product| product.name).or(remark).or(Some("Netscape"))
}

fn url<'a>(agent: &Agent<'a>) -> &'a str {
    let start = agent.lower.find("http://").or_else(|| agent.lower.find("https://"));
    let Some(start) = start.or_else(|| agent.lower.find("www.")) else { return "" };
    let rest = &agent.text[start..];
    let end = rest.find([' ', ';', ')', ',', ']']).unwrap_or(rest.len());
    &rest[..end]
}

fn email<'a>(agent: &Agent<'a>) -> &'a str {
    let words = agent.text.split([' ', ';', '(', ')', ',', '<', '>']);
    let is_email = |word: &&str| {
        word.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
    };
    words.map(|word| word.trim_start_matches('+')).find(is_email).unwrap_or_default()
}

/// The name of the site.
fn brand(url: &str, email: &str) -> Option<String> {
    let host = match (url, email.split_once('@')) {
        ("", Some((_, host))) => host,
        (url, _) => {
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            rest.split(['/', ':', '?']).next()?
        }
    };
    let labels: Vec<&str> = host.split('.').filter(|label| !label.is_empty()).collect();
    // `co.uk` and its like are one ending.
    let short_second = labels.len() > 2 && labels[labels.len() - 2].len() <= 3;
    let at = labels.len().checked_sub(if short_second { 3 } else { 2 })?;
    Some(super::device::capital(labels[at]))
}
