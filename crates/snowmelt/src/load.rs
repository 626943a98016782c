//! The load generator: keeps a number of connections posting tp2 bodies at a steady rate, and counts what came back.
//!
//! `send` is its command, `demo` its other user. A request whose fate is unknown (the connection broke before the
//! answer) is never repeated; its events are counted as unknown.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use model::time::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clock::SystemClock;
use crate::traffic::Site;

/// What to send, and how fast.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// `host:port`.
    pub(crate) address: String,
    /// The path of the POSTs.
    pub(crate) path: String,
    /// Events per second over all connections; 0 for as fast as the answers come.
    pub(crate) events_per_second: u64,
    pub(crate) duration: Duration,
    pub(crate) connections: usize,
    pub(crate) events_per_request: usize,
    /// See [`Site::new`].
    pub(crate) bad_one_in: usize,
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) sent: u64,
    pub(crate) accepted: u64,
    /// Answered with another status than 200; the tracker would keep these events.
    pub(crate) rejected: u64,
    /// Sent, and the connection broke before an answer.
    pub(crate) unknown: u64,
    pub(crate) elapsed: Duration,
    /// One per answered request, sorted.
    pub(crate) latencies: Vec<Duration>,
    /// The last status that was not 200, or the last broken connection.
    pub(crate) last_trouble: Option<String>,
}

impl Report {
    /// The latency below which `share` of the answers came; zero without answers.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }
}

/// Called with the ids of every accepted request, in no particular order.
pub(crate) type OnAccepted = Arc<dyn Fn(&[String]) + Send + Sync>;

/// Runs the plan to its end.
///
/// # Errors
/// When nothing answers at the address at the start. Later failures are counted, and the connection is made anew.
pub(crate) async fn run(plan: &Plan, on_accepted: OnAccepted) -> Result<Report> {
    TcpStream::connect(&plan.address)
        .await
        .with_context(|| format!("connect to `{}`: is a collector running there?", plan.address))?;
    let started = Instant::now();
    let total = Arc::new(Mutex::new(Report::default()));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..plan.connections.max(1) {
        let sender = Sender {
            plan: plan.clone(),
            number,
            started,
            site: Site::new(plan.seed.wrapping_add(number as u64), plan.bad_one_in),
            on_accepted: Arc::clone(&on_accepted),
            report: Report::default(),
        };
        let total = Arc::clone(&total);
        tasks.spawn(async move {
            let report = sender.run().await;
            total.lock().expect("no sender panics while it adds").add(report);
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a sender ended by a panic")?;
    }
    let mut report = std::mem::take(&mut *total.lock().expect("all senders have ended"));
    report.latencies.sort_unstable();
    report.elapsed = started.elapsed();
    Ok(report)
}

impl Report {
    fn add(&mut self, other: Report) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.latencies.extend(other.latencies);
        self.last_trouble = other.last_trouble.or(self.last_trouble.take());
    }
}

struct Sender {
    plan: Plan,
    number: usize,
    started: Instant,
    site: Site,
    on_accepted: OnAccepted,
    report: Report,
}

impl Sender {
    async fn run(mut self) -> Report {
        let mut connection: Option<TcpStream> = None;
        let mut request = 0u64;
        loop {
            let due = self.due(request);
            if due >= self.plan.duration || self.started.elapsed() >= self.plan.duration {
                return self.report;
            }
            tokio::time::sleep_until((self.started + due).into()).await;
            request += 1;
            let Some(open) = self.connected(&mut connection).await else { continue };
            if let Err(error) = self.post(open).await {
                self.report.last_trouble = Some(format!("{error:#}"));
                connection = None;
            }
        }
    }

    /// When this connection's request number `request` is to leave, since the start.
    fn due(&self, request: u64) -> Duration {
        if self.plan.events_per_second == 0 {
            return self.started.elapsed();
        }
        let connections = self.plan.connections.max(1) as f64;
        let place = request as f64 * connections + self.number as f64;
        Duration::from_secs_f64(
            place * self.plan.events_per_request as f64 / self.plan.events_per_second as f64,
        )
    }

    async fn connected<'a>(
        &mut self,
        connection: &'a mut Option<TcpStream>,
    ) -> Option<&'a mut TcpStream> {
        if connection.is_none() {
            match TcpStream::connect(&self.plan.address).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    *connection = Some(stream);
                }
                Err(error) => {
                    self.report.last_trouble = Some(format!("connect: {error}"));
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        connection.as_mut()
    }

    async fn post(&mut self, connection: &mut TcpStream) -> Result<()> {
        let (body, ids) = self.site.body(self.plan.events_per_request.max(1), SystemClock.now());
        let count = ids.len() as u64;
        let mut request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: snowmelt-send/{}\r\n\
             Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
            self.plan.path,
            self.plan.address,
            env!("CARGO_PKG_VERSION"),
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        let started = Instant::now();
        self.report.sent += count;
        let answer = async {
            connection.write_all(&request).await.context("send a request")?;
            read_answer(connection).await
        };
        match tokio::time::timeout(Duration::from_secs(30), answer)
            .await
            .context("wait for an answer")
            .flatten()
        {
            Ok((status, keep_alive)) => {
                self.report.latencies.push(started.elapsed());
                if status == 200 {
                    self.report.accepted += count;
                    (self.on_accepted)(&ids);
                } else {
                    self.report.rejected += count;
                    self.report.last_trouble = Some(format!("status {status}"));
                }
                if keep_alive {
                    Ok(())
                } else {
                    bail!("the collector closed the connection after status {status}")
                }
            }
            Err(error) => {
                self.report.unknown += count;
                Err(error)
            }
        }
    }
}

