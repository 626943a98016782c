//! The layout engine, and the program that stands on it.

use super::device::{Device, has_any};
use super::hints::Hints;
use super::system::System;
use super::text::{Agent, Product, is_reduced, is_version, leading_version, major};

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
    ("Foxmail", EMAIL, "Foxmail"),
    ("PostboxApp", EMAIL, "PostboxApp"),
    ("ZohoMail-Desktop", EMAIL, "Zoho mail"),
    ("ZohoTridentWindows", EMAIL, "Zoho Trident"),
    ("Tempo", EMAIL, "Tempo"),
    ("mailapp", EMAIL, "MailApp"),
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
    ("MMS", BROWSER, "Opera Neon"),
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
    ("CrMo", BROWSER, "Chrome"),
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
    // `EmbeddedBrowser/Name/440`.
    if let Some((word, version)) = program.version.split_once('/')
        && !is_version(word)
        && is_version(version)
        && !version.contains('/')
    {
        program.version = version.to_owned();
    }
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
    if agent.holds("superhumanproxy") && !agent.has("Superhuman") {
        return Program::new(EMAIL, "Superhuman", "");
    }
    // It used to call itself by others' names, and put its own behind them.
    if let Some(opera) = agent.version("Opera")
        && !agent.lower.starts_with("opera")
        && is_version(opera)
    {
        return Program::new(BROWSER, "Opera", opera);
    }
    for (product, class, name) in PROGRAMS {
        let Some(version) = agent.version(product).or_else(|| spoken(agent, product)) else {
            continue;
        };
        // Apps show pages in the system's own view there.
        if *class == APP && is_webview {
            break;
        }
        let name = match (*name, device.class) {
            // Opera Mini shows pages in the system's own view.
            ("Opera", _) if is_webview => "Opera Mini",
            ("Opera", "Phone" | "Tablet" | "Mobile")
                if *product != "OPiOS"
                    && agent.has("Mobile")
                    && branded.is_none_or(|it| it.0 == "Opera Mobile") =>
            {
                "Opera Mobile"
            }
            ("Opera", _) if branded.is_some_and(|it| it.0 == "Opera GX") => "Opera GX",
            (name, _) => name,
        };
        let told = branded.filter(|it| it.0 == name && it.1.contains('.')).map(|it| it.1);
        // `Brave Chrome/80.0`.
        let version = match version {
            "" => agent.version("Chrome").filter(|_| *class == BROWSER).unwrap_or_default(),
            version => version,
        };
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
    if let Some(version) = agent.remark_after("AOL ") {
        return Program::new(BROWSER, "AOL", leading_version(version));
    }
    if let Some(version) = agent.remark_after("MSIE").or_else(|| agent.after("compatible msie ")) {
        let name = if agent.holds("iemobile") { "IE Mobile" } else { "Internet Explorer" };
        return Program::new(BROWSER, name, leading_version(version));
    }
    if agent.remark_after("Trident/").is_some() {
        let version = agent.remark_after("rv:").map(leading_version).unwrap_or("11.0");
        return Program::new(BROWSER, "Internet Explorer", version);
    }
    if let Some(opera) = agent.version("Opera") {
        let version = agent.version("Version").unwrap_or(opera);
        let name = match () {
            () if agent.holds("opera mobi") => "Opera Mobile",
            () if agent.holds("opera tablet") => "Opera Tablet",
            () => "Opera",
        };
        return Program::new(BROWSER, name, version);
    }
    if let Some(chrome) = agent.version("Chrome") {
        if let Some((name, version)) = renamed(agent) {
            let version = Some(version).filter(|version| is_version(version));
            return Program::new(BROWSER, name, version.map_or(chrome, leading_version));
        }
        if !is_webview && let Some((name, version)) = added(agent) {
            return Program::new(BROWSER, name, version);
        }
        return chromium(hints, chrome, is_webview, branded);
    }
    webkit(agent, system)
}

/// Browsers that are Chrome, and say so by one more word, mostly without a version of its own.
const RENAMED: &[(&str, &str)] = &[
    ("LBBROWSER", "Liebao Browser"),
    ("MRCHROME", "Amigo"),
    ("QIHU", "Qihoo 360 Safe Browser"),
    ("Superbird", "Superbird"),
    ("WebAppManager", "LG Browser"),
];

fn renamed<'a>(agent: &Agent<'a>) -> Option<(&'static str, &'a str)> {
    RENAMED.iter().find_map(|(word, name)| Some((*name, agent.version(word)?)))
}

/// The last product with a version that stands behind the usual ones: many browsers are Chrome and one more word.
fn added<'a>(agent: &Agent<'a>) -> Option<(&'a str, &'a str)> {
    let last = agent.products.iter().rev().find(|product| !product.version.is_empty())?;
    new_name(last)
}

