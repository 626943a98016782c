//! One connection to a PostgreSQL database, blocking: one query at a time, answered in text.
//!
//! Each query runs in a read-only transaction of its own, which the server ends after the time that is left. What a
//! connection has seen go wrong decides whether it can be used again. Called by [`crate::look_up_sql`]; the messages are
//! those of the crate `postgres-protocol`.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use enrich::look_up::{Database, RowColumn, RowKind, Rows, SqlKind, SqlValue, Tls};
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{
    AuthenticationSaslBody, DataRowBody, ErrorResponseBody, Header, Message, RowDescriptionBody,
};
use postgres_protocol::message::frontend;
use postgres_protocol::{IsNull, Oid};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::any_certificate::AnyCertificate;

/// The largest answer, and the largest message of one.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The moment after which nothing is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    timeout_ms: u32,
}

/// Why there are no rows, in words without secrets.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The database has refused the query; the connection is as good as before.
    Query(String),
    /// The connection is of no use any more.
    Connection(String),
}

/// A connection that is signed in.
pub(crate) struct Connection {
    stream: Stream,
    received: BytesMut,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Deadline {
    pub(crate) fn after(timeout_ms: u32) -> Deadline {
        Deadline { at: Instant::now() + Duration::from_millis(timeout_ms.into()), timeout_ms }
    }

    /// What is left, or that nothing is.
    pub(crate) fn left(self) -> Result<Duration, Failure> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.passed()) } else { Ok(left) }
    }

    fn passed(self) -> Failure {
        Failure::Connection(format!("no answer within {} ms", self.timeout_ms))
    }
}

impl Connection {
    /// Connects and signs in.
    pub(crate) fn open(database: &Database, deadline: Deadline) -> Result<Connection, Failure> {
        let socket = connect(&database.host, database.port, deadline)?;
        let stream = match database.tls {
            Tls::Off => Stream::Plain(socket),
            Tls::Verified | Tls::Unverified => encrypt(socket, database, deadline)?,
        };
        let mut connection = Connection { stream, received: BytesMut::new() };
        connection.sign_in(database, deadline)?;
        Ok(connection)
    }

    /// The rows of one statement with its values.
    pub(crate) fn query(
        &mut self,
        statement: &str,
        values: &[SqlValue],
        deadline: Deadline,
    ) -> Result<Rows, Failure> {
        let left_ms = deadline.left()?.as_millis().max(1);
        let mut out = BytesMut::new();
        let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {left_ms}");
        let types = values.iter().map(|value| oid(value.kind));
        let text = |value: &SqlValue, out: &mut BytesMut| {
            out.extend_from_slice(value.text.as_bytes());
            Ok(IsNull::No)
        };
        // All in one go: a single wait for the answers.
        let written = frontend::query(&begin, &mut out)
            .and_then(|()| frontend::parse("", statement, types, &mut out))
            .and_then(|()| {
                let bound = frontend::bind("", "", [0], values, text, [0], &mut out);
                bound.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
            })
            .and_then(|()| frontend::describe(b'P', "", &mut out))
            .and_then(|()| frontend::execute("", 0, &mut out));
        // Nothing was sent yet, so the connection is as it was.
        written.map_err(|_| Failure::Query("a value holds a zero byte".to_owned()))?;
        frontend::sync(&mut out);
        frontend::query("COMMIT", &mut out).map_err(broken(deadline))?;
        self.send(&out, deadline)?;
        self.rows(deadline)
    }

    /// Reads up to the end of the three parts of [`Connection::query`].
    fn rows(&mut self, deadline: Deadline) -> Result<Rows, Failure> {
        let mut rows = Rows { columns: Vec::new(), rows: Vec::new() };
        let (mut refused, mut bytes, mut parts) = (None, 0_usize, 0);
        while parts < 3 {
            match self.receive(deadline)? {
                Message::RowDescription(body) => {
                    rows.columns = columns(&body).map_err(broken(deadline))?;
                }
                Message::DataRow(body) => {
                    bytes += body.buffer().len();
                    if bytes > ANSWER_BYTES_MAX {
                        return Err(Failure::Connection(too_large()));
                    }
                    rows.rows.push(row(&body)?);
                }
                Message::ErrorResponse(body) => {
                    let (is_fatal, what) = said(&body);
                    if is_fatal {
                        return Err(Failure::Connection(what));
                    }
                    refused = refused.or(Some(what));
                }
                Message::ReadyForQuery(body) => {
                    parts += 1;
                    if parts == 3 && body.status() != b'I' {
                        return Err(Failure::Connection("its transaction has no end".to_owned()));
                    }
                }
                Message::CopyInResponse(_) | Message::CopyOutResponse(_) => {
                    return Err(Failure::Connection("COPY is no query".to_owned()));
                }
                _ => {}
            }
        }
        match refused {
            Some(what) => Err(Failure::Query(what)),
            None => Ok(rows),
        }
    }

