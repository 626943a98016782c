//! The door for `fuzz/`: a whole connection over bytes in memory. Behind the feature `fuzzing`, which nothing that is
//! shipped turns on.

use crate::config::{Config, Profile};
use crate::connection;
use crate::intake::Intake;
use crate::places::Place;
use ipnetwork::IpNetwork;
use model::time::Clock;
use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use stream::Stream;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// The largest record of a setting with small sizes.
pub const SMALL_RECORD_BYTES: usize = 600;

/// A configuration for each number: the profile, whether it is strict, and what is switched on.
pub fn setting(number: u8) -> Config {
    let is_on = |bit: u8| number >> bit & 1 == 1;
    let mut config = Config::default();
    if is_on(0) {
        config.compat.profile = Profile::V2;
    }
    config.compat.strict = is_on(1);
    if is_on(2) {
        config.networking.max_record_size = SMALL_RECORD_BYTES;
        config.networking.max_payload_size = 4 * SMALL_RECORD_BYTES;
        config.networking.drop_payload_size = 16 * SMALL_RECORD_BYTES;
    }
    if is_on(3) {
        config.cookie_bounce.enabled = true;
        config.do_not_track_cookie.enabled = true;
        config.do_not_track_cookie.name = "dnt".to_owned();
        config.do_not_track_cookie.value = "1|yes.*".to_owned();
        config.cookie.domains = vec!["a.example".to_owned()];
        config.cookie.client_cookie_name = Some("spc".to_owned());
    }
    if is_on(4) {
        config.enable_default_redirect = true;
        config.redirect_macro.enabled = true;
        config.paths.insert("/a/b".to_owned(), "/r/b".to_owned());
        config.hsts.enable = true;
        config.root_response.enabled = true;
        config.cross_domain.enabled = true;
    }
    if is_on(5) {
        config.redirect_domains = vec!["a.example".to_owned()];
    }
    if is_on(6) {
        config.ip.headers = vec!["X-Client".to_owned(), "X-Forwarded-For".to_owned()];
        config.ip.anonymize.ipv4_octets = 1;
        config.ip.anonymize.ipv6_segments = 5;
    }
    if is_on(7) {
        config.ip.trusted_proxies = vec![IpNetwork::from(PEER)];
    }
    config
}

/// Serves a client that sends `input`, `piece_bytes` at a time, and then ends its side. Returns all that was answered;
/// what was recorded is in `raw`.
///
/// # Panics
/// When the system lets no runtime be made, and when the connection does.
pub fn serve(
    config: Config,
    raw: Arc<dyn Stream>,
    clock: Arc<dyn Clock>,
    input: &[u8],
    piece_bytes: usize,
) -> Vec<u8> {
    let intake = Intake::new(config, raw, clock);
    let mut answers = Vec::new();
    let io = tokio::io::join(Pieces { rest: input, piece_bytes }, &mut answers);
    // Held to the end: a sender that is gone would mean that the server is.
    let (_stop, stopped) = watch::channel(false);
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| {
            Builder::new_current_thread().enable_time().build().expect("a runtime without I/O")
        });
        runtime.block_on(connection::serve(io, PEER, &intake, stopped, &Place::alone()));
    });
    answers
}

/// A client's side that is always ready.
struct Pieces<'a> {
    rest: &'a [u8],
    piece_bytes: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let count = self.piece_bytes.min(self.rest.len()).min(into.remaining());
        let (piece, rest) = self.rest.split_at(count);
        into.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}
