//! Who is let in and how: SCRAM, TLS, the limit of connections; settings, transactions and sessions of those who are.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use serving::config::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::*;

#[test]
fn the_password_opens_and_nothing_else_does() {
    let site = Site::with(&Config { password: Some(Secret::new("s3cret ü")), ..config() });
    run(async {
        let attempt = async |user: &str, password: Option<&str>| {
            let mut options = options(site.address());
            options.user(user);
            password.into_iter().for_each(|password| _ = options.password(password));
            connect_with(&options).await
        };
        let client = attempt("snowmelt", Some("s3cret ü")).await.unwrap();
        assert_eq!(client.query("select 1", &[]).await.unwrap().len(), 1);
        let mut messages = Vec::new();
        for (user, password) in
            [("snowmelt", "s3cret"), ("snowmelt", ""), ("postgres", "s3cret ü"), ("anna", "x")]
        {
            let error = attempt(user, Some(password)).await.err().unwrap();
            assert_eq!(error.as_db_error().unwrap().code().code(), "28P01", "{user} {password}");
            messages.push(error.as_db_error().unwrap().message().replace(user, "USER"));
        }
        messages.dedup();
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(attempt("snowmelt", None).await.is_err());
    });
    site.stop();
}

/// Makes a certificate and its key in these files, and gives it back.
fn certify(cert: &Path, key: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(cert, made.cert.pem()).unwrap();
    std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// Asks for TLS, and trusts this certificate alone.
async fn encrypted(
    site: &Site,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut socket = TcpStream::connect(site.address()).await.unwrap();
    socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'S');
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, socket).await
}

#[test]
fn a_renewed_certificate_is_used_from_the_reload_on_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let first = certify(&cert, &key);
    let with_tls = Config { tls_cert: Some(cert.clone()), tls_key: Some(key.clone()), ..config() };
    let site = Site::with(&with_tls);
    let reload = site.server.reloader();
    run(async {
        assert!(encrypted(&site, &first).await.is_ok());
        let second = certify(&cert, &key);
        assert!(encrypted(&site, &second).await.is_err(), "nobody has asked for it");
        reload().unwrap();
        assert!(encrypted(&site, &second).await.is_ok());
        assert!(encrypted(&site, &first).await.is_err());
        std::fs::write(&cert, "half of a file").unwrap();
        let error = reload().unwrap_err().to_string();
        assert!(error.contains("tls-cert") && error.contains("cert.pem"), "{error}");
        assert!(encrypted(&site, &second).await.is_ok());
    });
    site.stop();
}

#[test]
fn tls_is_spoken_where_there_is_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let made = certify(&cert, &key);
    let with_tls = Config { tls_cert: Some(cert), tls_key: Some(key), ..config() };
    let site = Site::with(&Config { password: Some(Secret::new("s3cret")), ..with_tls });
    run(async {
        let stream = encrypted(&site, &made).await.unwrap();
        let mut options = tokio_postgres::Config::new();
        options
            .user("snowmelt")
            .password("s3cret")
            .ssl_mode(tokio_postgres::config::SslMode::Disable);
        let (client, connection) = options.connect_raw(stream, NoTls).await.unwrap();
        tokio::spawn(connection);
        let row = client.query_one("select count(*) from atomic.events", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 16);
        // In the clear it is let in too, as long as it knows the password.
        let mut plain = super::options(site.address());
        plain.user("snowmelt").password("s3cret");
        assert!(connect_with(&plain).await.is_ok());
        // What follows the request in the clear is not taken for what comes encrypted.
        let mut socket = TcpStream::connect(site.address()).await.unwrap();
        socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47, 0, 0, 0, 8, 0, 3, 0, 0]).await.unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        assert_eq!(answer, b"S");
    });
    site.stop();
}

#[test]
fn tls_is_declined_where_there_is_none() {
    let site = Site::start();
    run(async {
        let mut socket = TcpStream::connect(site.address()).await.unwrap();
        socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 48]).await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'N', "GSS");
        socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'N', "TLS");
        let mut options = tokio_postgres::Config::new();
        options.user("anna").ssl_mode(tokio_postgres::config::SslMode::Disable);
        let (client, connection) = options.connect_raw(socket, NoTls).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(client.query("select 1", &[]).await.unwrap().len(), 1);
    });
    site.stop();
}

#[test]
fn a_certificate_that_cannot_be_read_stops_the_start() {
    let world = World::new(small_log());
    let missing = Some(world.dir.path().join("missing.pem"));
    let both = Config { tls_cert: missing.clone(), tls_key: missing.clone(), ..config() };
    let error = serve(&world, &both).unwrap_err().to_string();
    assert!(error.contains("server.tls-cert") && error.contains("missing.pem"), "{error}");
    let one = Config { tls_cert: missing, ..config() };
    assert!(serve(&world, &one).unwrap_err().to_string().contains("server.tls-key"));
}

