//! Configurations of Snowplow's collector, as `snowmelt config import` reads them.
//!
//! A text that is no HOCON is refused with a line that it has. What is read becomes keys of ours, each on a line of its
//! own, and reading it again gives the same.

/// One file.
pub(crate) fn import(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // An environment in which some variables are set.
    let variable = |name: &str| name.len().is_multiple_of(2).then(|| name.to_uppercase());
    let read = || collector::import::import(&text, &variable);
    let lines = text.matches('\n').count() + 1;
    match read() {
        Err(error) => assert!(error.line <= lines, "line {} of {lines}", error.line),
        Ok(imported) => {
            let toml = imported.toml();
            for line in toml.lines().filter(|line| !line.starts_with('#')) {
                let (key, value) = line.split_once(" = ").expect("a key and a value");
                assert!(key.starts_with("collector.") && !value.is_empty(), "{line}");
            }
            assert_eq!(read().as_ref(), Ok(&imported), "a second time");
        }
    }
}
