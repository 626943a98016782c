//! Snowplow's resolver JSON: which registries to ask. Read once, at the start.
//!
//! `iglu:com.snowplowanalytics.iglu/resolver-config/jsonschema/1-0-0` to `1-0-3`. An HTTP registry becomes a part of the
//! recipe, but for its API key, which is kept apart and never printed. An embedded one is a folder: a class path there is
//! none. `cacheSize` is the number of answers in memory; `cacheTtl` has no use here, since an answer never expires (see
//! `docs/guides/schemas.md`). Snowplow: enrich-core.md 4.3.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use enrich::iglu::{EMBEDDED_REPOSITORY, LOCAL_REPOSITORY, Repository, Resolver};
use model::files::Files;
use model::iglu::{Criterion, SchemaKey};
use serde::Deserialize;
use serde_json::Value;
use ureq::http::Uri;

use crate::Error;
use crate::answers::IN_MEMORY_DEFAULT;
use crate::http::Http;

/// The word that names the public registry instead of a file.
pub const IGLU_CENTRAL: &str = "iglu-central";

const IGLU_CENTRAL_URI: &str = "https://iglucentral.com";

const CRITERION: &str = "iglu:com.snowplowanalytics.iglu/resolver-config/jsonschema/1-0-*";

/// Snowplow's own embedded schemas; ours are always there.
const EMBEDDED_PATH: &str = "/iglu-client-embedded";

/// The fewest answers that are kept in memory, whatever `cacheSize` says: an event often needs some ten schemas.
const IN_MEMORY_MIN: usize = 100;

/// A resolver configuration, checked.
#[derive(Debug)]
pub struct ResolverConfig {
    /// What is part of the recipe. Its epoch is that of a beginning.
    pub resolver: Resolver,
    /// Folders of the embedded repositories, to be read after those of `enrich.schemas`.
    pub folders: Vec<PathBuf>,
    /// Answers in memory.
    pub in_memory_max: usize,
    keys: HashMap<(String, String), ApiKey>,
}

/// A secret: it is sent to its registry, and printed nowhere.
#[derive(Clone)]
pub struct ApiKey(String);

