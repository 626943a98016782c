//! `snowmelt schema list`: the versions of a schema, and who has each.
//!
//! Enrich never needs a list, since events name whole versions; a person does who writes the next one. Registries are
//! asked for their own lists, and what they say is not kept.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use ::enrich::iglu::Schemas;
use anyhow::{Context, Result, bail};
use assets::Registry;
use assets::resolver_config::ResolverConfig;
use model::iglu::SchemaKey;

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// vendor/name/format/model, as com.acme/cart/jsonschema/1; the beginning `iglu:` may stand or not
    #[arg(value_name = "SCHEMA")]
    schema: String,
    /// A folder of Iglu schemas laid out as vendor/name/format/version, or a JSON file with an array of schemas; may be
    /// given more than once
    #[arg(long, value_name = "DIR")]
    schemas: Vec<PathBuf>,
    /// A Snowplow resolver JSON, or `iglu-central`: ask these registries, too
    #[arg(long, value_name = "FILE")]
    resolver: Option<String>,
}

impl List {
    pub(super) fn run(self) -> Result<ExitCode> {
        let path = self.schema.strip_prefix("iglu:").unwrap_or(&self.schema);
        let first = SchemaKey::parse(&format!("iglu:{path}-0-0")).with_context(|| {
            format!(
                "`{}` is no vendor/name/format/model, as com.acme/cart/jsonschema/1",
                self.schema
            )
        })?;
        let mut found = Found::of(&first);
        let files = Arc::new(stream::disk::Disk);
        let config = self.resolver.as_deref().map(|named| ResolverConfig::read(&*files, named));
        let config = config.transpose().context("read `--resolver`")?;
        let mut folders = self.schemas;
        folders.extend(config.iter().flat_map(|config| config.folders.clone()));
        let local = assets::Folders::new(files, folders).schemas().context("read the schemas")?;
        found.add("schema folders", local.into_iter().map(|(key, _)| key));
        let mut silent = Vec::new();
        if let Some(config) = &config {
            let http = config.http();
            for repository in config.resolver.order(&first) {
                match http.list(repository, &first) {
                    Ok(keys) => found.add(&repository.name, keys),
                    Err(no_reply) => silent.push(format!("`{}`: {}", repository.name, no_reply.0)),
                }
            }
        }
        found.add("embedded in Snowmelt", Schemas::embedded_keys().cloned());
        found.print(&mut std::io::stdout().lock())?;
        if !silent.is_empty() {
            bail!("a registry gives no list, so there may be more versions: {}", silent.join("; "));
        }
        if found.by_key.is_empty() {
            eprintln!("nobody has a version of {path}");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The versions of one model, each with who has it, in the order of asking.
struct Found {
    first: SchemaKey,
    by_key: BTreeMap<model::iglu::Version, (SchemaKey, Vec<String>)>,
}

impl Found {
    fn of(first: &SchemaKey) -> Found {
        Found { first: first.clone(), by_key: BTreeMap::new() }
    }

    fn add(&mut self, who: &str, keys: impl IntoIterator<Item = SchemaKey>) {
        for key in keys {
            let is_of_it = key.with_version(self.first.version()) == self.first;
            if is_of_it && key.model() == self.first.model() {
                let known = self.by_key.entry(key.version()).or_insert_with(|| (key, Vec::new()));
                known.1.push(who.to_owned());
            }
        }
    }

    fn print(&self, out: &mut dyn Write) -> Result<()> {
        for (key, who) in self.by_key.values() {
            writeln!(out, "{}  {}", key.as_str(), who.join(", "))?;
        }
        Ok(())
    }
}