    fn sign_in(&mut self, database: &Database, deadline: Deadline) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        // What the answers are spelled with does not depend on the server's settings.
        let parameters = [
            ("user", database.username.as_str()),
            ("database", database.name.as_str()),
            ("application_name", "snowmelt"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("TimeZone", "UTC"),
        ];
        frontend::startup_message(parameters, &mut out).map_err(broken(deadline))?;
        self.send(&out, deadline)?;
        loop {
            let password = match self.receive(deadline)? {
                Message::AuthenticationCleartextPassword => match self.stream {
                    Stream::Tls(_) => database.password.clone(),
                    Stream::Plain(_) => {
                        return Err(Failure::Connection(
                            "it wants the password in clear over a connection without TLS (set `sslMode`, or \
                             scram-sha-256 in its pg_hba.conf)"
                                .to_owned(),
                        ));
                    }
                },
                Message::AuthenticationMd5Password(body) => md5_hash(
                    database.username.as_bytes(),
                    database.password.as_bytes(),
                    body.salt(),
                ),
                Message::AuthenticationSasl(body) => {
                    self.scram(&body, &database.password, deadline)?;
                    continue;
                }
                Message::ErrorResponse(body) => return Err(Failure::Connection(said(&body).1)),
                Message::ReadyForQuery(_) => return Ok(()),
                Message::AuthenticationOk
                | Message::BackendKeyData(_)
                | Message::ParameterStatus(_)
                | Message::NoticeResponse(_) => continue,
                _ => {
                    return Err(Failure::Connection(
                        "it asks for another kind of sign-in".to_owned(),
                    ));
                }
            };
            let mut out = BytesMut::new();
            frontend::password_message(password.as_bytes(), &mut out).map_err(broken(deadline))?;
            self.send(&out, deadline)?;
        }
    }

    fn scram(
        &mut self,
        offered: &AuthenticationSaslBody,
        password: &str,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        let mut mechanisms = offered.mechanisms();
        let mut is_offered = false;
        while let Some(mechanism) = mechanisms.next().map_err(broken(deadline))? {
            is_offered |= mechanism == sasl::SCRAM_SHA_256;
        }
        if !is_offered {
            return Err(Failure::Connection("it does not offer SCRAM-SHA-256".to_owned()));
        }
        let binding = sasl::ChannelBinding::unsupported();
        let mut scram = sasl::ScramSha256::new(password.as_bytes(), binding);
        let mut out = BytesMut::new();
        frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), &mut out)
            .map_err(broken(deadline))?;
        self.send(&out, deadline)?;
        loop {
            match self.receive(deadline)? {
                Message::AuthenticationSaslContinue(body) => {
                    scram.update(body.data()).map_err(broken(deadline))?;
                    let mut out = BytesMut::new();
                    frontend::sasl_response(scram.message(), &mut out).map_err(broken(deadline))?;
                    self.send(&out, deadline)?;
                }
                // The server, too, has to know the password.
                Message::AuthenticationSaslFinal(body) => {
                    return scram.finish(body.data()).map_err(broken(deadline));
                }
                Message::ErrorResponse(body) => return Err(Failure::Connection(said(&body).1)),
                _ => return Err(Failure::Connection("it breaks off the sign-in".to_owned())),
            }
        }
    }

    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), Failure> {
        self.stream.socket().set_write_timeout(Some(deadline.left()?)).map_err(broken(deadline))?;
        self.stream.write_all(bytes).map_err(broken(deadline))?;
        self.stream.flush().map_err(broken(deadline))
    }

    fn receive(&mut self, deadline: Deadline) -> Result<Message, Failure> {
        loop {
            if let Some(header) = Header::parse(&self.received).map_err(broken(deadline))?
                && usize::try_from(header.len()).map_or(true, |it| it > ANSWER_BYTES_MAX)
            {
                return Err(Failure::Connection(too_large()));
            }
            if let Some(message) = Message::parse(&mut self.received).map_err(broken(deadline))? {
                return Ok(message);
            }
            self.stream
                .socket()
                .set_read_timeout(Some(deadline.left()?))
                .map_err(broken(deadline))?;
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer).map_err(broken(deadline))? {
                0 => return Err(Failure::Connection("it has closed the connection".to_owned())),
                count => self.received.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut out = BytesMut::new();
        frontend::terminate(&mut out);
        // The server finds out without it, too.
        let _ = self.stream.socket().set_write_timeout(Some(Duration::from_millis(100)));
        let _ = self.stream.write_all(&out).and_then(|()| self.stream.flush());
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

fn connect(host: &str, port: u16, deadline: Deadline) -> Result<TcpStream, Failure> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let no_address = || Failure::Connection("its host has no address".to_owned());
    let addresses = (host, port).to_socket_addrs().map_err(|_| no_address())?;
    let mut failure = no_address();
    for address in addresses {
        match TcpStream::connect_timeout(&address, deadline.left()?) {
            Ok(socket) => {
                socket.set_nodelay(true).map_err(broken(deadline))?;
                return Ok(socket);
            }
            Err(error) => failure = broken(deadline)(error),
        }
    }
    Err(failure)
}

fn encrypt(
    mut socket: TcpStream,
    database: &Database,
    deadline: Deadline,
) -> Result<Stream, Failure> {
    let mut out = BytesMut::new();
    frontend::ssl_request(&mut out);
    socket.set_write_timeout(Some(deadline.left()?)).map_err(broken(deadline))?;
    socket.set_read_timeout(Some(deadline.left()?)).map_err(broken(deadline))?;
    socket.write_all(&out).map_err(broken(deadline))?;
    let mut answer = [0];
    socket.read_exact(&mut answer).map_err(broken(deadline))?;
    if answer != *b"S" {
        return Err(Failure::Connection("it offers no TLS".to_owned()));
    }
    let host = database.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host)
        .map_err(|_| Failure::Connection("its host is no name for TLS".to_owned()))?;
    let tls = ClientConnection::new(Arc::new(tls_config(database.tls)?), name);
    let tls = tls.map_err(|error| Failure::Connection(format!("TLS: {error}")))?;
    let mut stream = StreamOwned::new(tls, socket);
    while stream.conn.is_handshaking() {
        let socket = stream.get_ref();
        socket.set_read_timeout(Some(deadline.left()?)).map_err(broken(deadline))?;
        let StreamOwned { conn, sock } = &mut stream;
        conn.complete_io(sock).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Failure::Connection(format!("TLS: {error}")),
            _ => broken(deadline)(error),
        })?;
    }
    Ok(Stream::Tls(Box::new(stream)))
}

