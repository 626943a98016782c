//! Metrics to a StatsD agent over UDP, in Datadog's form and with the names of Snowplow's collector (`collector.md` 9).
//!
//! A thread sends every period what [`crate::meter`] has counted since. Durations are milliseconds; of many, a sample is
//! sent with its rate. UDP tells nobody whether it arrived, so a failure is a line in the log and nothing else.

use std::fmt::Write;
use std::io;
use std::net::{ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use crate::config::Statsd;
use crate::meter::{Kind, METHODS, Meter, Samples};

/// What fits into one packet of an ordinary network.
const DATAGRAM_BYTES_MAX: usize = 1400;

/// Sends until it is dropped, and then for the last time.
#[derive(Debug)]
pub(crate) struct Reporter {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reporter {
    /// # Errors
    /// When there is no socket or no thread to be had.
    pub(crate) fn start(config: Statsd, meter: Arc<Meter>) -> io::Result<Reporter> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let (stop, stopped) = channel();
        let run = move || {
            let mut was_well = true;
            loop {
                let ends = match stopped.recv_timeout(config.period) {
                    Err(RecvTimeoutError::Timeout) => false,
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
                };
                let sent = send(&socket, &config, &meter);
                if let (true, Err(error)) = (was_well, &sent) {
                    tracing::warn!(agent = %config.hostname, port = config.port, %error, "metrics are not sent");
                }
                was_well = sent.is_ok();
                if ends {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("statsd".to_owned()).spawn(run)?;
        Ok(Reporter { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Whether it panicked or not, nothing more will be sent.
        self.thread.take().map(JoinHandle::join);
    }
}

fn send(socket: &UdpSocket, config: &Statsd, meter: &Meter) -> io::Result<()> {
    let mut addresses = (config.hostname.as_str(), config.port).to_socket_addrs()?;
    let agent = addresses.find(|it| it.is_ipv4()).ok_or(io::ErrorKind::AddrNotAvailable)?;
    for datagram in datagrams(&lines(config, meter)) {
        socket.send_to(datagram.as_bytes(), agent)?;
    }
    Ok(())
}

/// What is said of the period, line by line.
fn lines(config: &Statsd, meter: &Meter) -> Vec<String> {
    let period = meter.take_period();
    let mut lines = Lines { config, lines: Vec::new() };
    lines.line("active_requests", meter.active(), "g", "", &[]);
    for (kind, samples) in &period.requests {
        let tags = tags_of(*kind);
        lines.line("requests_count", samples.count, "c", "", &tags);
        lines.distribution("requests_latency", samples, &tags);
    }
    for (method, samples) in &period.headers {
        lines.distribution("headers_time", samples, &[("method", METHODS[*method].to_owned())]);
    }
    for (abnormal, samples) in &period.abnormal {
        let tags = [("termination_type", abnormal.as_str().to_owned())];
        lines.line("abnormal_count", samples.count, "c", "", &tags);
        lines.distribution("abnormal_latency", samples, &tags);
    }
    lines.lines
}

fn tags_of(kind: Kind) -> Vec<(&'static str, String)> {
    let mut tags = vec![("method", kind.method().to_owned())];
    if let Some(status) = kind.status() {
        tags.push(("status_code", status.to_string()));
        tags.push(("status_bucket", format!("{}xx", status / 100)));
    }
    tags
}

struct Lines<'a> {
    config: &'a Statsd,
    lines: Vec<String>,
}

impl Lines<'_> {
    fn distribution(&mut self, name: &str, samples: &Samples, tags: &[(&str, String)]) {
        let kept = samples.kept.len() as u64;
        let rate = if kept < samples.count {
            format!("|@{:.6}", kept as f64 / samples.count as f64)
        } else {
            String::new()
        };
        for took in &samples.kept {
            let millis = format!("{:.3}", took.as_secs_f64() * 1000.0);
            self.line(name, millis, "d", &rate, tags);
        }
    }

    fn line(
        &mut self,
        name: &str,
        value: impl std::fmt::Display,
        kind: &str,
        rate: &str,
        tags: &[(&str, String)],
    ) {
        let mut line = format!("{}.{name}:{value}|{kind}{rate}", self.config.prefix);
        let configured = self.config.tags.iter().map(|(name, value)| (name.as_str(), value));
        let tags = tags.iter().map(|(name, value)| (*name, value)).chain(configured);
        for (place, (name, value)) in tags.enumerate() {
            let between = if place == 0 { "|#" } else { "," };
            write!(line, "{between}{name}:{value}").expect("writing to a string does not fail");
        }
        self.lines.push(line);
    }
}

/// Lines that go into one packet together.
fn datagrams(lines: &[String]) -> Vec<String> {
    let mut datagrams: Vec<String> = Vec::new();
    for line in lines {
        match datagrams.last_mut() {
            Some(last) if last.len() + 1 + line.len() <= DATAGRAM_BYTES_MAX => {
                last.push('\n');
                last.push_str(line);
            }
            _ => datagrams.push(line.clone()),
        }
    }
    datagrams
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Method;
    use model::time::Timestamp;
    use std::time::Duration;

    fn meter_with(requests: usize) -> Meter {
        let meter = Meter::new(true, None);
        for _ in 0..requests {
            let mut measured = meter.begin(Method::Post, b"/com.acme/track").unwrap();
            measured.answered();
            meter.end(measured, b"HTTP/1.1 200 OK\r\n", Timestamp(0));
        }
        meter
    }

    fn with_tags() -> Statsd {
        Statsd { tags: [("app".to_owned(), "collector".to_owned())].into(), ..Statsd::default() }
    }

    #[test]
    fn names_and_tags_are_snowplows() {
        let meter = meter_with(1);
        meter.abandon(&meter.begin(Method::Get, b"/i").unwrap());
        let lines = lines(&with_tags(), &meter);
        let without_values = |line: &String| {
            let (name, rest) = line.split_once(':').unwrap();
            (name.to_owned(), rest.split_once('|').unwrap().1.to_owned())
        };
        let found: Vec<(String, String)> = lines.iter().map(without_values).collect();
        let all = "method:post,status_code:200,status_bucket:2xx,app:collector";
        let expect = [
            ("snowplow.collector.active_requests", "g|#app:collector".to_owned()),
            ("snowplow.collector.requests_count", format!("c|#{all}")),
            ("snowplow.collector.requests_latency", format!("d|#{all}")),
            ("snowplow.collector.headers_time", "d|#method:post,app:collector".to_owned()),
            (
                "snowplow.collector.abnormal_count",
                "c|#termination_type:canceled,app:collector".to_owned(),
            ),
            (
                "snowplow.collector.abnormal_latency",
                "d|#termination_type:canceled,app:collector".to_owned(),
            ),
        ];
        assert_eq!(found, expect.map(|(name, rest)| (name.to_owned(), rest)));
        assert!(lines[1].starts_with("snowplow.collector.requests_count:1|c"));
    }

    #[test]
    fn many_durations_are_a_sample_with_its_rate_in_packets_that_fit() {
        let lines = lines(&Statsd::default(), &meter_with(400));
        let latencies: Vec<&String> =
            lines.iter().filter(|line| line.contains("requests_latency")).collect();
        assert_eq!(latencies.len(), 100);
        assert!(latencies.iter().all(|line| line.contains("|d|@0.250000|#")), "{}", latencies[0]);
        let datagrams = datagrams(&lines);
        assert!(datagrams.iter().all(|it| it.len() <= DATAGRAM_BYTES_MAX));
        assert_eq!(datagrams.join("\n"), lines.join("\n"));
    }

    #[test]
    fn an_agent_hears_of_every_period_and_of_the_last_one() {
        let agent = UdpSocket::bind("127.0.0.1:0").unwrap();
        agent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let config = Statsd {
            enabled: true,
            hostname: "127.0.0.1".to_owned(),
            port: agent.local_addr().unwrap().port(),
            period: Duration::from_millis(20),
            ..Statsd::default()
        };
        let hear = || {
            let mut packet = [0; 2048];
            let length = agent.recv(&mut packet).unwrap();
            String::from_utf8(packet[..length].to_vec()).unwrap()
        };
        let reporter = Reporter::start(config.clone(), Arc::new(meter_with(1))).unwrap();
        assert!(hear().contains("snowplow.collector.requests_count:1|c|#method:post"));
        assert!(hear().contains("active_requests:0|g"), "also when nothing came");
        drop(reporter);
        let slow = Statsd { period: Duration::from_secs(3600), ..config };
        // What the first reporter sent meanwhile is passed over.
        drop(Reporter::start(slow, Arc::new(meter_with(3))).unwrap());
        while !hear().contains("requests_count:3|c") {}
    }
}
