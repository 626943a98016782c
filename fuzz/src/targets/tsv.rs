//! Lines of the enriched TSV and texts of bad rows, as the loader finds them in the derived streams.

use model::event::EnrichedEvent;
use model::position::{Offset, Partition, Position};
use views::shred::{BadRowRows, EventRows};

fn position() -> Position {
    Position { partition: Partition::of_stream("raw", 0), offset: Offset::from_number(7), index: 1 }
}

/// `|` stands for a tab, of which a line has 130, unless there is one.
pub(crate) fn event(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.contains(['\n', '\r']) {
        // Not a line: nobody who splits lines would hand it on.
        return;
    }
    let line = if text.contains('\t') { text.to_owned() } else { text.replace('|', "\t") };
    let Ok(event) = EnrichedEvent::from_tsv(&line) else { return };
    let again = EnrichedEvent::from_tsv(&event.to_tsv()).expect("a line reads back");
    assert_eq!(again, event);
    let mut rows = EventRows::new();
    rows.push(&position(), &event);
    assert_eq!(rows.finish().num_rows(), 1);
}

pub(crate) fn bad_row(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut rows = BadRowRows::new();
    rows.push(&position(), text);
    assert_eq!(rows.finish().num_rows(), 1);
}