/// Reads one answer to its end: the status, and whether the connection goes on.
async fn read_answer(connection: &mut TcpStream) -> Result<(u16, bool)> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if connection.read_buf(&mut bytes).await.context("read an answer")? == 0 {
            bail!("the connection was closed before the answer");
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = response.parse(&bytes).context("read an answer")?
        else {
            continue;
        };
        let value_of = |name: &str| {
            let found =
                response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.and_then(|header| std::str::from_utf8(header.value).ok())
        };
        let length: usize =
            value_of("content-length").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let keep_alive =
            !value_of("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let status = response.code.context("an answer without a status")?;
        while bytes.len() < head + length {
            if connection.read_buf(&mut bytes).await.context("read an answer")? == 0 {
                bail!("the connection was closed inside the answer");
            }
        }
        return Ok((status, keep_alive));
    }
}

/// A seed that differs from run to run.
pub(crate) fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// Splits `http://host:port/path`; the path defaults to the tracker protocol's.
///
/// # Errors
/// For another scheme, or without a host.
pub(crate) fn parse_url(url: &str) -> Result<(String, String)> {
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some((scheme, _)) => bail!("`{url}`: only http is supported, not {scheme}"),
        None => url,
    };
    let (address, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if address.is_empty() {
        bail!("`{url}` names no host: expected something like http://127.0.0.1:8080");
    }
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { address.to_owned() } else { format!("{address}:80") };
    let path =
        if path.is_empty() || path == "/" { "/com.snowplowanalytics.snowplow/tp2" } else { path };
    Ok((address, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_needs_only_a_host() {
        let tp2 = "/com.snowplowanalytics.snowplow/tp2";
        for (url, address, path) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", tp2),
            ("127.0.0.1:8080/", "127.0.0.1:8080", tp2),
            ("http://[::1]:8080/com.acme/track", "[::1]:8080", "/com.acme/track"),
            ("http://collector.example", "collector.example:80", tp2),
        ] {
            assert_eq!(parse_url(url).unwrap(), (address.to_owned(), path.to_owned()));
        }
        assert!(parse_url("https://x").is_err());
        assert!(parse_url("http:///x").is_err());
    }

    #[test]
    fn percentiles_of_nothing_are_zero() {
        assert_eq!(Report::default().percentile(0.99), Duration::ZERO);
        let latencies = (1..=100).map(Duration::from_millis).collect();
        let report = Report { latencies, ..Report::default() };
        assert_eq!(report.percentile(0.5), Duration::from_millis(51));
        assert_eq!(report.percentile(1.0), Duration::from_millis(100));
    }
}
