//! The Postgres wire over real sockets, with tokio-postgres and with bytes written by hand.

mod access;
mod clients;
mod hostile;
mod limits;
mod types;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use serving::Config;
use serving::server::Running;
use tokio_postgres::{Client, NoTls};

use crate::api::{config, serve};
use crate::world::*;

/// A server over the small log, half of it below the cut.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) server: Running,
}

impl Site {
    pub(crate) fn start() -> Site {
        Site::with(&config())
    }

    pub(crate) fn with(config: &Config) -> Site {
        Site::over(World::new(small_log()), config)
    }

    pub(crate) fn over(world: World, config: &Config) -> Site {
        world.see_all();
        world.commit(&cut(&[(0, 6), (1, 5)]));
        let server = serve(&world, config).unwrap();
        Site { world, server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.pg
    }

    pub(crate) fn stop(self) {
        assert!(self.server.shutdown(Duration::from_secs(60)), "something had to be cancelled");
    }
}

/// Runs a test's client.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), test).await.unwrap() })
}

pub(crate) fn options(address: SocketAddr) -> tokio_postgres::Config {
    let mut options = tokio_postgres::Config::new();
    options.host(address.ip().to_string()).port(address.port()).user("anna").dbname("snowmelt");
    options
}

/// A connection that ends when its client is dropped.
pub(crate) async fn connect(address: SocketAddr) -> Client {
    connect_with(&options(address)).await.unwrap()
}

pub(crate) async fn connect_with(
    options: &tokio_postgres::Config,
) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = options.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The SQLSTATE of an error, and whether it has a hint.
pub(crate) fn state(error: &tokio_postgres::Error) -> (&str, bool) {
    match error.as_db_error() {
        Some(error) => (error.code().code(), error.hint().is_some()),
        None => panic!("not an error of the server: {error:?}"),
    }
}
