//! The device: class, name, brand, and what it calculates with.

use super::hints::Hints;
use super::system::System;
use super::text::{Agent, Product, is_version};

/// Texts are empty where they are not known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) class: &'static str,
    pub(super) name: String,
    pub(super) brand: String,
    pub(super) version: String,
    pub(super) firmware: String,
    pub(super) cpu: &'static str,
    pub(super) bits: &'static str,
}

/// How the models of a maker begin, in small letters, and the maker.
const MAKERS: &[(&str, &str)] = &[
    ("sm-", "Samsung"),
    ("gt-", "Samsung"),
    ("sgh-", "Samsung"),
    ("sch-", "Samsung"),
    ("sph-", "Samsung"),
    ("shv-", "Samsung"),
    ("galaxy", "Samsung"),
    ("scv", "Samsung"),
    ("pixel", "Google"),
    ("nexus", "Google"),
    ("chromecast", "Google"),
    ("lg-", "LG"),
    ("lge", "LG"),
    ("lm-", "LG"),
    ("g watch", "LG"),
    ("huawei", "Huawei"),
    ("honor", "Honor"),
    ("moto", "Motorola"),
    ("xt1", "Motorola"),
    ("xoom", "Motorola"),
    ("droid", "Motorola"),
    ("oneplus", "Oneplus"),
    ("redmi", "Xiaomi"),
    ("mi ", "Xiaomi"),
    ("m200", "Xiaomi"),
    ("m210", "Xiaomi"),
    ("poco", "Xiaomi"),
    ("cph", "Oppo"),
    ("rmx", "Realme"),
    ("xperia", "Sony"),
    ("sonyericsson", "SonyEricsson"),
    ("smartwatch", "Sony"),
    ("bravia", "Sony"),
    ("kf", "Amazon"),
    ("aft", "Amazon"),
    ("zenwatch", "Asus"),
    ("transformer", "Asus"),
    ("fp", "Fairphone"),
    ("lumia", "Microsoft"),
    ("sdk_gphone", "Google"),
    ("vog-", "Huawei"),
    ("ele-", "Huawei"),
    ("ane-", "Huawei"),
    ("mar-", "Huawei"),
];

/// Makers whose name stands before the model.
const NAMED: &[&str] = &[
    "Acer",
    "Alcatel",
    "Asus",
    "BlackBerry",
    "Dell",
    "Fairphone",
    "Google",
    "HTC",
    "Honor",
    "Huawei",
    "Infinix",
    "Lenovo",
    "LG",
    "Meizu",
    "Motorola",
    "Nokia",
    "Oneplus",
    "Oppo",
    "Philips",
    "Realme",
    "Samsung",
    "Sony",
    "TECNO",
    "Vivo",
    "Wiko",
    "Xiaomi",
    "ZTE",
];

impl Device {
    pub(super) fn of(agent: &Agent<'_>, hints: &Hints, system: &System) -> Device {
        let (cpu, bits) = processor(agent, hints, system);
        let mut device = console(agent)
            .or_else(|| apple(agent, system))
            .or_else(|| television(agent, system))
            .or_else(|| android(agent, hints, system))
            .unwrap_or_else(|| desktop(agent, system));
        device.cpu = cpu;
        device.bits = bits;
        device
    }

    fn new(class: &'static str, name: impl Into<String>, brand: &str) -> Device {
        Device { class, name: name.into(), brand: brand.to_owned(), ..Device::default() }
    }
}

/// Whether this is a television, or a box for one.
pub(super) fn is_television(agent: &Agent<'_>) -> bool {
    const WORDS: [&str; 17] = [
        "hbbtv",
        "kreatv",
        "viera",
        "smartcast",
        "smart-tv",
        "smarttv",
        "smart tv",
        "nettv",
        "_tv_",
        "googletv",
        "google tv",
        "bravia",
        "appletv",
        "apple tv",
        "tv box",
        "android tv",
        "dtv",
    ];
    WORDS.iter().any(|word| agent.holds(word))
        || agent.products.iter().any(|product| product.name == "TV")
}

fn console(agent: &Agent<'_>) -> Option<Device> {
    const CONSOLE: &str = "Game Console";
    const HANDHELD: &str = "Handheld Game Console";
    for (word, class, name) in [
        ("playstation vita", HANDHELD, "Sony PlayStation Vita"),
        ("playstation portable", HANDHELD, "Sony PlayStation Portable"),
        ("playstation 5", CONSOLE, "Sony PlayStation 5"),
        ("playstation 4", CONSOLE, "Sony PlayStation 4"),
        ("playstation 3", CONSOLE, "Sony PlayStation 3"),
        ("ps3", CONSOLE, "Sony PlayStation 3"),
        ("ps2", CONSOLE, "Sony PlayStation 2"),
        ("new nintendo 3ds", HANDHELD, "Nintendo NEW 3DS"),
        ("nintendo 3ds", HANDHELD, "Nintendo 3DS"),
        ("nintendo dsi", HANDHELD, "Nintendo DSi"),
        ("nintendo switch", CONSOLE, "Nintendo Switch"),
        ("nintendo wiiu", CONSOLE, "Nintendo Wiiu"),
        ("nintendo wii", CONSOLE, "Nintendo WII"),
        ("xbox", CONSOLE, "Microsoft Xbox"),
    ] {
        if agent.holds(word) {
            let brand = name.split(' ').next().unwrap_or_default();
            let mut device = Device::new(class, name, brand);
            if word == "xbox" && agent.remarks_on("Xbox One") {
                device.version = "Xbox One".to_owned();
            }
            return Some(device);
        }
    }
    None
}

