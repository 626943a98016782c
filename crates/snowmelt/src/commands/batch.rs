//! `snowmelt batch run|list`: iterations of the batch layer.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::client::Server;
use crate::config::{self, Sources};
use crate::data_folder::DataFolder;
use crate::roles;
use crate::table::Table;

/// Run an iteration of the batch layer, or list those that were committed
///
/// An iteration archives what the raw stream holds, enriches it again from the archive, and publishes batch view and
/// cut in one commit.
#[derive(Debug, clap::Args)]
pub(crate) struct Batch {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run one iteration now; returns when it is published
    ///
    /// Goes through the running server; without one, the iteration is run here, on the data folder.
    #[command(verbatim_doc_comment)]
    Run {
        #[command(flatten)]
        server: Server,
        /// A TOML configuration, used when no server is running
        #[arg(long, value_name = "FILE")]
        config: Option<std::path::PathBuf>,
    },
    /// List the committed iterations, newest last; works beside a running server
    List {
        /// The data folder
        #[arg(long, value_name = "DIR", default_value = "./snowmelt-data")]
        data_dir: std::path::PathBuf,
        /// One JSON object per iteration
        #[arg(long)]
        json: bool,
    },
}

impl Batch {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.action {
            Action::Run { server, config } => {
                let answer = if server.is_running()? {
                    server.post("/api/v1/batch", &json!({"rebuild": false, "heal": false}))?
                } else {
                    run_here(&server, config)?
                };
                if answer["published"] == true {
                    println!("published iteration {}", answer["iteration"]);
                } else {
                    println!("nothing new: iteration {} stands", answer["iteration"]);
                }
            }
            Action::List { data_dir, json } => list(&data_dir, json)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn run_here(server: &Server, file: Option<std::path::PathBuf>) -> Result<Value> {
    let sources = Sources {
        config: file,
        data_dir: Some(server.data_dir().to_owned()),
        ..Sources::default()
    };
    let config = config::load(&sources, std::env::vars())?;
    if !config.data_dir.join("streams").is_dir() {
        bail!(
            "no server runs on data folder `{}`, and it holds no streams: name the right one with `--data-dir`",
            config.data_dir.display()
        );
    }
    let folder = DataFolder::lock(&config.data_dir)?;
    let iterated = roles::iterate_once(&config, &folder)?;
    Ok(json!({"iteration": iterated.iteration, "published": iterated.published}))
}

fn list(data_dir: &std::path::Path, as_json: bool) -> Result<()> {
    let files = std::sync::Arc::new(stream::disk::Disk);
    let read = || format!("read the catalogue of `{}`", data_dir.display());
    let Some(catalog) = views::catalog::Catalog::open_read(files, data_dir).with_context(read)?
    else {
        bail!("`{}` has no iterations: name a data folder with `--data-dir`", data_dir.display());
    };
    let manifests = catalog.history().with_context(read)?;
    let columns =
        ["iteration", "committed_at", "generation", "events", "bad_rows", "cut", "recipe"];
    let row = |manifest: &views::catalog::Manifest| -> Result<Vec<Value>> {
        let rows = |table| manifest.files_of(table).map(|file| file.rows).sum::<u64>();
        let cut = serde_json::to_value(&manifest.cut).context("print a cut")?;
        Ok(vec![
            manifest.iteration.into(),
            manifest.committed_at.as_str().into(),
            manifest.generation.into(),
            rows(views::catalog::Table::Events).into(),
            rows(views::catalog::Table::BadRows).into(),
            cut.to_string().into(),
            manifest.recipe.get(..12).unwrap_or(&manifest.recipe).into(),
        ])
    };
    let table = Table {
        columns: columns.map(str::to_owned).to_vec(),
        rows: manifests.iter().map(row).collect::<Result<_>>()?,
    };
    let mut out = std::io::stdout().lock();
    if as_json {
        table.print_json(&mut out)?
    } else {
        table.print_text(&mut out)?
    }
    Ok(())
}
