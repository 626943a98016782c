//! Entries of the derived streams: taken apart one by one, and read side by side by the loader.
//!
//! The input is a list of entries: a byte that says to which stream one goes (bits 0 and 2) and whether its checksum is
//! made right (bit 1), its length, its bytes.

use std::sync::{Arc, LazyLock};

use assets::Driver;
use bytes::Bytes;
use enrich::iglu::Schemas;
use enrich::{Recipe, Settings};
use futures::executor::block_on;
use model::cut::Cut;
use speed::derived::Derived;
use speed::enricher::Progress;
use speed::loader::Loader;
use speed::output::{self, Rows};
use stream::Stream;
use stream::memory::Memory;
use views::catalog::Table;
use views::realtime::{Options, RealtimeView};

use crate::input::Input;

/// The recipe that the corpus names.
const RECIPE: &str = "r";

/// What is asked for the schemas of the events.
static RECIPE_IN_USE: LazyLock<Arc<Recipe>> =
    LazyLock::new(|| Arc::new(Recipe::new(Schemas::embedded(), Settings::default())));

pub(crate) fn entries(bytes: &[u8]) {
    let [enriched, bad, failed] = Derived::NAMES.map(|name| Memory::new(name, 1));
    let mut input = Input::new(bytes);
    while !input.is_empty() {
        let mode = input.byte();
        let mut entry = input.piece().to_vec();
        if mode & 2 != 0 {
            entry.extend_from_slice(&crc32c::crc32c(&entry).to_le_bytes());
        }
        let entry = Bytes::from(entry);
        take_apart(&entry);
        if !entry.is_empty() {
            let stream = match mode & 5 {
                0 => &enriched,
                1 => &bad,
                _ => &failed,
            };
            block_on(stream.append(&stream.partitions()[0], vec![entry]))
                .expect("a stream in memory takes all");
        }
    }
    load(&[enriched, bad, failed]);
}

fn take_apart(entry: &Bytes) {
    let Ok(part) = output::decode(entry) else { return };
    if (part.part, part.parts) != (0, 1) {
        return;
    }
    let Ok(rows) = output::rows(part.kind, &part.mark, part.rows, &part.body) else { return };
    let mut again = Rows::default();
    rows.iter().for_each(|row| again.push(row.offset, row.index, row.text));
    let written = output::encode(part.kind, &part.mark, &again, usize::MAX);
    assert_eq!(written.len(), 1);
    assert_eq!(output::decode(&written[0]).as_ref(), Ok(&part));
}

/// Nothing in the streams may stop the loader, and its frontier is what the view shows.
fn load(streams: &[Memory; 3]) {
    let view = Arc::new(RealtimeView::new(Options { memory_bytes_max: 1 << 30, spill: None }));
    let [enriched, bad, failed] =
        streams.each_ref().map(|stream| Arc::new(stream.clone()) as Arc<dyn Stream>);
    let streams = Derived { enriched, bad, failed };
    let (recipe, schemas) = (RECIPE.to_owned(), Driver::from(RECIPE_IN_USE.clone()));
    let mut loader = Loader::open(&streams, Arc::clone(&view), recipe, schemas, Cut::default())
        .expect("each stream has one partition");
    while loader.step().expect("entries that are wrong are left out") == Progress::Moved {}
    assert_eq!(view.frontier(RECIPE), loader.frontier());
    for chunk in &view.snapshot(RECIPE).chunks {
        for table in Table::ALL {
            assert_eq!(chunk.rows(table).expect("in memory").num_rows(), chunk.row_count(table));
        }
    }
}