fn apple(agent: &Agent<'_>, system: &System) -> Option<Device> {
    if !matches!(system.name, "iOS" | "Mac OS" | "watchOS") {
        return None;
    }
    let firmware = agent.version("Mobile").unwrap_or_default().to_owned();
    let (class, name) = if agent.holds("apple tv") || agent.holds("appletv") {
        ("Set-top box", "Apple TV")
    } else if agent.holds("ipad") {
        ("Tablet", "Apple iPad")
    } else if agent.holds("ipod") {
        ("Phone", "Apple iPod")
    } else if system.name == "watchOS" || agent.holds("watch") {
        ("Watch", "Apple Watch")
    } else if system.name == "Mac OS" {
        ("Desktop", "Apple Macintosh")
    } else if agent.holds("iphone") {
        ("Phone", "Apple iPhone")
    } else {
        ("Mobile", "Apple iOS Device")
    };
    let mut device = Device::new(class, name, "Apple");
    if system.name == "iOS" && agent.text.starts_with("Mozilla/") {
        device.version = name.trim_start_matches("Apple ").to_owned();
        device.firmware = firmware;
    }
    Some(device)
}

fn television(agent: &Agent<'_>, system: &System) -> Option<Device> {
    if agent.has("WPE") {
        return Some(Device::new("Set-top box", "Unknown", ""));
    }
    if !is_television(agent) || matches!(system.name, "Android" | "Fuchsia") {
        return None;
    }
    let class = if system.name == "KreaTV" { "Set-top box" } else { "TV" };
    // `(Philips, 40PUK6809, wired)`, or the same with semicolons.
    let listed = agent.remarks.iter().find_map(|remark| {
        let mut parts = remark.split(',').map(str::trim);
        let (maker, model) = (parts.next()?, parts.next().filter(|model| *model != "like Gecko")?);
        let is_word = !maker.is_empty() && maker.chars().all(|it| it.is_ascii_alphabetic());
        (is_word && !model.is_empty()).then_some((maker, model))
    });
    if let Some((maker, model)) = listed {
        let brand = capital(maker);
        return Some(Device::new(class, format!("{brand} {model}"), &brand));
    }
    let maker = NAMED.iter().find(|maker| agent.holds(&maker.to_ascii_lowercase()));
    let maker = maker.copied().or(match system.name {
        "Tizen" => Some("Samsung"),
        "WebOS" => Some("LG"),
        "LOH" => Some("Loewe"),
        _ if agent.holds("netcast") => Some("LG"),
        _ if agent.holds("viera") => Some("Panasonic"),
        _ if agent.holds("vizio") => Some("Vizio"),
        _ if agent.holds("smart-tv") => Some("Samsung"),
        _ => None,
    });
    Some(match maker {
        Some(maker) => Device::new("TV", format!("{maker} Smart TV"), maker),
        None => Device::new("TV", "Smart TV", ""),
    })
}

fn android(agent: &Agent<'_>, hints: &Hints, system: &System) -> Option<Device> {
    let is_mobile_system = matches!(
        system.name,
        "Android"
            | "Windows Phone"
            | "Windows Mobile"
            | "BlackBerry"
            | "KaiOS"
            | "Tizen"
            | "Fuchsia"
    );
    if !is_mobile_system {
        return None;
    }
    let model = match hints.model.as_str() {
        "" => model(agent).unwrap_or_default(),
        told => told,
    };
    // Samsung's browser writes its own maker before any model.
    let model = model.strip_prefix("SAMSUNG ").unwrap_or(model);
    let lower = model.to_ascii_lowercase();
    let is_browser = agent.text.starts_with("Mozilla/") || agent.text.starts_with("Opera/");
    let class = if lower.contains("watch") || agent.holds("smartwatch(") {
        "Watch"
    } else if lower.contains("tv box") || lower.contains("tvbox") {
        "Set-top box"
    } else if is_television(agent) && system.name != "Fuchsia" {
        "TV"
    } else if !is_browser || agent.holds("opera mini") || agent.holds("opera mobi") {
        "Mobile"
    } else if system.name == "Windows Phone"
        || agent.has("Mobile")
        || agent.remarks_on("Mobile")
        || hints.mobile == "?1"
    {
        "Phone"
    } else if system.name == "Fuchsia" {
        "Mobile"
    } else {
        "Tablet"
    };
    if model.is_empty() && system.name == "Fuchsia" {
        return Some(Device::new(class, "Fuchsia Device", ""));
    }
    if model.is_empty() {
        let is_samsung = agent.has("SamsungBrowser");
        return Some(match (class, is_samsung) {
            ("Phone", true) => Device::new(class, "Samsung Phone", "Samsung"),
            ("Tablet", true) => Device::new(class, "Samsung Tablet", "Samsung"),
            ("Tablet", false) => Device::new(class, "Android Mobile", ""),
            _ if system.version.is_empty() && class == "Mobile" => Device::new(class, "", ""),
            _ => Device::new(class, "Android Mobile", ""),
        });
    }
    let brand = match maker(&lower) {
        "" if system.name == "Windows Phone" => "Microsoft",
        maker => maker,
    };
    let name = match brand {
        "" => model.replace('_', " "),
        brand => {
            let lower = model.to_ascii_lowercase();
            let has_name = lower.starts_with(&brand.to_ascii_lowercase());
            let rest = if has_name { &model[brand.len()..] } else { model };
            format!("{brand} {}", rest.trim_start_matches(['-', '_', ' ']).replace('_', " "))
        }
    };
    Some(Device::new(class, name, brand))
}

