//! A PostgreSQL server of our own on a loopback port, in a folder that goes away with it.
//!
//! The programs are those of the system (`cargo xtask setup` installs them where it may), or of the folder that
//! `POSTGRESQL_BIN` names. Root starts it as the user `postgres`, since PostgreSQL refuses to be root's.

// Each test file compiles this one for itself, and none uses all of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long the server may take to start, and each statement of the set-up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who may sign in, and how; all have the password `s3cret`.
const USERS: [(&str, &str); 4] =
    [("trusted", "trust"), ("scram", "scram-sha-256"), ("hashed", "md5"), ("clear", "password")];

pub struct Database {
    pub port: u16,
    /// Whoever trusts this file trusts the server's certificate, which is for `localhost`.
    pub authority: PathBuf,
    bin: PathBuf,
    process: Child,
    folder: TempDir,
}

impl Database {
    /// The one server of this process, for as long as a test has it.
    pub fn shared() -> Arc<Database> {
        static SHARED: Mutex<Weak<Database>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = shared.upgrade() {
            return there;
        }
        let fresh = Arc::new(Database::start());
        *shared = Arc::downgrade(&fresh);
        fresh
    }

    pub fn start() -> Database {
        let bin = programs();
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        if is_root() {
            // The temporary folder is root's alone.
            run(Command::new("chmod").arg("755").arg(folder.path()));
            std::fs::create_dir(&data).unwrap();
            run(Command::new("chown").arg("postgres").arg(&data));
        }
        run(program(&bin, "initdb")
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&data));
        let authority = certificates(&data);
        let mut rules = "host all postgres 127.0.0.1/32 trust\n".to_owned();
        for (user, method) in USERS {
            rules.push_str(&format!("host all {user} 127.0.0.1/32 {method}\n"));
        }
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
        for name in ["server.crt", "server.key"].into_iter().filter(|_| is_root()) {
            run(Command::new("chown").arg("postgres").arg(data.join(name)));
        }
        run(Command::new("chmod").arg("600").arg(data.join("server.key")));
        let (process, port) = serve(&bin, &data);
        let database = Database { port, authority, bin, process, folder };
        let mut set_up = String::new();
        for (user, method) in USERS {
            let hash = if method == "md5" { "md5" } else { "scram-sha-256" };
            set_up.push_str(&format!(
                "SET password_encryption = '{hash}'; CREATE USER {user} PASSWORD 's3cret';"
            ));
        }
        database.run(&set_up);
        database
    }

    /// Stops the server at once, and starts it again on the same port.
    pub fn restart(&mut self) {
        self.stop();
        let data = self.folder.path().join("data");
        self.process = spawn(&self.bin, &data, self.port);
        assert!(is_ready(self.port, &mut self.process), "the server does not start again");
    }

    /// Runs statements as the owner of everything.
    pub fn run(&self, sql: &str) {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres"]);
        psql.args(["-d", "postgres", "-v", "ON_ERROR_STOP=1", "-q", "-c", sql]);
        let output = psql.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn stop(&mut self) {
        // SIGINT: ends its sessions, and itself in order.
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.process.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The folder of the server's programs.
fn programs() -> PathBuf {
    let named = std::env::var_os("POSTGRESQL_BIN").map(PathBuf::from);
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    found.sort();
    let mut all = named.into_iter().chain(found.into_iter().rev());
    all.find(|bin| bin.join("initdb").exists()).unwrap_or_else(|| {
        panic!(
            "no PostgreSQL server is installed: run `cargo xtask setup`, install it (Debian: postgresql), or set \
             POSTGRESQL_BIN to the folder with its initdb"
        )
    })
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn program(bin: &Path, name: &str) -> Command {
    if !is_root() {
        return Command::new(bin.join(name));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.arg(bin.join(name)).current_dir("/");
    command
}

fn serve(bin: &Path, data: &Path) -> (Child, u16) {
    for _attempt in 0..10 {
        // Somebody else may take the port in between.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut process = spawn(bin, data, port);
        if is_ready(port, &mut process) {
            return (process, port);
        }
    }
    panic!("the server does not start");
}

fn spawn(bin: &Path, data: &Path, port: u16) -> Child {
    let mut server = program(bin, "postgres");
    server.arg("-D").arg(data).args(["-p", &port.to_string()]);
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
        "ssl=on",
        "ssl_cert_file=server.crt",
        "ssl_key_file=server.key",
        "max_connections=40",
    ] {
        server.args(["-c", setting]);
    }
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Whether the server answers; not if it ends before.
fn is_ready(port: u16, process: &mut Child) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() && says_ready(port) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn says_ready(port: u16) -> bool {
    let mut ask = Command::new("pg_isready");
    ask.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
    ask.status().is_ok_and(|status| status.success())
}

/// Writes the server's key and certificate, and gives the file of the authority that has signed it.
fn certificates(data: &Path) -> PathBuf {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let certificate = server.signed_by(&key, &issuer).unwrap();
    std::fs::write(data.join("server.crt"), certificate.pem()).unwrap();
    std::fs::write(data.join("server.key"), key.serialize_pem()).unwrap();
    let file = data.parent().unwrap().join("authority.pem");
    std::fs::write(&file, authority_certificate.pem()).unwrap();
    file
}
