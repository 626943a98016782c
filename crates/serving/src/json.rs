//! The JSON of one answer, collected in segments within the memory limit.
//!
//! Called by the engine for the API: the rows of a statement go straight into the bytes that are sent, so that nothing
//! holds an answer twice.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::execution::memory_pool::MemoryReservation;
use model::cut::Cut;
use views::lambda::Pin;

use crate::answer;
use crate::error::Error;

/// Bytes after which a segment of the answer is closed.
const SEGMENT_BYTES: usize = 64 << 10;

/// The JSON of one answer in segments, and how much there is of it.
pub struct Answer {
    segments: Vec<Bytes>,
    pub rows: u64,
    /// Counts the segments against the memory limit until they are sent.
    reservation: MemoryReservation,
}

impl Answer {
    /// The segments in their order; their memory is given back when the iterator is dropped.
    pub fn into_segments(self) -> impl Iterator<Item = Bytes> + Send {
        let Answer { segments, reservation, rows: _ } = self;
        segments.into_iter().inspect(move |segment| reservation.shrink(segment.len()))
    }

    /// The whole answer as one text.
    pub fn to_json(&self) -> Vec<u8> {
        self.segments.concat()
    }
}

/// Collects the answer within the memory limit.
pub(crate) struct AnswerWriter {
    segments: Vec<Bytes>,
    open: String,
    rows: u64,
    reservation: MemoryReservation,
}

impl AnswerWriter {
    /// Begins with the columns.
    ///
    /// # Errors
    /// [`Error::Memory`], as for everything else here.
    pub(crate) fn new(
        schema: &SchemaRef,
        names: &[String],
        reservation: MemoryReservation,
    ) -> Result<AnswerWriter, Error> {
        let mut writer =
            AnswerWriter { segments: Vec::new(), open: String::new(), rows: 0, reservation };
        writer.push(&answer::opening(schema, names))?;
        Ok(writer)
    }

    pub(crate) fn rows(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let before = self.open.len();
        answer::write_rows(&mut self.open, rows, self.rows == 0)
            .map_err(|error| Error::Execution(error.to_string()))?;
        self.rows += rows.num_rows() as u64;
        self.count(self.open.len() - before)
    }

    /// Ends with what the answer rests on. `served` is the generation that answers when none is named, told when one
    /// was named.
    pub(crate) fn finish(mut self, pin: &Pin, served: Option<u64>) -> Result<Answer, Error> {
        self.push(&closing(pin, served))?;
        self.segments.push(self.open.into());
        Ok(Answer { segments: self.segments, rows: self.rows, reservation: self.reservation })
    }

    fn push(&mut self, text: &str) -> Result<(), Error> {
        self.open.push_str(text);
        self.count(text.len())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.reservation.try_grow(bytes)?;
        if self.open.len() >= SEGMENT_BYTES {
            let mut segment = std::mem::take(&mut self.open);
            segment.shrink_to_fit();
            self.segments.push(segment.into());
        }
        Ok(())
    }
}

fn closing(pin: &Pin, served: Option<u64>) -> String {
    let vector =
        |vector: &Cut| serde_json::to_string(vector).expect("a vector of positions is JSON");
    let mut text = format!(
        "\n],\"cut\":{},\"frontier\":{},\"iteration\":{}",
        vector(&pin.manifest.cut),
        vector(&pin.frontier),
        pin.manifest.iteration
    );
    let generation = pin.manifest.generation;
    match served {
        None => {}
        Some(served) if served == generation => {
            text.push_str(&format!(",\"generation\":{generation}"));
        }
        Some(served) => text.push_str(&format!(
            ",\"generation\":{generation},\"note\":\"generation {generation} answers for the positions below its cut, \
             without the real-time view; generation {served} is served\""
        )),
    }
    text.push_str("}\n");
    text
}