/// The model among the remarks: what stands before `Build/`, or the first that is nothing else.
fn model<'a>(agent: &Agent<'a>) -> Option<&'a str> {
    let built = agent.remarks.iter().find_map(|remark| remark.split_once("Build"));
    if let Some((model, _)) = built {
        let model = model.trim();
        return (!model.is_empty() && model != "K").then_some(model);
    }
    let start = agent.remarks.iter().position(|remark| remark.starts_with("Android"))?;
    let is_other = |remark: &&&str| {
        let remark: &str = remark;
        let is_language = matches!(remark.len(), 2 | 5)
            && remark.chars().all(|it| it.is_ascii_alphabetic() || it == '-' || it == '_');
        let known = ["K", "U", "Mobile", "Tablet", "wv", "Linux"];
        !(is_language
            || known.contains(&remark)
            || remark.starts_with("rv:")
            || remark.starts_with("KHTML")
            || is_version(remark))
    };
    // Windows Phone tells the maker first.
    let is_other = |remark: &&&str| is_other(remark) && **remark != "Microsoft";
    agent.remarks[start + 1..].iter().find(is_other).copied()
}

/// The maker of a model in small letters; empty if nobody knows.
fn maker(model: &str) -> &'static str {
    if let Some(maker) = NAMED.iter().find(|maker| model.starts_with(&maker.to_ascii_lowercase())) {
        return maker;
    }
    MAKERS.iter().find(|(start, _)| model.starts_with(start)).map_or("", |(_, maker)| maker)
}

fn desktop(agent: &Agent<'_>, system: &System) -> Device {
    let name = match (system.class, system.name) {
        ("Unknown", _)
            if agent.holds("opera mini") || agent.has("OPT") || agent.has("WhatsApp") =>
        {
            return Device::new("Mobile", "", "");
        }
        ("Unknown", _) => return Device::new("Unknown", "", ""),
        _ if agent.holds("tablet pc") || agent.holds("opera tablet") => {
            return Device::new("Tablet", "Tablet", "");
        }
        (_, "Windows NT" | "Windows 9x") => "Desktop",
        (_, "Chrome OS") => "Chromebook",
        ("Embedded", _) => "Embedded",
        _ => "Linux Desktop",
    };
    Device::new("Desktop", name, "")
}

fn processor(agent: &Agent<'_>, hints: &Hints, system: &System) -> (&'static str, &'static str) {
    for (word, cpu, bits) in [
        ("x86_64", "Intel x86_64", "64"),
        ("x64", "Intel x86_64", "64"),
        ("wow64", "Intel x86_64", "64"),
        ("amd64", "Intel x86_64", "64"),
        ("i686", "Intel i686", "32"),
        ("armv7l", "ARMv7l", "32"),
        ("armv6l", "ARMv6l", "32"),
        ("aarch64", "AArch64", "64"),
        ("sh4", "SH4", "32"),
        ("mips", "Mips", "32"),
        ("ppc", "PowerPC", ""),
    ] {
        if agent.holds(word) {
            return (cpu, bits);
        }
    }
    let bits = match hints.bitness.as_str() {
        "64" => "64",
        "32" => "32",
        _ => "",
    };
    match system.name {
        "Mac OS" if agent.holds("intel mac os x") => {
            ("Intel", if agent.holds("mac os x 10_5") { "32" } else { "64" })
        }
        "Windows NT" if bits.is_empty() => ("", "32"),
        _ => ("", bits),
    }
}

/// `PHILIPS` as `Philips`.
pub(super) fn capital(word: &str) -> String {
    let mut characters = word.chars();
    match characters.next() {
        Some(first) => {
            first.to_uppercase().chain(characters.flat_map(char::to_lowercase)).collect()
        }
        None => String::new(),
    }
}

/// Whether a product stands among the others.
pub(super) fn has_any(products: &[Product<'_>], names: &[&str]) -> bool {
    products.iter().any(|product| names.contains(&product.name))
}