/// The name and version of a product that is none of the usual ones.
fn new_name<'a>(product: &Product<'a>) -> Option<(&'a str, &'a str)> {
    const USUAL: [&str; 19] = [
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
        "SmartTV",
        "Colt",
        "Darwin",
        "CFNetwork",
        "Build",
    ];
    let Product { name, version } = *product;
    let is_word = name.chars().all(|it| it.is_ascii_alphabetic() || "_-".contains(it));
    let is_usual = USUAL.iter().any(|usual| usual.eq_ignore_ascii_case(name));
    let is_new = !is_usual && is_word && name.len() > 2;
    (is_new && is_version(version)).then(|| (name, leading_version(version)))
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
    let version = agent.version("Version");
    // Some programs name the engine and are no browser.
    let is_browser = agent.has("Mozilla") || agent.has("Safari");
    if let Some(webkit) = agent.version("AppleWebKit").filter(|_| is_browser) {
        // Safari as some providers hand it out: `Version/Name 18.6`.
        if let Some(at) = agent.products.iter().position(|product| product.name == "Version")
            && let Some(next) = agent.products.get(at + 1)
            && !is_version(agent.products[at].version)
            && is_version(next.name)
        {
            return Program::new(BROWSER, agent.products[at].version, next.name);
        }
        if let Some((name, version)) = added_to_webkit(agent) {
            return Program::new(BROWSER, name, version);
        }
        let webkit = webkit.trim_end_matches('+');
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
    if let Some(program) = office(agent) {
        return program;
    }
    match agent.products.first() {
        Some(first) if first.name == "Mozilla" => match added(agent) {
            Some((name, version)) => Program::new(BROWSER, name, version),
            None => Program::new(BROWSER, "Netscape", first.version),
        },
        Some(first) if first.name == "Dalvik" => Program::new(BROWSER, "Unknown", ""),
        Some(first) => own_name(agent, system, first.name),
        None => Program::new("Unknown", "Unknown", ""),
    }
}

/// The last product that stands behind the engine, tells a version, and is none of Safari's usual ones.
fn added_to_webkit<'a>(agent: &Agent<'a>) -> Option<(&'a str, &'a str)> {
    // Parts of the system, of the page's window, or of apps that are not told apart.
    const OTHERS: [&str; 6] =
        ["GSA", "Silk-Accelerated", "Profile", "Configuration", "Kindle", "NokiaBrowser"];
    let is_engine = |product: &Product<'_>| product.name.eq_ignore_ascii_case("AppleWebKit");
    let engine = agent.products.iter().position(is_engine)?;
    let mut behind = agent.products[engine..].iter().rev().filter_map(new_name);
    behind.find(|(name, _)| !OTHERS.contains(name))
}

/// Programs of an office, which tell their name in a remark: `Microsoft Project 16.0`.
fn office(agent: &Agent<'_>) -> Option<Program> {
    const SPECIAL: &str = "Special";
    for remark in &agent.remarks {
        if let Some(("ucmapi", version)) = remark.split_once(' ') {
            return Some(Program::new(SPECIAL, "Microsoft Office MAPI Client", version));
        }
        let words: Vec<&str> = remark.split(' ').collect();
        if let ["Microsoft", program, version, ..] = words[..]
            && is_version(version)
            && program != "Windows"
        {
            let name = format!("Microsoft {program}");
            return Some(Program::new(SPECIAL, &name, leading_version(version)));
        }
    }
    let version = agent.text.strip_prefix("Microsoft Office/")?;
    Some(Program::new(SPECIAL, "Microsoft Office", leading_version(version)))
}

/// A program that says nothing but its own name, of one word or several, before its version.
fn own_name(agent: &Agent<'_>, system: &System, first: &str) -> Program {
    // How the libraries of iOS write the names of apps.
    let is_app = agent.has("CFNetwork")
        || agent.has("Alamofire")
        || system.name == "watchOS"
        || agent.remark_after("Scale/").is_some();
    let class = if is_app { APP } else { "Special" };
    let named = agent.products.iter().position(|product| is_version(product.version));
    let words = agent.products.iter().take(named.map_or(1, |at| at + 1));
    let name = words.map(|product| product.name).collect::<Vec<_>>().join(" ");
    match named {
        // Words with nothing between them.
        Some(at) if at <= 2 && agent.text.starts_with(&name) => {
            Program::new(class, &capitals(&name), agent.products[at].version)
        }
        _ => {
            let version = agent.version(first).unwrap_or_default();
            Program::new(class, &capitals(first), version.split('/').next().unwrap_or_default())
        }
    }
}

/// A name in small letters alone, with a capital at the beginning of each word.
pub(super) fn capitals(name: &str) -> String {
    if name.contains(|it: char| it.is_ascii_uppercase()) {
        return name.to_owned();
    }
    let mut is_first = true;
    let capital = |it: char| {
        let found = if is_first { it.to_ascii_uppercase() } else { it };
        is_first = matches!(it, '-' | '_' | ' ');
        found
    };
    name.chars().map(capital).collect()
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
