//! Raw records to Parquet, all steps on the real disk: archive, read back, enrich, write, commit.
//!
//! `cargo bench -p batch` prints events per second, and how that compares with a bound taken in the same run: writing the
//! same rows as Parquet alone, on one thread. `EVENTS=1000000` sets another number than 200,000.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use batch::archiver::{self, Archiver};
use batch::batcher::{self, Batcher};
use bytes::Bytes;
use enrich::iglu::Schemas;
use enrich::{Recipe, Settings};
use futures::executor::block_on;
use model::cut::Cut;
use model::payload::{CollectorPayload, SCHEMA};
use model::position::Range;
use model::time::{Clock, Timestamp};
use stream::Stream;
use stream::disk::Disk;
use stream::memory::Memory;
use views::catalog::{Catalog, Manifest};
use views::tables::{self, Lot};

#[derive(Debug)]
struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000)
    }
}

/// A page view as a browser sends it, about 1 KB with its headers.
fn record(n: u32) -> Vec<u8> {
    let agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
    let querystring = format!(
        "e=pv&p=web&tv=js-4.6.0&aid=shop&eid=00000000-0000-4000-8000-{n:012}&dtm=17000000{:05}&stm=17000000{:05}\
         &url=https%3A%2F%2Fshop.example.org%2Fproducts%2F{n}%3Futm_source%3Dnewsletter%26utm_medium%3Demail&page=Product%20{n}\
         &refr=https%3A%2F%2Fwww.example.com%2Fsearch%3Fq%3Dshoes&duid=11111111-2222-4333-8444-{:012}&vid=3&res=1920x1080\
         &vp=1280x720&ds=1280x4000&cs=UTF-8&lang=en-GB&cd=24&tz=Europe%2FBerlin",
        n % 100_000,
        n % 100_000,
        n % 5000,
    );
    let payload = CollectorPayload {
        ip_address: "192.0.2.1".to_owned(),
        timestamp: 1_700_000_000_000 + i64::from(n),
        encoding: "UTF-8".to_owned(),
        collector: "snowmelt-0.1.0-log".to_owned(),
        user_agent: Some(agent.to_owned()),
        path: Some("/i".to_owned()),
        querystring: Some(querystring),
        headers: Some(vec![
            "Host: collector.example.org".to_owned(),
            format!("User-Agent: {agent}"),
            "Accept: image/avif,image/webp,*/*;q=0.8".to_owned(),
        ]),
        hostname: Some("collector.example.org".to_owned()),
        schema: SCHEMA.to_owned(),
        ..CollectorPayload::default()
    };
    payload.encode()
}

fn main() {
    let events: u32 =
        std::env::var("EVENTS").map_or(200_000, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (files, data) = (Arc::new(Disk), folder.path());
    let raw = Arc::new(Memory::new("raw", 2));
    for n in 0..events {
        let partition = &raw.partitions()[(n % 2) as usize];
        block_on(raw.append(partition, vec![Bytes::from(record(n))]))
            .expect("memory takes records");
    }
    let recipe = Recipe::new(Schemas::embedded(), Settings::default());
    let first = || {
        assets::pin(&Disk, data, &recipe)?;
        Ok(Manifest::first(recipe.digest(), &Timestamp(0).to_iso()))
    };
    let catalog = Arc::new(Catalog::open(files.clone(), data, first).expect("a catalogue"));

    let config = archiver::Config { file_bytes_max: 32 << 20 };
    let (started, cut) = (Instant::now(), Cut::default());
    let mut archiver = Archiver::new(raw.clone(), files.clone(), data.to_owned(), &cut, config)
        .expect("an empty master dataset");
    archiver.flush().expect("the archive");
    let archiving = started.elapsed();
    report("archive", events, archiving);

    let workers = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let config = batcher::Config { workers, ..batcher::Config::default() };
    let mut batcher =
        Batcher::new(catalog, files, data.to_owned(), raw.partitions(), Arc::new(Fixed), config);
    let started = Instant::now();
    let iterated = batcher.iterate(&recipe).expect("an iteration");
    let iterating = started.elapsed();
    report(&format!("iterate with {workers} workers"), events, iterating);

    let bytes = |sizes: &mut dyn Iterator<Item = u64>| sizes.sum::<u64>() / u64::from(events);
    let counts = iterated.manifest.ledger.iter().map(|entry| entry.counts.enriched).sum::<u64>();
    let table = bytes(&mut iterated.manifest.files.iter().map(|file| file.bytes));
    println!("batch: {counts} enriched, {table} bytes of Parquet per event");

    let mut writing = Duration::ZERO;
    for file in &iterated.manifest.files {
        let rows = tables::read(&Disk, data, file).expect("a file of the manifest");
        let partition = file.partition.clone();
        let range = Range { partition, from: file.from, to: file.to };
        let started = Instant::now();
        let lot = Lot::Generation(u64::MAX);
        tables::write(&Disk, data, file.table, &range, lot, &file.recipe, &rows).expect("a file");
        writing += started.elapsed();
    }
    let bound = report("writing Parquet alone, 1 thread", events, writing);
    let all = f64::from(events) / (archiving + iterating).as_secs_f64() / workers.get() as f64;
    println!("batch: all steps: {all:.0} events/s/core; ratio to Parquet alone {:.2}", all / bound);
}

fn report(what: &str, events: u32, took: Duration) -> f64 {
    let rate = f64::from(events) / took.as_secs_f64();
    println!("batch: {what}: {events} events in {took:.2?}, {rate:.0} per second");
    rate
}