#[test]
fn one_client_too_many_is_told_so() {
    let site = Site::with(&Config { pg_connections: 2, ..config() });
    run(async {
        let first = connect(site.address()).await;
        let second = connect(site.address()).await;
        let error = connect_with(&options(site.address())).await.err().unwrap();
        assert_eq!(state(&error), ("53300", true));
        // Cancelling needs no place.
        first.cancel_token().cancel_query(NoTls).await.unwrap();
        drop(second);
        while connect_with(&options(site.address())).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    site.stop();
}

#[test]
fn a_silent_client_is_shown_out() {
    let site = Site::with(&Config { pg_idle_timeout: Duration::from_secs(2), ..config() });
    run(async {
        let client = connect(site.address()).await;
        while !client.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    site.stop();
}

#[test]
fn stopping_ends_sessions_and_lets_statements_finish() {
    let site = Site::start();
    run(async {
        let idle = connect(site.address()).await;
        let client = connect(site.address()).await;
        let sql = "select count(*) from generate_series(1, 3000000) a(x) where x % 7 = 3";
        let statement = client.prepare(sql).await.unwrap();
        let running = tokio::spawn(async move { client.query_one(&statement, &[]).await });
        let metrics = |site: &Site| crate::api::metrics(site.server.http);
        while !metrics(&site).contains("snowmelt_sql_running 1") {
            tokio::task::yield_now().await;
        }
        let stopping = tokio::task::spawn_blocking(move || site.stop());
        let row = running.await.unwrap().unwrap();
        assert_eq!(row.get::<_, i64>(0), 428_572);
        stopping.await.unwrap();
        while !idle.is_closed() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_taken_port_is_named_with_its_key() {
    let world = World::new(small_log());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = serve(&world, &Config { pg_port: port, ..config() }).unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("server.pg-port"));
}

#[test]
fn a_transaction_is_what_the_client_believes_it_is_in() {
    let site = Site::start();
    run(async {
        let mut client = connect(site.address()).await;
        let transaction = client.transaction().await.unwrap();
        assert_eq!(transaction.query("select 1", &[]).await.unwrap().len(), 1);
        assert_eq!(state(&transaction.query("select nothing", &[]).await.unwrap_err()).0, "42703");
        let ignored = transaction.query("select 1", &[]).await.unwrap_err();
        assert_eq!(state(&ignored).0, "25P02");
        transaction.rollback().await.unwrap();
        client.batch_execute("begin; select 1; savepoint s; rollback to s; commit").await.unwrap();
        let error = client.batch_execute("select 1; select nothing; select 2").await.unwrap_err();
        assert_eq!(state(&error).0, "42703");
        client
            .batch_execute(
                "select pg_advisory_unlock_all(); close all; unlisten *; reset all; discard all",
            )
            .await
            .unwrap();
        let transaction = client.transaction().await.unwrap();
        let portal = transaction.bind("select event_id from atomic.events", &[]).await.unwrap();
        let mut counts = Vec::new();
        for _ in 0..4 {
            counts.push(transaction.query_portal(&portal, 6).await.unwrap().len());
        }
        assert_eq!(counts, [6, 6, 4, 0]);
        transaction.commit().await.unwrap();
        assert_eq!(client.query("select 1", &[]).await.unwrap().len(), 1);
    });
    site.stop();
}

#[test]
fn settings_belong_to_one_session() {
    let site = Site::start();
    run(async {
        let mut with_options = options(site.address());
        with_options.application_name("test").options("-c search_path=lambda");
        let client = connect_with(&with_options).await.unwrap();
        let other = connect(site.address()).await;
        let show = async |client: &Client, name: &str| {
            let answer = client.simple_query(&format!("show {name}")).await.unwrap();
            answer.iter().find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
        };
        assert_eq!(show(&client, "application_name").await.as_deref(), Some("test"));
        assert_eq!(show(&other, "application_name").await.as_deref(), Some(""));
        assert_eq!(show(&client, "server_version").await.as_deref(), Some("15.0"));
        assert_eq!(
            show(&client, "transaction isolation level").await.as_deref(),
            Some("read committed")
        );
        assert_eq!(client.query("select * from cut", &[]).await.unwrap().len(), 2);
        assert!(other.query("select * from cut", &[]).await.is_err());
        assert_eq!(other.query("select 1 from events limit 1", &[]).await.unwrap().len(), 1);
        let wrong = options(site.address()).dbname("postgres").clone();
        assert_eq!(state(&connect_with(&wrong).await.err().unwrap()), ("3D000", true));
    });
    site.stop();
}
