//! The layout engine, and the program that stands on it.

use super::device::{Device, has_any};
use super::hints::Hints;
use super::system::System;
use super::text::{Agent, is_reduced, is_version, leading_version, major};

/// Class, name and version; the version is empty where it is not known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) class: &'static str,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) build: String,
}

impl Program {
    fn new(class: &'static str, name: &str, version: &str) -> Program {
        Program { class, name: name.to_owned(), version: version.to_owned(), build: String::new() }
    }
}

const BROWSER: &str = "Browser";
const APP: &str = "Mobile App";
const EMAIL: &str = "Email Client";
const WEBVIEW: &str = "Browser Webview";

/// The engine.
pub(super) fn engine(agent: &Agent<'_>) -> Program {
    if let Some(version) = agent.version("Presto") {
        return Program::new(BROWSER, "Presto", version);
    }
    if let Some(version) = agent.remark_after("Trident/") {
        return Program::new(BROWSER, "Trident", leading_version(version));
    }
    if let Some(version) = agent.version("Edge").filter(|_| agent.holds("windows")) {
        return Program::new(BROWSER, "EdgeHTML", major(version));
    }
    if let Some(version) = agent.version("Goanna") {
        return Program::new(BROWSER, "Goanna", version);
    }
    let chrome = agent.version("Chrome").or_else(|| agent.version("HeadlessChrome"));
    let webkit = agent.version("AppleWebKit");
    if let Some(chrome) = chrome
        && webkit.is_some()
        && major(chrome).parse::<u32>().is_ok_and(|major| major >= 28)
    {
        return Program::new(BROWSER, "Blink", &engine_version(agent, chrome));
    }
    if let Some(version) = webkit {
        return Program::new(BROWSER, "AppleWebKit", version.trim_end_matches('+'));
    }
    if let Some(build) = agent.version("Gecko") {
        let version = agent.remark_after("rv:").map(leading_version).unwrap_or_default();
        let mut engine = Program::new(BROWSER, "Gecko", version);
        engine.build = build.to_owned();
        return engine;
    }
    if let Some(version) = agent.version("NetFront") {
        return Program::new(BROWSER, "Netfront", version);
    }
    if let Some(version) = agent.remark_after("MSIE") {
        return Program::new(BROWSER, "Internet Explorer", leading_version(version));
    }
    if agent.has("Opera") {
        return Program::new(BROWSER, "Presto", "1");
    }
    match agent.products.first() {
        Some(first) if first.name == "Mozilla" && agent.products.len() == 1 => {
            Program::new(BROWSER, "Mozilla", first.version)
        }
        _ => Program::new("Unknown", "Unknown", ""),
    }
}

