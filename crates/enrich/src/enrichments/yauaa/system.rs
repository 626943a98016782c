//! The operating system.

use super::hints::Hints;
use super::text::{Agent, is_reduced, leading_version, major};

/// Class, name and version; the version is empty where it is not known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct System {
    pub(super) class: &'static str,
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) build: String,
}

impl System {
    pub(super) fn of(agent: &Agent<'_>, hints: &Hints) -> System {
        let told = |class, name, version: &str| System {
            class,
            name,
            version: version.to_owned(),
            build: String::new(),
        };
        console(agent, told)
            .or_else(|| television(agent, told))
            .or_else(|| apple(agent, hints, told))
            .or_else(|| android(agent, hints))
            .or_else(|| windows(agent, hints, told))
            .or_else(|| other(agent, hints, told))
            .unwrap_or_else(|| told("Unknown", "Unknown", ""))
    }

    pub(super) fn major(&self) -> &str {
        let mut points = self.version.match_indices('.');
        match (self.name, self.version.starts_with("10.")) {
            // Before 11, the second number was the one that told releases apart.
            ("Mac OS", true) => {
                points.next();
                &self.version[..points.next().map_or(self.version.len(), |(at, _)| at)]
            }
            _ => major(&self.version),
        }
    }
}

fn console(
    agent: &Agent<'_>,
    told: impl Fn(&'static str, &'static str, &str) -> System,
) -> Option<System> {
    const CONSOLE: &str = "Game Console";
    if agent.holds("playstation") || agent.holds("cellos") {
        if agent.holds("playstation vita") {
            let version = agent.remark_after("PlayStation Vita").unwrap_or_default();
            return Some(told(CONSOLE, "PlayStation Vita", leading_version(version)));
        }
        for (number, name) in [("4", "Orbis OS"), ("5", "PS5 OS")] {
            for start in ["PlayStation ", "PlayStation; PlayStation "] {
                if let Some(rest) = agent.remark_after(&format!("{start}{number}")) {
                    let version = leading_version(rest.trim_start_matches('/').trim());
                    return Some(told(CONSOLE, name, version));
                }
            }
        }
        return Some(told(CONSOLE, "CellOS", ""));
    }
    if agent.holds("nintendo") {
        if let Some(version) = agent.version("NX") {
            return Some(told(CONSOLE, "Nintendo NX", version));
        }
        let device = agent.remark_after("Nintendo").map(|rest| format!("Nintendo {rest}"));
        return Some(told(CONSOLE, "Nintendo", device.as_deref().unwrap_or_default()));
    }
    None
}

/// Televisions and boxes.
fn television(
    agent: &Agent<'_>,
    told: impl Fn(&'static str, &'static str, &str) -> System,
) -> Option<System> {
    if let Some(version) = agent.remark_after("Tizen") {
        let is_tv = agent.holds("tv");
        let class = if is_tv { "Embedded" } else { "Mobile" };
        return Some(told(class, "Tizen", leading_version(version)));
    }
    if agent.holds("web0s") || agent.holds("webos") {
        return Some(told("Embedded", "WebOS", ""));
    }
    let after = |word: &str| {
        let at = agent.lower.find(word)? + word.len();
        agent.text.get(at..).map(leading_version)
    };
    if !agent.has("OPR")
        && let Some(version) = after("nettv/")
    {
        return Some(told("Embedded", "NETTV", version));
    }
    if let Some(version) = after("; loh/") {
        return Some(told("Embedded", "LOH", version));
    }
    if let Some(version) = agent.version("KreaTV") {
        return Some(told("Embedded", "KreaTV", leading_version(version)));
    }
    None
}