impl ResolverConfig {
    /// What the value of `enrich.resolver` stands for: [`IGLU_CENTRAL`], or the path of a JSON file.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read; [`Error::ResolverConfig`] names the field, or the line, and all
    /// problems of those fields that do not fit.
    pub fn read(files: &dyn Files, named: &str) -> Result<ResolverConfig, Error> {
        if named == IGLU_CENTRAL {
            return Ok(ResolverConfig::iglu_central());
        }
        let path = Path::new(named);
        let text = files.read(path).map_err(|source| Error::Io {
            action: "read the resolver configuration",
            path: path.to_owned(),
            source,
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        ResolverConfig::parse(&text, folder)
            .map_err(|what| Error::ResolverConfig { path: path.to_owned(), what })
    }

    /// The public registry alone.
    pub fn iglu_central() -> ResolverConfig {
        let repository = Repository {
            name: "Iglu Central".to_owned(),
            priority: 0,
            vendor_prefixes: vec!["com.snowplowanalytics".to_owned()],
            uri: IGLU_CENTRAL_URI.to_owned(),
        };
        let resolver = Resolver { epoch: 1, repositories: vec![repository], embedded: Vec::new() };
        let in_memory_max = IN_MEMORY_DEFAULT;
        ResolverConfig { resolver, folders: Vec::new(), in_memory_max, keys: HashMap::new() }
    }

    /// What asks these registries.
    pub fn http(&self) -> Http {
        Http::new(self.keys.clone())
    }

    fn parse(text: &[u8], folder: &Path) -> Result<ResolverConfig, String> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let document: Document =
            serde_path_to_error::deserialize(&mut reader).map_err(|error| {
                let path = error.path().to_string();
                let place = if path == "." { String::new() } else { format!("`{path}`: ") };
                format!("{place}{}", error.into_inner())
            })?;
        reader.end().map_err(|error| error.to_string())?;
        let mut problems = Vec::new();
        let criterion = Criterion::parse(CRITERION).map_err(|error| error.to_string())?;
        if !SchemaKey::parse(&document.schema).is_ok_and(|key| criterion.matches(&key)) {
            problems.push(format!("`schema`: `{}` is not {CRITERION}", document.schema));
        }
        if document.data.cache_size < 0.0 {
            problems.push("`data.cacheSize`: is negative".to_owned());
        }
        let mut config = ResolverConfig {
            resolver: Resolver { epoch: 1, repositories: Vec::new(), embedded: Vec::new() },
            folders: Vec::new(),
            in_memory_max: (document.data.cache_size as usize).max(IN_MEMORY_MIN),
            keys: HashMap::new(),
        };
        let mut names = BTreeSet::new();
        for (at, entry) in document.data.repositories.into_iter().enumerate() {
            let place = format!("data.repositories[{at}]");
            if !names.insert(entry.name.clone()) {
                problems.push(format!("`{place}.name`: there are two named `{}`", entry.name));
            }
            if let Err(what) = config.add(entry, folder) {
                problems.push(format!("`{place}.{what}"));
            }
        }
        if problems.is_empty() { Ok(config) } else { Err(problems.join("; ")) }
    }

    /// Takes a repository in; or the field that is wrong, and why.
    fn add(&mut self, entry: Entry, folder: &Path) -> Result<(), String> {
        let Entry { name, priority, vendor_prefixes, connection } = entry;
        match (connection.http, connection.embedded) {
            (Some(http), None) => {
                if name == EMBEDDED_REPOSITORY || name == LOCAL_REPOSITORY {
                    return Err(format!("name`: `{name}` is the name of one that is always there"));
                }
                let uri =
                    base(&http.uri).map_err(|what| format!("connection.http.uri`: {what}"))?;
                if let Some(key) = http.apikey {
                    let is_sendable =
                        !key.0.is_empty() && key.0.bytes().all(|it| (0x21..0x7f).contains(&it));
                    if !is_sendable {
                        return Err(
                            "connection.http.apikey`: cannot be sent in a header".to_owned()
                        );
                    }
                    self.keys.insert((name.clone(), uri.clone()), key);
                }
                if priority.fract() != 0.0 || priority.abs() > 1e9 {
                    return Err(format!("priority`: {priority} is not a whole number"));
                }
                let priority = priority as i64;
                self.resolver.repositories.push(Repository {
                    name,
                    priority,
                    vendor_prefixes,
                    uri,
                });
                Ok(())
            }
            (None, Some(embedded)) if embedded.path == EMBEDDED_PATH => Ok(()),
            (None, Some(embedded)) => {
                self.folders.push(folder.join(embedded.path));
                self.resolver.embedded.push(name);
                Ok(())
            }
            _ => Err("connection`: expected one of `http` and `embedded`".to_owned()),
        }
    }
}

/// The base of a registry, as it stands in the recipe.
fn base(text: &str) -> Result<String, String> {
    let uri: Uri = text.parse().map_err(|_| "is not a URI".to_owned())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return Err(format!("`{text}` does not begin with http:// or https:// and a host"));
    }
    // Not printed: it may hold a password.
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("holds a user name: use `apikey`".to_owned());
    }
    if uri.query().is_some() || text.contains('#') {
        return Err(format!(
            "`{text}` has a query or a fragment, which a schema's path cannot follow"
        ));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

impl ApiKey {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

impl<'de> Deserialize<'de> for ApiKey {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<ApiKey, D::Error> {
        // The error of a wrong type would print the value.
        match Value::deserialize(from)? {
            Value::String(text) => Ok(ApiKey(text)),
            _ => Err(serde::de::Error::custom("is not a text")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: String,
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Data {
    cache_size: f64,
    /// Read so that it is checked, and not used.
    #[serde(default, rename = "cacheTtl")]
    _cache_ttl: Option<u64>,
    repositories: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: String,
    priority: f64,
    vendor_prefixes: Vec<String>,
    connection: Connection,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Connection {
    http: Option<HttpConnection>,
    embedded: Option<EmbeddedConnection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpConnection {
    uri: String,
    #[serde(default)]
    apikey: Option<ApiKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbeddedConnection {
    path: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(repositories: &Value) -> String {
        json!({
            "schema": "iglu:com.snowplowanalytics.iglu/resolver-config/jsonschema/1-0-3",
            "data": {"cacheSize": 500, "cacheTtl": 600, "repositories": repositories},
        })
        .to_string()
    }

    fn parse(text: &str) -> Result<ResolverConfig, String> {
        ResolverConfig::parse(text.as_bytes(), Path::new("/etc/snowmelt"))
    }

    fn http(name: &str, connection: Value) -> Value {
        json!({"name": name, "priority": 1, "vendorPrefixes": ["com.acme"], "connection": {"http": connection}})
    }

    #[test]
    fn registries_folders_and_keys_are_told_apart() {
        let config = parse(&document(&json!([
            http("Acme", json!({"uri": "https://iglu.acme.example/api/", "apikey": "s3cret"})),
            http("Public", json!({"uri": "http://public.example", "apikey": null})),
            {"name": "Ours", "priority": 0, "vendorPrefixes": [], "connection": {"embedded": {"path": "schemas"}}},
            {"name": "Client", "priority": 0, "vendorPrefixes": [], "connection": {"embedded": {"path": "/iglu-client-embedded"}}},
        ])))
        .unwrap();
        let uris: Vec<&str> =
            config.resolver.repositories.iter().map(|it| it.uri.as_str()).collect();
        assert_eq!(uris, ["https://iglu.acme.example/api", "http://public.example"]);
        assert_eq!(config.resolver.embedded, ["Ours"]);
        assert_eq!(config.folders, [Path::new("/etc/snowmelt/schemas")]);
        assert_eq!(config.in_memory_max, 500);
        assert_eq!(config.keys.len(), 1);
        // The recipe, and all that is printed, know no key.
        let printed = format!("{config:?} {}", serde_json::to_string(&config.resolver).unwrap());
        assert!(!printed.contains("s3cret") && printed.contains("********"), "{printed}");
    }

    #[test]
    fn older_configurations_are_read() {
        for (version, cache) in
            [("1-0-0", json!({"cacheSize": 0})), ("1-0-1", json!({"cacheSize": 5.0}))]
        {
            let mut data = cache;
            data["repositories"] = json!([]);
            let schema =
                format!("iglu:com.snowplowanalytics.iglu/resolver-config/jsonschema/{version}");
            let config = parse(&json!({"schema": schema, "data": data}).to_string()).unwrap();
            assert_eq!(config.in_memory_max, IN_MEMORY_MIN);
        }
    }

    #[test]
    fn what_does_not_fit_is_named_by_its_field() {
        let of = |connection: Value| document(&json!([http("Acme", connection)]));
        let cases = [
            ("{".to_owned(), "line 1 column 1"),
            ("{}".to_owned(), "missing field `schema`"),
            (document(&json!({})), "`data.repositories`: "),
            (
                document(&json!([{"name": "Acme"}])),
                "`data.repositories[0]`: missing field `priority`",
            ),
            (
                of(json!({"uri": "iglu.acme.example"})),
                "`data.repositories[0].connection.http.uri`: ",
            ),
            (of(json!({"uri": "ftp://acme.example"})), "http:// or https://"),
            (of(json!({"uri": "http://acme.example/?a=b"})), "query"),
            (of(json!({"url": "http://acme.example"})), "unknown field `url`"),
            (
                of(json!({"uri": "http://acme.example", "apikey": "a b"})),
                "`data.repositories[0].connection.http.apikey`",
            ),
            (
                document(&json!([
                    http("A", json!({"uri": "http://a.example"})),
                    http("A", json!({"uri": "http://b.example"}))
                ])),
                "`data.repositories[1].name`: there are two named `A`",
            ),
            (
                document(&json!([http("enrich.schemas", json!({"uri": "http://a.example"}))])),
                "always there",
            ),
            (
                document(
                    &json!([{"name": "A", "priority": 0, "vendorPrefixes": [], "connection": {}}]),
                ),
                "`data.repositories[0].connection`: expected one of",
            ),
            (document(&json!([])).replace("1-0-3", "2-0-0"), "`schema`: "),
            (document(&json!([])) + "x", "trailing characters"),
        ];
        for (text, expected) in cases {
            let what = parse(&text).unwrap_err();
            assert!(what.contains(expected), "{what} should say {expected}");
        }
        let several =
            document(&json!([http("A", json!({"uri": "a"})), http("A", json!({"uri": "b"}))]));
        assert_eq!(parse(&several).unwrap_err().split("; ").count(), 3);
    }

    #[test]
    fn secrets_are_in_no_message() {
        for connection in [
            json!({"uri": "http://acme.example", "apikey": 123_456}),
            json!({"uri": "http://acme.example", "apikey": ["s3cret 123456"]}),
            json!({"uri": "http://acme.example", "apikey": "s3cret 123456"}),
            json!({"uri": "http://me:123456@acme.example"}),
        ] {
            let what = parse(&document(&json!([http("Acme", connection)]))).unwrap_err();
            assert!(!what.contains("123456"), "{what}");
        }
    }
}
