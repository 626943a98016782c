//! Files of enrichments in S3: a real server of that kind (SeaweedFS) that checks signatures. Run with
//! `cargo test -p assets --features cloud --test cloud`; `WEED` names the server's program (`cargo xtask setup` installs
//! it).

#![cfg(feature = "cloud")]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use assets::enrichments::{Configured, Source};
use serde_json::json;
use stream::disk::Disk;
use tempfile::TempDir;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

struct Storage {
    s3: u16,
    filer: u16,
    process: Child,
    _folder: TempDir,
}

impl Storage {
    fn start() -> Storage {
        let weed = std::env::var_os("WEED").unwrap_or_else(|| {
            panic!("WEED is not set: `cargo xtask setup` installs SeaweedFS and prints it")
        });
        let folder = TempDir::new().unwrap();
        let identity = json!({"identities": [{
            "name": "reader",
            "credentials": [{"accessKey": "reader", "secretKey": "s3cret-p4ss"}],
            "actions": ["Read", "List"],
        }]});
        let config = folder.path().join("s3.json");
        std::fs::write(&config, identity.to_string()).unwrap();
        let [s3, master, volume, filer] = [(); 4].map(|()| port());
        let mut server = Command::new(weed);
        server.args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-volume.max=5"]);
        server.args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]);
        server.arg(format!("-dir={}", folder.path().display()));
        server.arg(format!("-s3.config={}", config.display()));
        for (name, port) in [("s3", s3), ("master", master), ("volume", volume), ("filer", filer)] {
            server.arg(format!("-{name}.port={port}"));
        }
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = server.spawn().unwrap();
        Storage { s3, filer, process, _folder: folder }
    }

    /// Puts an object there, past the door that wants signatures.
    fn put(&self, key: &str, content: &str) {
        let address = format!("http://127.0.0.1:{}/buckets/lists/{key}", self.filer);
        let begun = Instant::now();
        // The first writes of a fresh server may fail.
        while ureq::put(&address).send(content).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the storage does not take what is put there");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A free port; the server takes the one ten thousand above, too.
fn port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let other = port.checked_add(10_000).unwrap_or(port - 20_000);
        if other > port && TcpListener::bind(("127.0.0.1", other)).is_ok() {
            return port;
        }
    }
}

const INNER: &str = "SNOWMELT_TEST_FOLDER";

/// The digest of the list as a process sees it that is who the environment says.
fn read(folder: &Path, storage: &Storage, secret: &str) -> Result<String, String> {
    let mut inner = Command::new(std::env::current_exe().unwrap());
    inner.args(["a_file_at_s3_is_fetched_with_the_credentials_of_the_environment", "--exact"]);
    inner.args(["--nocapture"]).env(INNER, folder);
    inner.env("AWS_ACCESS_KEY_ID", "reader").env("AWS_SECRET_ACCESS_KEY", secret);
    inner.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", storage.s3));
    inner.env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
    let output = inner.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let found = |name: &str| {
        let line = text.lines().find_map(|line| line.split_once(name));
        line.map(|(_, rest)| rest.to_owned())
    };
    assert!(!text.contains("s3cret"), "{text}");
    match found("DIGEST ") {
        Some(digest) => Ok(digest),
        None => Err(found("ERROR ").unwrap_or(text)),
    }
}

/// What the inner process does: reads twice, with the second look asking whether anything has changed.
fn inner(folder: &Path) {
    let source = Source::new(Arc::new(Disk), Configured::Folder(folder.to_owned()))
        .refreshing(Duration::ZERO);
    match source.read() {
        Ok(read) => {
            let again = source.read().unwrap();
            assert_eq!(
                read.assets().keys().collect::<Vec<_>>(),
                again.assets().keys().collect::<Vec<_>>()
            );
            let refreshes = source.refreshes();
            assert_eq!((refreshes.unchanged, refreshes.changed, refreshes.failed), (1, 0, 0));
            println!("\nDIGEST {}", read.assets().values().next().unwrap().digest);
        }
        Err(error) => println!("\nERROR {error}"),
    }
}

#[test]
fn a_file_at_s3_is_fetched_with_the_credentials_of_the_environment() {
    if let Some(folder) = std::env::var_os(INNER) {
        inner(Path::new(&folder));
        return;
    }
    let (storage, folder) = (Storage::start(), TempDir::new().unwrap());
    let config = json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/referer_parser/jsonschema/2-0-0",
        "data": {
            "vendor": "com.snowplowanalytics.snowplow", "name": "referer_parser", "enabled": true,
            "parameters": {"internalDomains": [], "database": "referers.json", "uri": "s3://lists/some/folder"},
        },
    });
    std::fs::write(folder.path().join("referers.json"), config.to_string()).unwrap();
    storage.put("some/folder/referers.json", r#"{"search": {}}"#);
    let begun = Instant::now();
    let first = loop {
        match read(folder.path(), &storage, "s3cret-p4ss") {
            Ok(digest) => break digest,
            // Its door opens a little later than the rest.
            Err(error) if begun.elapsed() > PATIENCE => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    };
    storage.put("some/folder/referers.json", r#"{"social": {}}"#);
    assert_ne!(read(folder.path(), &storage, "s3cret-p4ss").unwrap(), first);
    let error = read(folder.path(), &storage, "another").unwrap_err();
    assert!(error.starts_with("fetch s3://lists/some/folder/referers.json"), "{error}");
    assert!(error.contains("403") || error.to_lowercase().contains("denied"), "{error}");
}
