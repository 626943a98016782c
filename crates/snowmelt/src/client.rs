//! The HTTP client of the commands: JSON to a running server and back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::data_folder;

/// How a command finds the server.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Server {
    /// The server's address, for example http://127.0.0.1:8090; without it `run.json` in the data folder tells
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// The data folder of the running process
    #[arg(long, value_name = "DIR", default_value = "./snowmelt-data")]
    pub(crate) data_dir: PathBuf,
    /// The server's password, if it has one
    #[arg(long, env = "SNOWMELT_SERVER__PASSWORD", hide_env_values = true)]
    pub(crate) password: Option<String>,
}

impl Server {
    /// The base URL, without a slash at its end.
    ///
    /// # Errors
    /// When no URL is given and no process has the data folder.
    pub(crate) fn base_url(&self) -> Result<String> {
        if let Some(url) = &self.url {
            let url = url.trim_end_matches('/');
            return Ok(if url.contains("://") { url.to_owned() } else { format!("http://{url}") });
        }
        match data_folder::read_run(&self.data_dir)? {
            Some(run) => Ok(format!("http://{}", run.http)),
            None => bail!(
                "no server runs on data folder `{}`: start one with `snowmelt up`, or name it with `--data-dir` or `--url`",
                self.data_dir.display()
            ),
        }
    }

    /// # Errors
    /// When the server cannot be reached, or with the server's own message and hint when it refuses.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let url = format!("{}{path}", self.base_url()?);
        let mut request = agent().post(&url).header("Content-Type", "application/json");
        if let Some(password) = &self.password {
            request = request.header("Authorization", format!("Bearer {password}"));
        }
        self.answer(&url, request.send(body.to_string()))
    }

    /// # Errors
    /// As [`Server::post`].
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        let url = format!("{}{path}", self.base_url()?);
        let mut request = agent().get(&url);
        if let Some(password) = &self.password {
            request = request.header("Authorization", format!("Bearer {password}"));
        }
        self.answer(&url, request.call())
    }

    /// As [`Server::get`], where an answer that says what is wrong is an answer too.
    pub(crate) fn get_even_if_unwell(&self, path: &str) -> Result<Value> {
        let url = format!("{}{path}", self.base_url()?);
        let mut answer = agent().get(&url).call().with_context(|| self.nobody_answers(&url))?;
        let text = answer.body_mut().read_to_string().with_context(|| format!("read `{url}`"))?;
        serde_json::from_str(&text).with_context(|| format!("`{url}` did not answer in JSON"))
    }

    /// Whether a process owns the data folder and has a server.
    pub(crate) fn is_running(&self) -> Result<bool> {
        Ok(self.url.is_some() || data_folder::read_run(&self.data_dir)?.is_some())
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    fn answer(
        &self,
        url: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value> {
        let mut answer = answer.with_context(|| self.nobody_answers(url))?;
        let status = answer.status();
        let text = answer
            .body_mut()
            .with_config()
            .limit(u64::MAX)
            .read_to_string()
            .with_context(|| format!("read `{url}`"))?;
        if !status.is_success() {
            let error: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
            let part = |name: &str| error["error"][name].as_str().map(str::to_owned);
            match (part("message"), part("hint")) {
                _ if status == 401 => bail!(
                    "the password of `{url}` is missing or wrong: give it with --password or SNOWMELT_SERVER__PASSWORD"
                ),
                (Some(message), Some(hint)) => bail!("{message}\nhint: {hint}"),
                (Some(message), None) => bail!("{message}"),
                _ => bail!(
                    "`{url}` answered {status}, which is not the server's API (its address is the `http=` of the \
                     `ready` line): {}",
                    text.trim()
                ),
            }
        }
        serde_json::from_str(&text).with_context(|| format!("`{url}` did not answer in JSON"))
    }

    /// Why a server may not be reached.
    fn nobody_answers(&self, url: &str) -> String {
        match &self.url {
            Some(_) => format!("ask `{url}` (its address is the `http=` of the `ready` line)"),
            None => format!(
                "ask `{url}`, which `run.json` in `{}` names: if that process was killed, start it again with \
                 `snowmelt up`",
                self.data_dir.display()
            ),
        }
    }
}

fn agent() -> ureq::Agent {
    // An iteration over a long history may take its time; a dead server shows at once when connecting.
    ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .http_status_as_error(false)
        .build()
        .into()
}
