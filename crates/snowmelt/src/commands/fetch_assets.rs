//! `snowmelt fetch-assets`: files for enrichments that others publish as packages, fetched when somebody asks for them.
//!
//! What there is, and how it is checked, is in [`assets::packages`]. The configuration that uses the files goes to
//! stdout; what is owed to their authors to stderr, and to `NOTICE` beside them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use assets::enrichments::FETCHED_FOLDER;
use assets::packages::{PACKAGES, Package};

use crate::table::Table;

/// Fetch files for enrichments: places and networks of addresses, rules for user agents
///
/// Without a name it lists what there is. A package is fetched by npm, so that npm's own settings hold (a mirror, a
/// proxy), and checked against the digest that this version of snowmelt was made with. Nothing is fetched unless you
/// ask. The countries (`geo`, source cc0-country) are used at once by a server without `enrich.enrichments`; for
/// everything else put the configuration that is printed into your folder of enrichments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  snowmelt fetch-assets
  snowmelt fetch-assets geo
  snowmelt fetch-assets geo --source dbip-city > enrichments/ip_lookups.json
  snowmelt fetch-assets ua --out /srv/assets")]
pub(crate) struct FetchAssets {
    /// What is wanted: geo, asn, ua or iab
    #[arg(value_name = "WHAT")]
    gives: Option<String>,
    /// Which of them, where there are several; the first of the list if not given
    #[arg(long)]
    source: Option<String>,
    /// The folder to lay it in, each source in a folder of its own; assets/fetched in the data folder if not given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The data folder
    #[arg(long, value_name = "DIR", default_value = "./snowmelt-data")]
    data_dir: PathBuf,
    /// Another version of the package, checked against what the registry says of it
    #[arg(long, value_name = "VERSION")]
    package_version: Option<String>,
    /// The program that fetches packages
    #[arg(long, value_name = "PROGRAM", default_value = "npm")]
    npm: OsString,
}

impl FetchAssets {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Some(gives) = &self.gives else {
            list()?;
            return Ok(ExitCode::SUCCESS);
        };
        let Some(package) = Package::find(gives, self.source.as_deref()) else {
            let source = self.source.as_deref().map(|it| format!(" from `{it}`"));
            bail!(
                "nothing gives `{gives}`{}: `snowmelt fetch-assets` lists what there is",
                source.unwrap_or_default()
            );
        };
        let ours = self.data_dir.join(FETCHED_FOLDER);
        let out = self.out.clone().unwrap_or(ours);
        std::fs::create_dir_all(&out).with_context(|| format!("create `{}`", out.display()))?;
        let version = self.package_version.as_deref();
        eprintln!("fetch {}@{}", package.name, version.unwrap_or(package.version));
        let fetched = package.fetch(&self.npm, version, &out)?;
        for file in &fetched.files {
            eprintln!("  {}", fetched.folder.join(file).display());
        }
        eprintln!("licence: {} (LICENSE and NOTICE lie beside it)", package.notice);
        let uri = self.uri(package, &fetched.folder)?;
        let configuration = package.configuration(&uri);
        println!("{}", serde_json::to_string_pretty(&configuration).context("print JSON")?);
        match self.out.is_none() && package.source == "cc0-country" {
            true => eprintln!(
                "a server on this data folder that has no `enrich.enrichments` uses it from its next iteration on; with a \
                 folder of your own, put the configuration above there"
            ),
            false => eprintln!(
                "put the configuration above into your folder of enrichments (`enrich.enrichments`)"
            ),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// How a configuration names the folder: by the data folder's own name for it where it lies there.
    fn uri(&self, package: &Package, folder: &Path) -> Result<String> {
        if self.out.is_none() {
            return Ok(format!("fetched:{}", package.source));
        }
        let whole = folder.canonicalize();
        let whole = whole.with_context(|| format!("find `{}`", folder.display()))?;
        Ok(format!("file://{}", whole.display()))
    }
}

fn list() -> Result<()> {
    let columns = ["what", "source", "package", "licence"].map(str::to_owned).into();
    let rows = PACKAGES.iter().map(|package| {
        let spec = format!("{}@{}", package.name, package.version);
        vec![package.gives.into(), package.source.into(), spec.into(), package.notice.into()]
    });
    let table = Table { columns, rows: rows.collect() };
    table.print_text(&mut std::io::stdout().lock()).context("print the list")
}