/// The two numbers that tell engines apart; one where the rest is hidden.
fn engine_version(agent: &Agent<'_>, chrome: &str) -> String {
    if is_reduced(chrome) && !agent.has("SamsungBrowser") {
        return major(chrome).to_owned();
    }
    chrome.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Programs by the product that they add to a browser's words, in the order in which they are looked for: those that
/// stand on others come first.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("Instagram", APP, "Instagram"),
    ("Snapchat", APP, "Snapchat"),
    ("WhatsApp", APP, "WhatsApp"),
    ("Line", APP, "Line"),
    ("EmbeddedBrowser", APP, "EmbeddedBrowser"),
    ("OneOutlook", EMAIL, "OneOutlook"),
    ("Superhuman", EMAIL, "Superhuman"),
    ("NewtonMail", EMAIL, "Newton"),
    ("tutanota-desktop", EMAIL, "Tuta"),
    ("Lark", EMAIL, "Lark"),
    ("Thunderbird", EMAIL, "Thunderbird"),
    ("Outlook-iOS", EMAIL, "Microsoft Outlook Mobile"),
    ("Outlook-Android", EMAIL, "Microsoft Outlook Mobile"),
    ("Outlook-iOS-Android", EMAIL, "Microsoft Outlook Mobile"),
    ("MailMaster", EMAIL, "Mail Master"),
    ("MailMasterPC", EMAIL, "Mail Master"),
    ("Mailspring", EMAIL, "Mailspring"),
    ("SparkMail", EMAIL, "Spark mail"),
    ("SparkDesktop", EMAIL, "Spark mail"),
    ("FastmailUA", EMAIL, "Fastmail"),
    ("com.google.ios.youtube", APP, "Youtube"),
    ("com.google.android.youtube", APP, "Youtube"),
    ("EdgA", BROWSER, "Edge"),
    ("EdgiOS", BROWSER, "Edge"),
    ("Edg", BROWSER, "Edge"),
    ("Edge", BROWSER, "Edge"),
    ("OPX", BROWSER, "Opera GX"),
    ("OPRGX", BROWSER, "Opera GX"),
    ("OPT", BROWSER, "Opera Touch"),
    ("OPiOS", BROWSER, "Opera"),
    ("OPR", BROWSER, "Opera"),
    ("Opera Mini", BROWSER, "Opera Mini"),
    ("Whale", BROWSER, "Whale"),
    ("SamsungBrowser", BROWSER, "SamsungBrowser"),
    ("UCBrowser", BROWSER, "UCBrowser"),
    ("YaBrowser", BROWSER, "Yandex Browser"),
    ("Vivaldi", BROWSER, "Vivaldi"),
    ("Brave", BROWSER, "Brave"),
    ("DuckDuckGo", BROWSER, "DuckDuckGo"),
    ("Ddg", BROWSER, "DuckDuckGo"),
    ("QwantMobile", BROWSER, "Qwant"),
    ("Qwant", BROWSER, "Qwant"),
    ("MiuiBrowser", BROWSER, "MiuiBrowser"),
    ("HuaweiBrowser", BROWSER, "HuaweiBrowser"),
    ("Silk", BROWSER, "Silk"),
    ("NintendoBrowser", BROWSER, "NintendoBrowser"),
    ("CriOS", BROWSER, "Chrome"),
    ("FxiOS", BROWSER, "Firefox"),
    ("Focus", BROWSER, "Firefox Focus"),
    ("Camino", BROWSER, "Camino"),
    ("RetroZilla", BROWSER, "RetroZilla"),
    ("SeaMonkey", BROWSER, "SeaMonkey"),
    ("PaleMoon", BROWSER, "Pale Moon"),
    ("Waterfox", BROWSER, "Waterfox"),
    ("ArcticFox", BROWSER, "ArcticFox"),
    ("Iceweasel", BROWSER, "Iceweasel"),
    ("Ghostery", BROWSER, "Ghostery"),
    ("Epiphany", BROWSER, "Epiphany"),
    ("Konqueror", BROWSER, "Konqueror"),
    ("Tbrowser", BROWSER, "Tbrowser"),
    ("NetFront", BROWSER, "Netfront"),
    ("Firefox", BROWSER, "Firefox"),
    ("Chromium", BROWSER, "Chromium"),
];

/// Brands of the client hints, and how their programs are called.
const BRANDS: &[(&str, &str)] = &[
    ("Opera GX", "Opera GX"),
    ("OperaMobile", "Opera Mobile"),
    ("Opera", "Opera"),
    ("Microsoft Edge", "Edge"),
    ("Samsung Internet", "SamsungBrowser"),
    ("Brave", "Brave"),
    ("Whale", "Whale"),
    ("Vivaldi", "Vivaldi"),
    ("YaBrowser", "Yandex Browser"),
    ("DuckDuckGo", "DuckDuckGo"),
    ("Google Chrome", "Chrome"),
];

/// The program.
pub(super) fn program(
    agent: &Agent<'_>,
    hints: &Hints,
    system: &System,
    device: &Device,
) -> Program {
    let mut program = found(agent, hints, system, device);
    if is_reduced(&program.version) {
        program.version = major(&program.version).to_owned();
    }
    program
}

fn found(agent: &Agent<'_>, hints: &Hints, system: &System, device: &Device) -> Program {
    let is_webview = agent.remarks_on("wv")
        || system.name == "Android"
            && agent.has("Chrome")
            && agent.version("Version") == Some("4.0");
    let branded = BRANDS.iter().find_map(|(brand, name)| Some((*name, hints.brand(brand)?)));
    for (product, class, name) in PROGRAMS {
        let Some(version) = agent.version(product).or_else(|| spoken(agent, product)) else {
            continue;
        };
        // Apps show pages in the system's own view there.
        if *class == APP && is_webview {
            break;
        }
        let name = match (*name, device.class) {
            ("Opera", "Phone" | "Tablet" | "Mobile")
                if agent.has("Mobile") && branded.is_none_or(|it| it.0 == "Opera Mobile") =>
            {
                "Opera Mobile"
            }
            ("Opera", _) if branded.is_some_and(|it| it.0 == "Opera GX") => "Opera GX",
            (name, _) => name,
        };
        let told = branded.filter(|it| it.0 == name && it.1.contains('.')).map(|it| it.1);
        let version = match told {
            Some(told) if is_reduced(version) || name == "SamsungBrowser" => told,
            _ => version,
        };
        let class = if *class == BROWSER && is_webview && !name.starts_with("Opera") {
            WEBVIEW
        } else {
            *class
        };
        if class == WEBVIEW && !matches!(name, "Whale" | "SamsungBrowser" | "DuckDuckGo") {
            break;
        }
        return Program::new(class, name, version);
    }
    if let Some(rest) = agent.remark_after("Microsoft Outlook") {
        return Program::new(EMAIL, "Microsoft Outlook", leading_version(rest));
    }
    if let Some(version) = agent.remark_after("MSIE") {
        let name = if agent.holds("iemobile") { "IE Mobile" } else { "Internet Explorer" };
        return Program::new(BROWSER, name, leading_version(version));
    }
    if agent.remark_after("Trident/").is_some() {
        let version = agent.remark_after("rv:").map(leading_version).unwrap_or("11.0");
        return Program::new(BROWSER, "Internet Explorer", version);
    }
    if let Some(opera) = agent.version("Opera") {
        let version = agent.version("Version").unwrap_or(opera);
        let name = if agent.holds("opera mobi") { "Opera Mobile" } else { "Opera" };
        return Program::new(BROWSER, name, version);
    }
    if let Some(chrome) = agent.version("Chrome") {
        if !is_webview && let Some((name, version)) = added(agent) {
            return Program::new(BROWSER, name, version);
        }
        return chromium(hints, chrome, is_webview, branded);
    }
    webkit(agent, system)
}

