//! What keeps a collector from starting. What goes wrong later is an answer to a request and a counter.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the collector did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process, or another role, has the port.
    #[error(
        "the address {0} is already in use: choose another `collector.port` (0 is any free one)"
    )]
    PortTaken(SocketAddr),
    #[error("listen on {address}: {source}; see `collector.bind` and `collector.port`")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("start the threads of the collector: {0}")]
    Threads(io::Error),
    #[error("`collector.ssl.{key}`: {}: {problem}", path.display())]
    Tls { key: &'static str, path: PathBuf, problem: String },
    #[error("open the spool: {0}")]
    Spool(#[source] stream::Error),
    #[error("`collector.oversized.dir`: {}: {source}", dir.display())]
    Oversized { dir: PathBuf, source: io::Error },
    #[error("`collector.access-log.file`: {source}")]
    AccessLog { source: io::Error },
    #[error("`collector.monitoring.metrics.statsd`: {0}")]
    Statsd(io::Error),
    /// Every problem of the configuration, each with its key.
    #[error("{}", .0.join("; "))]
    Config(Vec<String>),
}