fn apple(
    agent: &Agent<'_>,
    hints: &Hints,
    told: impl Fn(&'static str, &'static str, &str) -> System,
) -> Option<System> {
    let point = |text: &str| leading_version(text).replace('_', ".");
    if agent.holds("windows phone") {
        return None;
    }
    if agent.holds("cpu like mac os x") {
        return Some(told("Mobile", "iOS", ""));
    }
    for start in ["CPU iPhone OS", "CPU OS", "CPU iOS", "iPhone OS", "iOS", "iPadOS"] {
        if let Some(rest) = agent.remark_after(start) {
            return Some(told("Mobile", "iOS", &point(rest)));
        }
    }
    if agent.holds("watchos") {
        let version = agent.version("watchOS").unwrap_or_default();
        return Some(told("Mobile", "watchOS", leading_version(version)));
    }
    let is_mac = agent.remarks_on("Macintosh") || hints.platform == "macOS";
    let after = agent.remarks.iter().find_map(|remark| remark.split_once("Mac OS X"));
    if is_mac || after.is_some() {
        if hints.platform == "macOS" && !hints.platform_version.is_empty() {
            return Some(told("Desktop", "Mac OS", &hints.platform_version));
        }
        let chrome = agent.version("Chrome").unwrap_or_default();
        let version = after.map(|(_, rest)| point(rest.trim())).unwrap_or_default();
        if version.starts_with("10.15") && is_reduced(chrome) && hints.any && !agent.has("Whale") {
            return Some(told("Desktop", "Mac OS", ""));
        }
        if version.starts_with("10.15") && is_frozen(agent) {
            return Some(told("Desktop", "Mac OS", ">=10.15.7"));
        }
        return Some(told("Desktop", "Mac OS", &version));
    }
    if let Some(darwin) = agent.version("Darwin") {
        let kernel: u32 = major(darwin).parse().unwrap_or_default();
        let is_mac = agent.holds("x86_64") || agent.holds("imac") || agent.holds("macbook");
        return Some(match is_mac {
            true if (5..20).contains(&kernel) => {
                told("Desktop", "Mac OS", &format!("10.{}", kernel - 4))
            }
            true => told("Desktop", "Mac OS", ""),
            false if kernel >= 10 => told("Mobile", "iOS", &format!("{}.0", kernel - 6)),
            false => told("Mobile", "iOS", ""),
        });
    }
    if agent.holds("mac_powerpc") || agent.holds("mac_68k") {
        return Some(told("Desktop", "Mac OS", ""));
    }
    let names = ["iphone", "ipad", "ipod", "outlook-ios/", " ios "];
    let is_app = agent.has("WhatsApp") && agent.text.ends_with(" i");
    let is_ios = is_app || names.iter().any(|name| agent.holds(name));
    is_ios.then(|| told("Mobile", "iOS", ""))
}

fn android(agent: &Agent<'_>, hints: &Hints) -> Option<System> {
    // Samsung's browser asks for the desktop's pages so, on a tablet.
    let is_samsung = agent.has("SamsungBrowser") && !agent.holds("windows");
    let is_android = agent.holds("android") || hints.platform == "Android" || is_samsung;
    let is_desktop = agent.holds("x11; linux") && !is_samsung;
    if !is_android || agent.holds("windows phone") || is_desktop {
        return None;
    }
    let named = agent.remark_after("Android").map(leading_version).unwrap_or_default();
    let version = match (hints.platform_version.as_str(), named) {
        // The version that all browsers name when they hide it.
        ("", "10") if agent.remarks_on("K") => "",
        ("", named) => named,
        (told, _) => told,
    };
    let build = agent.remarks.iter().find_map(|remark| remark.split_once("Build/"));
    let build = build.map(|(_, build)| leading_version(build.trim())).unwrap_or_default();
    let is_tv = super::device::is_television(agent);
    Some(System {
        class: if is_tv { "Embedded" } else { "Mobile" },
        name: "Android",
        version: version.to_owned(),
        build: build.to_owned(),
    })
}