/// The last product with a version that stands behind the usual ones: many browsers are Chrome and one more word.
fn added<'a>(agent: &Agent<'a>) -> Option<(&'a str, &'a str)> {
    const USUAL: [&str; 14] = [
        "Mozilla",
        "AppleWebKit",
        "Chrome",
        "Safari",
        "Version",
        "Mobile",
        "Gecko",
        "Electron",
        "CrKey",
        "HbbTV",
        "CE-HTML",
        "NETTV",
        "Model",
        "TV",
    ];
    let last = agent.products.iter().rev().find(|product| !product.version.is_empty())?;
    let is_word = last.name.chars().all(|it| it.is_ascii_alphabetic());
    let is_new = !USUAL.contains(&last.name) && is_word && last.name.len() > 2;
    (is_new && is_version(last.version)).then(|| (last.name, leading_version(last.version)))
}

/// A program on Chromium that adds no word of its own.
fn chromium(
    hints: &Hints,
    chrome: &str,
    is_webview: bool,
    branded: Option<(&'static str, &str)>,
) -> Program {
    if is_webview {
        return Program::new(WEBVIEW, "Chrome Webview", chrome);
    }
    match branded {
        Some((name, version)) if name != "Chrome" || version.contains('.') => Program::new(
            BROWSER,
            name,
            if version.contains('.') || name != "Chrome" && !is_reduced(chrome) {
                version
            } else {
                chrome
            },
        ),
        None if hints.brand("Chromium").is_some() && hints.brand("Android WebView").is_none() => {
            Program::new(BROWSER, "Chromium", chrome)
        }
        _ => Program::new(BROWSER, "Chrome", chrome),
    }
}

/// Safari, the views of iOS and Android, and programs that only tell their own name.
fn webkit(agent: &Agent<'_>, system: &System) -> Program {
    let webkit = agent.version("AppleWebKit");
    let version = agent.version("Version");
    if let Some(webkit) = webkit {
        return match (system.name, version) {
            ("Android", Some(version)) => Program::new(BROWSER, "Stock Android Browser", version),
            (_, Some(version)) if agent.has("Safari") => Program::new(BROWSER, "Safari", version),
            ("iOS", _) if agent.has("Mobile") && (!agent.has("Safari") || agent.has("GSA")) => {
                Program::new(WEBVIEW, "UIWebView", webkit)
            }
            _ if has_any(&agent.products, &["Safari"]) => {
                Program::new(BROWSER, "Safari", agent.version("Safari").unwrap_or_default())
            }
            _ => Program::new(BROWSER, "AppleWebKit", webkit),
        };
    }
    for name in ["Microsoft Word", "Microsoft Excel", "Microsoft PowerPoint", "Microsoft Visio"] {
        if let Some(rest) = agent.remark_after(name) {
            return Program::new("Special", name, leading_version(rest));
        }
    }
    match agent.products.first() {
        Some(first) if first.name == "Mozilla" => Program::new(BROWSER, "Netscape", first.version),
        Some(first) if first.name == "Dalvik" => Program::new(BROWSER, "Unknown", ""),
        Some(first) => {
            let class = if agent.has("CFNetwork") { APP } else { "Special" };
            Program::new(class, first.name, first.version)
        }
        None => Program::new("Unknown", "Unknown", ""),
    }
}

/// A name of several words, such as `Opera Mini/7.0`, wherever it stands.
fn spoken<'a>(agent: &Agent<'a>, name: &str) -> Option<&'a str> {
    if !name.contains(' ') {
        return None;
    }
    let start = agent.lower.find(&name.to_ascii_lowercase())? + name.len();
    let rest = agent.text.get(start..)?.trim_start_matches('/');
    Some(leading_version(rest)).filter(|version| is_version(version))
}
