//! Lets a client in: TLS where it asks for it and there is a certificate, the password, the settings of its startup
//! message; or cancels a statement of another connection, which is asked for in the same way.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use super::cancel::Place;
use super::error::Refusal;
use super::frame::{Message, Opening, STARTUP_BYTES_MAX, put, put_text};
use super::scram::{Failure, MECHANISM, Verifier};
use super::session::Session;
use super::settings::Settings;
use super::sqlstate;
use super::wire::{Ended, Stream, Wire};
use super::{Door, STARTUP_TIMEOUT};
use crate::catalogue::USER;
use crate::sql::CATALOG;

/// Requests for encryption before the startup message.
const ROUNDS_MAX: usize = 3;

/// Serves one connection to its end.
pub(crate) async fn run(
    stream: TcpStream,
    door: Arc<Door>,
    handshake: OwnedSemaphorePermit,
    stopped: watch::Receiver<Option<Duration>>,
) {
    let peer = stream.peer_addr().ok();
    // An answer of one row must not wait for the next.
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(Box::new(stream));
    let started = timeout(STARTUP_TIMEOUT, start(&mut wire, &door)).await;
    drop(handshake);
    match started {
        Ok(Ok(Some(guest))) => {
            let Guest { settings, place, permit } = guest;
            Session::new(door, wire, place, settings).run(stopped).await;
            drop(permit);
        }
        Ok(Ok(None)) => {}
        Ok(Err(ended)) => {
            if let Ended::Refused(Refusal { code, message, .. }) = &ended {
                let client = peer.map(|peer| peer.to_string()).unwrap_or_default();
                tracing::info!(client, code, message, "a client of the Postgres wire was refused");
            }
            wire.close(ended).await;
        }
        // Nobody waits for an answer to half a message.
        Err(_) => {}
    }
}

/// A client that was let in.
struct Guest {
    settings: Settings,
    place: Place,
    permit: OwnedSemaphorePermit,
}

/// `None` when there was nothing to let in.
async fn start(wire: &mut Wire, door: &Arc<Door>) -> Result<Option<Guest>, Ended> {
    let mut is_encrypted = false;
    for _ in 0..=ROUNDS_MAX {
        match wire.opening().await? {
            Opening::Tls if door.tls.is_some() && !is_encrypted => {
                wire.send_byte(b'S').await?;
                encrypt(wire, door).await?;
                is_encrypted = true;
            }
            Opening::Tls | Opening::Gss => wire.send_byte(b'N').await?,
            Opening::Cancel { process, secret } => {
                door.registry.cancel(process, &secret);
                return Ok(None);
            }
            Opening::Startup { minor, parameters } => {
                return welcome(wire, door, minor, parameters).await.map(Some);
            }
        }
    }
    Err(refuse(sqlstate::PROTOCOL_VIOLATION, "encryption was asked for too often"))
}

fn refuse(code: &'static str, message: impl Into<String>) -> Ended {
    Ended::Refused(Refusal::fatal(code, message))
}

async fn encrypt(wire: &mut Wire, door: &Door) -> Result<(), Ended> {
    let plain = std::mem::replace(wire, Wire::new(Box::new(tokio::io::empty())));
    let (Some(tls), Some(stream)) = (&door.tls, plain.into_stream()) else {
        return Err(Ended::Gone);
    };
    let encrypted: Box<dyn Stream> = Box::new(tls.acceptor().accept(stream).await?);
    *wire = Wire::new(encrypted);
    Ok(())
}

async fn welcome(
    wire: &mut Wire,
    door: &Arc<Door>,
    minor: u16,
    parameters: Vec<(String, String)>,
) -> Result<Guest, Ended> {
    negotiate(wire, minor, &parameters);
    let find = |wanted: &str| {
        let found = parameters.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    };
    let user = find("user").filter(|user| !user.is_empty());
    let Some(user) = user else {
        return Err(refuse(
            sqlstate::INVALID_AUTHORIZATION,
            "no PostgreSQL user name specified in startup packet",
        ));
    };
    if let Some(verifier) = &door.verifier {
        authenticate(wire, verifier, user).await?;
    }
    expect_our_database(find("database").unwrap_or_default(), user)?;
    if find("replication").is_some_and(|value| !["false", "off", "no", "0"].contains(&value)) {
        return Err(refuse(sqlstate::FEATURE_NOT_SUPPORTED, "there is no replication here"));
    }
    let Ok(permit) = Arc::clone(&door.sessions).try_acquire_owned() else {
        let message =
            format!("sorry, too many clients already: {} are connected", door.sessions_max);
        let hint = "close connections that are not used, or raise `server.pg-connections`";
        return Err(Refusal::fatal(sqlstate::TOO_MANY_CONNECTIONS, message).hint(hint).into());
    };
    let mut settings = Settings::new(user, door.statement_timeout);
    for (name, value) in &parameters {
        settings.start(name, value)?;
    }
    for (name, value) in options(find("options").unwrap_or_default()) {
        settings.start(&name, &value)?;
    }
    let Some(place) = door.registry.register() else {
        return Err(refuse(sqlstate::INTERNAL_ERROR, "the system has no randomness"));
    };
    let into = &mut wire.outgoing;
    put(into, b'R', |body| body.put_i32(0));
    for (name, value) in settings.reported() {
        put(into, b'S', |body| {
            put_text(body, name);
            put_text(body, &value);
        });
    }
    put(into, b'K', |body| {
        body.put_i32(place.process);
        body.put_slice(&place.secret);
    });
    put(into, b'Z', |body| body.put_u8(b'I'));
    wire.flush().await?;
    Ok(Guest { settings, place, permit })
}