fn tls_config(tls: Tls) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Connection(format!("TLS: {error}")))?;
    if tls == Tls::Unverified {
        let any = Arc::new(AnyCertificate::new(provider));
        let dangerous = builder.dangerous().with_custom_certificate_verifier(any);
        return Ok(dangerous.with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What an error of the connection is called.
fn broken(deadline: Deadline) -> impl Fn(io::Error) -> Failure {
    move |error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => deadline.passed(),
        // What the server has sent may stand in the text.
        kind => Failure::Connection(kind.to_string()),
    }
}

fn too_large() -> String {
    format!("the answer is larger than {ANSWER_BYTES_MAX} bytes")
}

/// Whether the server ends the connection, and what it says.
fn said(body: &ErrorResponseBody) -> (bool, String) {
    let mut fields = body.fields();
    let (mut severity, mut code, mut text) = (String::new(), String::new(), String::new());
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'V' => severity = value,
            b'C' => code = value,
            b'M' => text = value,
            _ => {}
        }
    }
    (severity == "FATAL" || severity == "PANIC", format!("{text} ({code})"))
}

fn columns(body: &RowDescriptionBody) -> io::Result<Vec<RowColumn>> {
    let fields = body.fields();
    fields
        .map(|field| Ok(RowColumn { label: field.name().to_owned(), kind: kind(field.type_oid()) }))
        .collect()
}

fn row(body: &DataRowBody) -> Result<Vec<Option<String>>, Failure> {
    let odd = || Failure::Connection("it sends what is no row".to_owned());
    let mut ranges = body.ranges();
    let mut row = Vec::new();
    while let Some(range) = ranges.next().map_err(|_| odd())? {
        let text = range.map(|range| body.buffer().get(range).map(<[u8]>::to_vec));
        row.push(match text {
            None => None,
            Some(bytes) => Some(String::from_utf8(bytes.ok_or_else(odd)?).map_err(|_| odd())?),
        });
    }
    Ok(row)
}

/// The type that a value is declared with. Texts are `varchar`, as Java's driver declares them.
fn oid(kind: SqlKind) -> Oid {
    match kind {
        SqlKind::Boolean => 16,
        SqlKind::Short => 21,
        SqlKind::Integer => 23,
        SqlKind::Long => 20,
        SqlKind::Float => 700,
        SqlKind::Double => 701,
        SqlKind::Decimal => 1700,
        SqlKind::Text => 1043,
    }
}

fn kind(oid: Oid) -> RowKind {
    match oid {
        16 => RowKind::Boolean,
        20 | 21 | 23 | 26 => RowKind::Integer,
        700 | 701 => RowKind::Float,
        // "char", name, text, char(n), varchar, and a literal without a type.
        18 | 19 | 25 | 1042 | 1043 | 705 => RowKind::Text,
        1082 => RowKind::Date,
        _ => RowKind::Other,
    }
}