fn windows(
    agent: &Agent<'_>,
    hints: &Hints,
    told: impl Fn(&'static str, &'static str, &str) -> System,
) -> Option<System> {
    for start in ["Windows Phone OS", "Windows Phone"] {
        if let Some(version) = agent.remark_after(start) {
            return Some(told("Mobile", "Windows Phone", leading_version(version)));
        }
    }
    let class = if agent.holds("xbox") { "Game Console" } else { "Desktop" };
    let named = agent.remark_after("Windows NT").or_else(|| agent.remark_after("NT "));
    if let Some(named) = named {
        let chrome = agent.version("Chrome").unwrap_or_default();
        let edge = agent.version("Edg").unwrap_or("1.0.0.0");
        let is_hidden = is_reduced(chrome) && is_reduced(edge) && class == "Desktop";
        let version = match leading_version(named) {
            "5.0" => "2000",
            "5.1" => "XP",
            "5.2" => "XP x64 Edition",
            "6.0" => "Vista",
            "6.1" => "7",
            "6.2" => "8",
            "6.3" => "8.1",
            "6.4" => "10 Preview",
            "10.0" if hints.platform == "Windows" => {
                match (major(&hints.platform_version).parse::<u32>(), &hints.platform_version) {
                    (Ok(0), version) if version.starts_with("0.1") => "7",
                    (Ok(0), version) if version.starts_with("0.2") => "8",
                    (Ok(0), version) if version.starts_with("0.3") => "8.1",
                    (Ok(0..13), _) => "10",
                    (Ok(_), _) => "11",
                    (Err(_), _) if is_hidden => "",
                    (Err(_), _) => ">=10",
                }
            }
            "10.0" if is_hidden => "",
            "10.0" if is_frozen(agent) => ">=10",
            other => other,
        };
        return Some(told(class, "Windows NT", version));
    }
    for (word, version) in
        [("Windows 98", "98"), ("Win98", "98"), ("Windows 95", "95"), ("Windows ME", "ME")]
    {
        if agent.remarks.iter().any(|remark| remark.starts_with(word)) {
            return Some(told("Desktop", "Windows 9x", version));
        }
    }
    if agent.holds("windows ce") || agent.holds("windows mobile") {
        return Some(told("Mobile", "Windows Mobile", ""));
    }
    let is_windows = agent.holds("windows") || hints.platform == "Windows";
    is_windows.then(|| told(class, "Windows NT", ""))
}

fn other(
    agent: &Agent<'_>,
    hints: &Hints,
    told: impl Fn(&'static str, &'static str, &str) -> System,
) -> Option<System> {
    if agent.remark_after("CrOS").is_some() {
        let chrome = agent.version("Chrome").unwrap_or_default();
        let version = match hints.platform_version.as_str() {
            "" if is_reduced(chrome) => major(chrome),
            "" => chrome,
            told => told,
        };
        return Some(told("Desktop", "Chrome OS", version));
    }
    if agent.holds("fuchsia") {
        return Some(told("Mobile", "Fuchsia", ""));
    }
    if agent.holds("blackberry") || agent.holds("bb10") {
        return Some(told("Mobile", "BlackBerry", ""));
    }
    if agent.holds("kaios") {
        return Some(told("Mobile", "KaiOS", agent.version("KAIOS").unwrap_or_default()));
    }
    for (word, name) in [
        ("ubuntu", "Ubuntu"),
        ("fedora", "Fedora"),
        ("debian", "Debian"),
        ("mandriva", "Mandriva Linux"),
        ("freebsd", "FreeBSD"),
        ("openbsd", "OpenBSD"),
        ("netbsd", "NetBSD"),
        ("sunos", "SunOS"),
    ] {
        if agent.holds(word) {
            return Some(told("Desktop", name, ""));
        }
    }
    if agent.holds("linux") || hints.platform == "Linux" {
        let class = if super::device::is_television(agent) { "Embedded" } else { "Desktop" };
        let version = if hints.platform == "Linux" { &hints.platform_version } else { "" };
        return Some(told(class, "Linux", version));
    }
    None
}

/// Whether the browser is one of those that name one system for all that came later.
fn is_frozen(agent: &Agent<'_>) -> bool {
    let at_least = |name: &str, first: u32| {
        let version = agent.version(name).and_then(|version| major(version).parse().ok());
        version.is_some_and(|version: u32| version >= first)
    };
    let is_safari = agent.has("Safari") && !agent.has("Chrome") && at_least("Version", 15);
    !agent.has("Electron") && (at_least("Chrome", 95) || at_least("Firefox", 94) || is_safari)
}
