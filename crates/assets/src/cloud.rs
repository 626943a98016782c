//! Files in a cloud's storage: `s3://`, `gs://` and `az://`. Only in builds with the feature `cloud`.
//!
//! Who we are is found as the clouds' own tools find it: in the environment, in a file that it names, or from the machine
//! that we run on. `AWS_ENDPOINT_URL` and its like name another storage of the same kind.

use std::time::Duration;

use object_store::{Error, GetOptions, GetResult, parse_url_opts};
use url::Url;

use crate::fetch::{Failure, Fetched};

/// The content of a file, or the word that it still has this tag.
pub(crate) fn get(
    address: &str,
    etag: Option<&str>,
    timeout: Duration,
    bytes_max: u64,
) -> Result<Fetched, Failure> {
    // A thread of its own: whoever calls may be in a runtime already.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Failure::lasting(error.to_string()))?;
            let fetched = async {
                let whole = fetch(address, etag, bytes_max);
                tokio::time::timeout(timeout, whole).await.unwrap_or_else(|_| {
                    let what = format!("no answer within {} seconds", timeout.as_secs());
                    Err(Failure { what, is_passing: true })
                })
            };
            runtime.block_on(fetched)
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

async fn fetch(address: &str, etag: Option<&str>, bytes_max: u64) -> Result<Fetched, Failure> {
    let url = Url::parse(address).map_err(|error| Failure::lasting(error.to_string()))?;
    if !matches!(url.scheme(), "s3" | "s3a" | "gs" | "az" | "abfs" | "abfss") {
        let what = format!(
            "nothing is fetched by {}://; name the file by file://, https://, s3://, gs:// or az://",
            url.scheme()
        );
        return Err(Failure::lasting(what));
    }
    // What is no setting of the storage is left out there.
    let settings = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .map(|(name, value)| (name.to_ascii_lowercase(), value));
    let (store, path) = parse_url_opts(&url, settings).map_err(failure)?;
    let options = GetOptions { if_none_match: etag.map(str::to_owned), ..GetOptions::default() };
    let found: GetResult = match store.get_opts(&path, options).await {
        Ok(found) => found,
        Err(Error::NotModified { .. }) => return Ok(Fetched::Unchanged),
        Err(error) => return Err(failure(error)),
    };
    if found.meta.size > bytes_max {
        return Err(Failure::lasting(format!("it is larger than {bytes_max} bytes")));
    }
    let etag = found.meta.e_tag.clone();
    let bytes = found.bytes().await.map_err(failure)?;
    Ok(Fetched::Content { bytes: bytes.into(), etag })
}

fn failure(error: Error) -> Failure {
    // The rest does not go away by itself.
    let is_passing = matches!(error, Error::Generic { .. });
    let mut what = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !what.contains(&text) {
            what.push_str(&format!(": {text}"));
        }
        cause = error.source();
    }
    Failure { what, is_passing }
}
