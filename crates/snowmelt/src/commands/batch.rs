//! `snowmelt batch run|list`: iterations of the batch layer.

use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::client::Server;
use crate::config::{self, Sources};
use crate::data_folder::DataFolder;
use crate::roles::{self, RebuildWith};
use crate::table::Table;

/// Run an iteration of the batch layer, or list those that were committed
///
/// An iteration archives what the raw stream holds, enriches it again from the archive, and publishes batch view and
/// cut in one commit.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  snowmelt batch run
  snowmelt batch list")]
pub(crate) struct Batch {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run one iteration now; returns when it is published
    ///
    /// Goes through the running server; without one, the iteration is run here, on the data folder.
    ///
    /// With --rebuild, the whole batch view is derived again from the master dataset afterwards, with the schemas and
    /// settings as they are now. Iterations go on meanwhile; the new generation comes in with one commit, and the one
    /// before it can still be asked: snowmelt sql --generation N. Without a server, the recipe in force is used unless a
    /// configuration is named with --config, --set or SNOWMELT_ENRICH__….
    #[command(
        verbatim_doc_comment,
        after_help = "\
Examples:
  snowmelt batch run
  snowmelt batch run --rebuild --data-dir /var/lib/snowmelt"
    )]
    Run {
        /// Then make a new generation of the whole batch view
        #[arg(long)]
        rebuild: bool,
        #[command(flatten)]
        server: Server,
        /// A TOML configuration, used when no server is running
        #[arg(long, value_name = "FILE")]
        config: Option<std::path::PathBuf>,
        /// One key, used when no server is running, for example `--set enrich.schemas=./schemas`
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// List the committed iterations, newest last; works beside a running server
    #[command(after_help = "\
Examples:
  snowmelt batch list
  snowmelt batch list --json --data-dir /var/lib/snowmelt")]
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
            Action::Run { server, config, set, rebuild } => {
                let is_running = server.is_running()?;
                let answer = if is_running {
                    let _shown = rebuild.then(|| ShownProgress::start(&server));
                    server.post("/api/v1/batch", &json!({"rebuild": rebuild, "heal": false}))?
                } else {
                    run_here(&server, config, set, rebuild)?
                };
                if answer["published"] == true {
                    println!("published iteration {}", answer["iteration"]);
                } else {
                    println!("nothing new: iteration {} stands", answer["iteration"]);
                }
                if is_running {
                    if rebuild {
                        show_what_changed(&server)?;
                    }
                    let status = server.get("/api/v1/status")?;
                    if let Some(error) = status["batch"]["recipe_error"].as_str() {
                        bail!(
                            "the recipe in force stays, and what you changed is not in it: {error}"
                        );
                    }
                }
            }
            Action::List { data_dir, json } => list(&data_dir, json)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints what a rebuild made of the same records as the generation before it.
fn show_what_changed(server: &Server) -> Result<()> {
    let newest = "SELECT generation, max(events), max(bad_rows) FROM lambda.iterations \
                  GROUP BY generation ORDER BY generation DESC LIMIT 2";
    let answer = server.post("/api/v1/sql", &json!({"sql": newest}))?;
    for row in answer["rows"].as_array().into_iter().flatten() {
        println!("generation {}: {} events, {} bad rows", row[0], row[1], row[2]);
    }
    Ok(())
}

/// Prints how far a rebuild has come, every few seconds until it is dropped.
struct ShownProgress {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl ShownProgress {
    fn start(server: &Server) -> ShownProgress {
        let (stop, stopped) = std::sync::mpsc::channel();
        let server = server.clone();
        let show = move || {
            while stopped.recv_timeout(Duration::from_secs(5)) == Err(RecvTimeoutError::Timeout) {
                let Ok(status) = server.get("/api/v1/status") else { continue };
                let done = &status["batch"]["rebuilding"];
                if done.is_object() {
                    eprintln!(
                        "rebuilding: {} of {} files, {} of {} records",
                        done["files_done"], done["files"], done["records_done"], done["records"]
                    );
                }
            }
        };
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(show);
        // Without a thread only the progress is not shown.
        ShownProgress { stop, thread: thread.ok() }
    }
}

impl Drop for ShownProgress {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run_here(
    server: &Server,
    file: Option<std::path::PathBuf>,
    set: Vec<String>,
    rebuild: bool,
) -> Result<Value> {
    // The server may run with schemas that nobody has named here.
    let is_named = file.is_some()
        || !set.is_empty()
        || std::env::vars_os()
            .any(|(name, _)| name.to_string_lossy().starts_with("SNOWMELT_ENRICH__"));
    let rebuild = match (rebuild, is_named) {
        (false, _) => None,
        (true, false) => Some(RebuildWith::RecipeInForce),
        (true, true) => Some(RebuildWith::Configuration),
    };
    let data_dir = Some(server.data_dir().to_owned());
    let sources = Sources { config: file, set, data_dir };
    let config = config::load(&sources, std::env::vars())?;
    if !config.data_dir.join("streams").is_dir() {
        bail!(
            "no server runs on data folder `{}`, and it holds no streams: name the right one with `--data-dir`",
            config.data_dir.display()
        );
    }
    let folder = DataFolder::lock(&config.data_dir)?;
    let iterated = roles::iterate_once(&config, &folder, rebuild)?;
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