/// Tells a client of a later minor version that it is 3.0, and which of its options are not known.
fn negotiate(wire: &mut Wire, minor: u16, parameters: &[(String, String)]) {
    let unknown: Vec<&str> = parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("_pq_."))
        .collect();
    if minor == 0 && unknown.is_empty() {
        return;
    }
    put(&mut wire.outgoing, b'v', |body| {
        body.put_i32(3 << 16);
        body.put_i32(i32::try_from(unknown.len()).unwrap_or(0));
        unknown.iter().for_each(|name| put_text(body, name));
    });
}

/// The one database; clients that name none mean the one with the user's name.
fn expect_our_database(database: &str, user: &str) -> Result<(), Ended> {
    if database.is_empty() || database == CATALOG || database == user {
        return Ok(());
    }
    let message = format!("database \"{database}\" does not exist");
    let hint = format!("the database is called `{CATALOG}`");
    Err(Refusal::fatal(sqlstate::INVALID_CATALOG_NAME, message).hint(hint).into())
}

async fn authenticate(wire: &mut Wire, verifier: &Verifier, user: &str) -> Result<(), Ended> {
    put(&mut wire.outgoing, b'R', |body| {
        body.put_i32(10);
        put_text(body, MECHANISM);
        body.put_u8(0);
    });
    wire.flush().await?;
    let malformed = || refuse(sqlstate::PROTOCOL_VIOLATION, "malformed SCRAM message");
    let failed = |failure| match failure {
        Failure::Malformed => malformed(),
        Failure::Wrong => {
            let message = format!("password authentication failed for user \"{user}\"");
            refuse(sqlstate::INVALID_PASSWORD, message)
        }
    };
    let first = initial_response(password(wire).await?).ok_or_else(malformed)?;
    let challenge = verifier.challenge(&first, user == USER).map_err(failed)?;
    put(&mut wire.outgoing, b'R', |body| {
        body.put_i32(11);
        body.put_slice(challenge.text().as_bytes());
    });
    wire.flush().await?;
    let last = String::from_utf8(password(wire).await?.to_vec()).map_err(|_| malformed())?;
    let proof = challenge.verify(&last).map_err(failed)?;
    put(&mut wire.outgoing, b'R', |body| {
        body.put_i32(12);
        body.put_slice(proof.as_bytes());
    });
    Ok(())
}

async fn password(wire: &mut Wire) -> Result<Bytes, Ended> {
    match wire.message(STARTUP_BYTES_MAX).await? {
        Message::Password(bytes) => Ok(bytes),
        _ => Err(refuse(sqlstate::PROTOCOL_VIOLATION, "expected a password")),
    }
}

/// The client's first message of the one mechanism that is offered.
fn initial_response(mut body: Bytes) -> Option<String> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let mechanism = body.split_to(end);
    body.advance(1);
    let length = body.try_get_i32().ok()?;
    let is_whole = usize::try_from(length).is_ok_and(|length| length == body.len());
    if mechanism != MECHANISM.as_bytes() || !is_whole {
        return None;
    }
    String::from_utf8(body.to_vec()).ok()
}

/// The settings in `-c name=value` or `--name=value`; a backslash keeps a space.
fn options(text: &str) -> Vec<(String, String)> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => {
                let kept = characters.next().unwrap_or('\\');
                words.last_mut().into_iter().for_each(|word| word.push(kept));
            }
            c if c.is_whitespace() => words.push(String::new()),
            c => words.last_mut().into_iter().for_each(|word| word.push(c)),
        }
    }
    let mut settings = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match word.as_str() {
            "-c" => words.next().unwrap_or_default(),
            _ => word.trim_start_matches("-c").trim_start_matches("--").to_owned(),
        };
        if let Some((name, value)) = setting.split_once('=') {
            settings.push((name.replace('-', "_"), value.to_owned()));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_settings() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(options(""), []);
        assert_eq!(
            options("-c statement_timeout=5s --search-path=a\\ b -cgeqo=off"),
            [pair("statement_timeout", "5s"), pair("search_path", "a b"), pair("geqo", "off")]
        );
    }

    #[test]
    fn there_is_one_database() {
        for database in ["", "snowmelt", "anna"] {
            assert!(expect_our_database(database, "anna").is_ok(), "{database}");
        }
        assert!(expect_our_database("postgres", "anna").is_err());
    }
}
