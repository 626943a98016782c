//! The pages under `docs/reference/`, made from the code: every key, every command, every metric.
//!
//! `snowmelt config reference` prints the first. A test compares the pages that are checked in with what the code says
//! now; `cargo xtask generate` writes them again. What a key or a metric means stands where it is declared, nowhere here.

#[cfg(test)]
mod commands;
mod configuration;
#[cfg(test)]
mod metrics;

pub(crate) use configuration::{markdown, schema};

/// Text that stands in a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_pages_say_what_the_code_says() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
        let command = crate::commands::CommandLine::command();
        let pages = [
            ("configuration.md", configuration::markdown()),
            ("commands.md", commands::markdown(&command)),
            ("metrics.md", metrics::markdown()),
        ];
        for (name, now) in pages {
            let path = folder.join(name);
            if std::env::var_os("BLESS").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &now).unwrap();
            }
            let stored = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(stored == now, "docs/reference/{name} is stale: cargo xtask generate");
        }
    }
}
