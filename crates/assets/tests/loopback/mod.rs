//! An Iglu registry of our own on a loopback port: it has what a test puts there, and misbehaves as told.
//!
//! One thread per connection, kept alive between requests. Dropping it ends all of them, so that the next connection is
//! refused; [`Registry::at`] brings it back on the same port.

// Each test file compiles this one for itself, and none uses all of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

/// How a path is answered.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Status, headers that end with a line break, body.
    Says(u16, String, Vec<u8>),
    /// Nothing, until the registry is dropped.
    Hangs,
    /// The connection ends in the middle of the answer.
    BreaksOff,
    /// The whole answer, byte by byte for ever.
    Endless,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

#[derive(Default)]
struct State {
    paths: BTreeMap<String, Behaviour>,
    /// For every path.
    all: Option<Behaviour>,
    requests: Vec<Request>,
    connections: Vec<TcpStream>,
    over: bool,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

pub struct Registry {
    pub address: SocketAddr,
    shared: Shared,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    pub fn start() -> Registry {
        Registry::at("127.0.0.1:0".parse().unwrap())
    }

    /// On this very port, which may take a moment after another one was there.
    pub fn at(address: SocketAddr) -> Registry {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let listener = loop {
            match TcpListener::bind(address) {
                Ok(listener) => break listener,
                Err(error) if std::time::Instant::now() > deadline => panic!("{address}: {error}"),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
            }
        };
        let address = listener.local_addr().unwrap();
        let shared = Shared::default();
        let accepting = Arc::clone(&shared);
        let thread = std::thread::spawn(move || accept(&listener, &accepting));
        Registry { address, shared, thread: Some(thread) }
    }

    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Publishes a schema that wants `arms` to be of this type; `path` as in `com.acme/a/jsonschema/1-0-0`.
    pub fn publish(&self, path: &str, arms: &str) {
        self.answer(path, 200, &schema(path, arms).to_string());
    }

    pub fn answer(&self, path: &str, status: u16, body: &str) {
        let says = Behaviour::Says(status, String::new(), body.as_bytes().to_vec());
        self.behave(path, says);
    }

    pub fn behave(&self, path: &str, behaviour: Behaviour) {
        self.behave_at(&format!("/schemas/{path}"), behaviour);
    }

    /// As [`Registry::behave`], for a server that is no registry: the whole path with its query.
    pub fn behave_at(&self, path: &str, behaviour: Behaviour) {
        self.shared.0.lock().unwrap().paths.insert(path.to_owned(), behaviour);
    }

    /// How a whole path is answered.
    pub fn answer_at(&self, path: &str, status: u16, body: &str) {
        let says = Behaviour::Says(status, String::new(), body.as_bytes().to_vec());
        self.behave_at(path, says);
    }

    /// How everything is answered, whatever was published; `None` to be as before.
    pub fn behave_always(&self, behaviour: Option<Behaviour>) {
        self.shared.0.lock().unwrap().all = behaviour;
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.0.lock().unwrap().requests.clone()
    }

    /// Connections that were ever made.
    pub fn connections(&self) -> usize {
        self.shared.0.lock().unwrap().connections.len()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        {
            let mut state = self.shared.0.lock().unwrap();
            state.over = true;
            for connection in &state.connections {
                let _ = connection.shutdown(std::net::Shutdown::Both);
            }
        }
        self.shared.1.notify_all();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn schema(path: &str, arms: &str) -> Value {
    let parts: Vec<&str> = path.split('/').collect();
    json!({
        "$schema": "http://iglucentral.com/schemas/com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0#",
        "self": {"vendor": parts[0], "name": parts[1], "format": parts[2], "version": parts[3]},
        "type": "object",
        "properties": {"arms": {"type": arms}},
        "required": ["arms"],
    })
}

fn accept(listener: &TcpListener, shared: &Shared) {
    let mut threads = Vec::new();
    for connection in listener.incoming() {
        let Ok(connection) = connection else { break };
        {
            let mut state = shared.0.lock().unwrap();
            if state.over {
                break;
            }
            state.connections.push(connection.try_clone().unwrap());
        }
        let shared = Arc::clone(shared);
        threads.push(std::thread::spawn(move || serve(connection, &shared)));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn serve(connection: TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    let mut writer = connection;
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let mut words = lines.first()?.split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
        let headers: Vec<(String, String)> =
            headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.and_then(|(_, length)| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body = String::from_utf8(body).ok()?;
        let behaviour = {
            let mut state = shared.0.lock().unwrap();
            state.requests.push(Request { method, path: path.clone(), headers, body });
            let behaviour = state.all.as_ref().or_else(|| state.paths.get(&path));
            behaviour.cloned().unwrap_or(Behaviour::Says(404, String::new(), b"{}".to_vec()))
        };
        match behaviour {
            Behaviour::Says(status, headers, body) => {
                let head = format!(
                    "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n{headers}\r\n",
                    body.len()
                );
                writer.write_all(head.as_bytes()).ok()?;
                writer.write_all(&body).ok()?;
            }
            Behaviour::Hangs => {
                let state = shared.0.lock().unwrap();
                drop(shared.1.wait_while(state, |state| !state.over));
                return None;
            }
            Behaviour::BreaksOff => {
                writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{").ok()?;
                let _ = writer.shutdown(std::net::Shutdown::Both);
                return None;
            }
            Behaviour::Endless => {
                writer.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
                loop {
                    writer.write_all(&[b' '; 4096]).ok()?;
                }
            }
        }
    }
}
