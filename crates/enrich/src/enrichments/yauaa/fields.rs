//! From what was found to the fields of the entity, in the order in which they stand there.

use super::browser::{self, Program};
use super::device::Device;
use super::hints::Hints;
use super::robot::Robot;
use super::system::System;
use super::text::{Agent, is_version, major};

/// Names and values.
pub(super) type Fields = Vec<(&'static str, String)>;

/// All that is known of a visitor. The user agent is not empty.
pub(super) fn analyse(text: &str, hints: &Hints) -> Fields {
    let agent = Agent::parse(text);
    let (device, system, engine, program) = match Robot::of(&agent) {
        Some(robot) => robots(&robot),
        None => {
            let system = System::of(&agent, hints);
            let device = Device::of(&agent, hints, &system);
            let engine = browser::engine(&agent);
            let program = browser::program(&agent, hints, &system, &device);
            (device, system, engine, program)
        }
    };
    let mut fields = Fields::with_capacity(40);
    let mut put = |name, value: &str| fields.push((name, value.to_owned()));
    let or =
        |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    put("deviceClass", device.class);
    put("deviceName", &or(&device.name, "Unknown"));
    put("deviceBrand", &or(&device.brand, "Unknown"));
    for (name, value) in [
        ("deviceCpu", device.cpu),
        ("deviceCpuBits", device.bits),
        ("deviceFirmwareVersion", &device.firmware),
        ("deviceVersion", &device.version),
    ] {
        if !value.is_empty() {
            put(name, value);
        }
    }
    versioned(&mut put, &SYSTEM, system.class, system.name, &system.version, system.major());
    put("operatingSystemVersionBuild", &or(&system.build, "??"));
    let of_engine = major(&engine.version);
    versioned(&mut put, &ENGINE, engine.class, &engine.name, &engine.version, of_engine);
    if !engine.build.is_empty() {
        put("layoutEngineBuild", &engine.build);
    }
    let of_program = major(&program.version);
    versioned(&mut put, &AGENT, program.class, &program.name, &program.version, of_program);
    if let Some(code) = language(&agent) {
        put("agentLanguageCode", &code);
    }
    let robot = Robot::of(&agent);
    put("agentInformationEmail", &or(robot.as_ref().map_or("", |it| it.email), "Unknown"));
    if let Some(robot) = robot.filter(|it| !it.url.is_empty()) {
        put("agentInformationUrl", robot.url);
    }
    let security = [("U", "Strong security"), ("I", "Weak security"), ("N", "No security")];
    if let Some((_, strength)) = security.iter().find(|(word, _)| agent.remarks.contains(word)) {
        put("agentSecurity", strength);
    }
    for name in ["webviewAppName", "networkType"] {
        put(name, "Unknown");
    }
    for name in ["webviewAppVersion", "webviewAppVersionMajor"] {
        put(name, "??");
    }
    for name in ["webviewAppNameVersion", "webviewAppNameVersionMajor"] {
        put(name, "Unknown ??");
    }
    fields
}

/// The names of one group of fields: class, name, version, its first number, and both with the name before them.
type Group = [&'static str; 6];

const SYSTEM: Group = [
    "operatingSystemClass",
    "operatingSystemName",
    "operatingSystemVersion",
    "operatingSystemVersionMajor",
    "operatingSystemNameVersion",
    "operatingSystemNameVersionMajor",
];

const ENGINE: Group = [
    "layoutEngineClass",
    "layoutEngineName",
    "layoutEngineVersion",
    "layoutEngineVersionMajor",
    "layoutEngineNameVersion",
    "layoutEngineNameVersionMajor",
];

const AGENT: Group = [
    "agentClass",
    "agentName",
    "agentVersion",
    "agentVersionMajor",
    "agentNameVersion",
    "agentNameVersionMajor",
];

fn versioned(
    put: &mut impl FnMut(&'static str, &str),
    names: &Group,
    class: &str,
    name: &str,
    version: &str,
    major: &str,
) {
    let known = |text: &str| if text.is_empty() { "??".to_owned() } else { text.to_owned() };
    let (version, major) = (known(version), known(major));
    put(names[0], class);
    put(names[1], name);
    put(names[2], &version);
    put(names[3], &major);
    put(names[4], &format!("{name} {version}"));
    put(names[5], &format!("{name} {major}"));
}

fn robots(robot: &Robot<'_>) -> (Device, System, Program, Program) {
    let class = if robot.is_mobile { "Robot Mobile" } else { "Robot" };
    let is_name =
        |brand: &str| robot.name.to_ascii_lowercase().starts_with(&brand.to_ascii_lowercase());
    let name = match is_name(&robot.brand) {
        true => robot.name.to_owned(),
        false => format!("{} {}", robot.brand, robot.name),
    };
    let device = Device { class, name, brand: robot.brand.clone(), ..Device::default() };
    let system = System {
        class: "Cloud",
        name: if robot.is_google { "Google Cloud" } else { "Cloud" },
        ..System::default()
    };
    let is_googlebot = robot.name.starts_with("Googlebot");
    let engine = Program {
        class: "Robot",
        name: match (is_googlebot, robot.is_google) {
            (true, _) => "Googlebot".to_owned(),
            (false, true) => robot.known_name(),
            (false, false) => robot.name.to_owned(),
        },
        version: if is_googlebot { String::new() } else { robot.version.to_owned() },
        ..Program::default()
    };
    let plays_phone = robot.is_iphone && !robot.name.starts_with("AdsBot");
    let is_mobile = robot.name == "Googlebot-Mobile" || plays_phone;
    let program = Program {
        class: if is_mobile { "Robot Mobile" } else { "Robot" },
        name: robot.known_name(),
        // `PTST/SpeedCurve/190429`.
        version: robot.version.rsplit('/').next().unwrap_or_default().to_owned(),
        ..Program::default()
    };
    (device, system, engine, program)
}

/// `nl-nl` of a remark that is nothing else.
fn language(agent: &Agent<'_>) -> Option<String> {
    let is_language = |remark: &&&str| {
        let bytes = remark.as_bytes();
        let letters = |range: &[u8]| range.iter().all(u8::is_ascii_alphabetic);
        match bytes.len() {
            5 => letters(&bytes[..2]) && matches!(bytes[2], b'-' | b'_') && letters(&bytes[3..]),
            2 => letters(bytes) && bytes.iter().all(u8::is_ascii_lowercase) && *remark != &"wv",
            _ => false,
        }
    };
    let found = agent.remarks.iter().find(is_language)?;
    (!is_version(found)).then(|| found.to_ascii_lowercase().replace('_', "-"))
}
