//! The function itself: a raw record through decoding, adapters and the three phases of every event.
//!
//! All phases of an event always run, and it gets at most one bad row: of the first phase that found something.
//! Snowplow: `enrich-core.md` 0, 3 and 7.3.

use std::cell::{OnceCell, RefCell};
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::bad_row::{BadRow, EventView, FormatMessage};
use model::event::EnrichedEvent;
use model::failed::{FailedEvent, Failure};
use model::iglu::SchemaKey;
use model::position::RawRecord;
use model::time::Timestamp;
use serde_json::Value;

use crate::collector_row;
use crate::container::{self, Contents, Entry};
use crate::enrichments::{self, Rewritten, Work};
use crate::entity::{self, Entity};
use crate::look_up::{Answers, Asking, Question};
use crate::request::{Parameters, Request};
use crate::self_describing::{CONTEXTS, Checked, Checker, UNSTRUCT_EVENT};
use crate::validate::AtomicErrors;
use crate::wrong::Wrong;
use crate::{
    ARTIFACT, Missing, Outcome, Recipe, VERSION, adapters, client_ip, convert, event_id, loader,
    parameters, processor,
};

/// The column of that name.
static V_ETL: LazyLock<String> = LazyLock::new(|| format!("{ARTIFACT}-{VERSION}"));

/// The length of the `etl_tstamp` that the layer stamps on an event.
const ETL_TSTAMP_BYTES: usize = "2026-11-22 10:00:00.123".len();

/// Enriches one raw record. Gives at least one outcome; an outcome's index is its place.
///
/// # Errors
/// When something must be asked first: all that one look at the record can find. Never for a recipe without a resolver
/// and without enrichments that look up.
pub fn enrich(record: &RawRecord<'_>, recipe: &Recipe) -> Result<Vec<Outcome>, Missing> {
    enrich_knowing(record, recipe, &Answers::default())
}

/// The same for a record about which some look-ups were answered already.
///
/// # Errors
/// As [`enrich`], for what else must be asked.
pub fn enrich_knowing(
    record: &RawRecord<'_>,
    recipe: &Recipe,
    answers: &Answers,
) -> Result<Vec<Outcome>, Missing> {
    let (open, asked) = (RefCell::default(), RefCell::default());
    let (outcomes, pii) = (Vec::new(), Vec::new());
    let mut run = Run { record, recipe, answers, open, asked, outcomes, pii };
    match container::open(record.bytes, recipe.settings()) {
        Contents::Bare(bytes) => match collector_row::read(bytes) {
            Some(row) => run.bad(row, Timestamp(0)),
            None => run.payload(bytes),
        },
        Contents::Container(entries) => entries.for_each(|entry| run.entry(entry)),
    }
    if run.outcomes.is_empty() {
        // A container of no payloads: the record must not vanish.
        run.unreadable("empty compressed payload".to_owned());
    }
    let mut schemas = run.open.into_inner();
    let mut look_ups = run.asked.into_inner();
    if schemas.is_empty() && look_ups.is_empty() {
        run.outcomes.extend(run.pii.into_iter().map(Box::new).map(Outcome::Pii));
        return Ok(run.outcomes);
    }
    schemas.sort();
    schemas.dedup();
    if !schemas.is_empty() {
        look_ups.clear();
    }
    look_ups.sort_by_cached_key(Question::digest);
    look_ups.dedup_by(|a, b| a.digest() == b.digest());
    Err(Missing { schemas, look_ups })
}

/// One record on its way.
struct Run<'a> {
    record: &'a RawRecord<'a>,
    recipe: &'a Recipe,
    /// Questions that nobody has answered; if there are any, the outcomes are not.
    open: RefCell<Vec<SchemaKey>>,
    /// What was answered about this record.
    answers: &'a Answers,
    /// Look-ups that nobody has answered; as above.
    asked: RefCell<Vec<Question>>,
    outcomes: Vec<Outcome>,
    /// What was pseudonymised in their events.
    pii: Vec<EnrichedEvent>,
}

impl<'a> Run<'a> {
    fn entry(&mut self, entry: Entry) {
        match entry {
            Entry::Payload(bytes) => self.payload(&bytes),
            Entry::UnsupportedVersion(a, b) => {
                self.unreadable(format!(
                    "Unsupported versions in compressed record header: {a}, {b}"
                ));
            }
            Entry::Corrupt => self.unreadable("corrupt compressed payload".to_owned()),
            Entry::TooLarge(length) => {
                let maximum = self.recipe.settings().payload_bytes_max;
                let row = BadRow::SizeViolation {
                    maximum_allowed_size_bytes: maximum,
                    actual_size_bytes: length,
                    expectation: format!(
                        "Collector payload exceeds the maximum allowed size of {maximum} bytes"
                    ),
                    payload: STANDARD.encode(self.record.bytes),
                };
                self.bad(row, Timestamp(0));
            }
        }
    }

    /// The whole record, as far as no payload of it was read, becomes a bad row.
    fn unreadable(&mut self, error: String) {
        let payload_base64 = STANDARD.encode(self.record.bytes);
        let message = FormatMessage::Fallback { error };
        self.bad(BadRow::CollectorPayloadFormatViolation { message, payload_base64 }, Timestamp(0));
    }

    fn payload(&mut self, bytes: &[u8]) {
        let request = match loader::load(bytes, self.recipe.settings()) {
            Ok(request) => request,
            Err(messages) => {
                for message in messages {
                    let payload_base64 = STANDARD.encode(bytes);
                    let row = BadRow::CollectorPayloadFormatViolation { message, payload_base64 };
                    self.bad(row, Timestamp(0));
                }
                return;
            }
        };
        match adapters::adapt(&request, self.checker()) {
            Ok(events) => events.iter().for_each(|event| self.event(&request, event)),
            Err(row) => self.bad(*row, request.timestamp),
        }
    }

    fn event(&mut self, request: &Request<'_>, parameters: &Parameters<'_>) {
        let mut infos = Vec::new();
        let (mut work, input) = self.map_and_validate(request, parameters, &mut infos);
        let enrichments = self.recipe.enrichments().run(&mut work);
        if let Some(rule) = work.dropped {
            self.outcomes.push(Outcome::Dropped { rule });
            return;
        }
        let pii = work.pii.take();
        let mut wrong = Wrong { input, enrichments, ..Wrong::default() };
        let enriched = self.finish(work, infos, &mut wrong);
        if wrong.is_nothing() {
            return self.good_and_its_pii(enriched, pii);
        }
        let failed = self.recipe.settings().failed_events;
        let failed = failed.then(|| wrong.failed_event((*enriched).clone()));
        let payload =
            Box::new(EventView { enriched: *enriched, raw: request.event_view(parameters) });
        let bad_row = self.sized(wrong.into_bad_row(payload), request.timestamp);
        self.outcomes.push(match failed.filter(|event| self.has_room_for(event)) {
            Some(event) => Outcome::Failed { bad_row, event: Box::new(event) },
            None => Outcome::Bad(bad_row),
        });
    }

    /// Phase 1: starting values, parameters, self-describing event, contexts. Failures stand in this order; `infos` is
    /// told of superseded schemas.
    fn map_and_validate<'r>(
        &'r self,
        request: &'r Request<'r>,
        parameters: &'r Parameters<'r>,
        infos: &mut Vec<Entity>,
    ) -> (Work<'r>, Vec<Failure>)
    where
        'a: 'r,
    {
        let mut errors = AtomicErrors::default();
        let mut event = starting_values(request, &mut errors);
        let texts = parameters::apply(parameters, &mut event, &mut errors);
        event.event_id.get_or_insert_with(|| {
            event_id::derive(self.record.partition, self.record.offset, self.outcomes.len())
        });
        let mut failures: Vec<Failure> = errors.into_failure().into_iter().collect();
        let mut unstruct = None;
        match texts.unstruct.map(|text| self.checker().unstruct(&text)) {
            Some(Ok(Checked { entity, validation_info })) => {
                note(infos, validation_info);
                unstruct = Some(entity);
            }
            Some(Err(refused)) => failures.push(refused.into_failure("unstruct")),
            None => {}
        }
        let mut contexts = Vec::new();
        if let Some(text) = texts.contexts {
            let (valid, refused) = self.checker().contexts(&text);
            failures.extend(refused.into_iter().map(|it| it.into_failure("contexts")));
            for Checked { entity, validation_info } in valid {
                note(infos, validation_info);
                contexts.push(entity);
            }
        }
        let work = Work {
            record: self.record,
            index: self.outcomes.len(),
            json_depth_max: self.recipe.settings().json_depth_max,
            look_ups: Asking::new(self.answers, &self.asked),
            request,
            parameters,
            event,
            unstruct,
            contexts,
            derived: Vec::new(),
            page_uri: None,
            referrer_uri: None,
            page_query: OnceCell::new(),
            rewritten: Rewritten::default(),
            pii: None,
            dropped: None,
        };
        (work, failures)
    }

    /// Phase 3: checks what the enrichments have made, the lengths, and what a script has written over; prints the JSON
    /// columns. Failures stand in this order. Snowplow: `enrich-core.md` 3.3.
    fn finish(
        &self,
        work: Work<'_>,
        mut infos: Vec<Entity>,
        wrong: &mut Wrong,
    ) -> Box<EnrichedEvent> {
        let Work { mut event, mut unstruct, mut contexts, derived, rewritten, .. } = work;
        let mut made_infos = Vec::new();
        // The newest entity comes first.
        let derived = derived.into_iter().rev().collect();
        let mut made = self.valid(derived, "derived_contexts", &mut made_infos, &mut wrong.output);
        if !self.recipe.settings().accept_invalid {
            let (errors, too_long) = self.recipe.lengths().check(&event);
            wrong.output.extend(errors.into_failure());
            wrong.too_long = too_long;
        }
        if rewritten.unstruct {
            let entities = unstruct.into_iter().collect();
            unstruct = self.valid(entities, "unstruct", &mut infos, &mut wrong.output).pop();
        }
        if rewritten.contexts {
            contexts = self.valid(contexts, "contexts", &mut infos, &mut wrong.output);
        }
        made_infos.into_iter().for_each(|info| note(&mut infos, Some(info)));
        made.extend(infos);

        event.unstruct_event =
            unstruct.map(|event| entity::envelope(UNSTRUCT_EVENT, |text| event.print(text)));
        let list =
            |entities: &[Entity]| (!entities.is_empty()).then(|| entity::list(CONTEXTS, entities));
        event.contexts = list(&contexts);
        event.derived_contexts = list(&made);
        event
    }

    /// Those that obey their schemas. `infos` is told of superseded ones, `failures` of the others.
    fn valid(
        &self,
        entities: Vec<Entity>,
        source: &'static str,
        infos: &mut Vec<Entity>,
        failures: &mut Vec<Failure>,
    ) -> Vec<Entity> {
        let mut valid = Vec::with_capacity(entities.len());
        for entity in entities {
            match self.checker().check(entity) {
                Ok(Checked { entity, validation_info }) => {
                    note(infos, validation_info);
                    valid.push(entity);
                }
                Err(refused) => failures.push(refused.into_failure(source)),
            }
        }
        valid
    }

    fn checker(&self) -> Checker<'_> {
        Checker {
            schemas: self.recipe.schemas(),
            open: &self.open,
            json_depth_max: self.recipe.settings().json_depth_max,
        }
    }

    /// The event, and behind it the one that tells what personal data was replaced in it.
    fn good_and_its_pii(&mut self, event: Box<EnrichedEvent>, pii: Option<Value>) {
        let Some(data) = pii else { return self.good(event) };
        let id =
            event_id::derive_pii(self.record.partition, self.record.offset, self.outcomes.len());
        let told = enrichments::transformation_event(&event, data, id);
        self.good(event);
        // One that is too large became a bad row, which shows nothing in clear that it would not show anyway.
        if matches!(self.outcomes.last(), Some(Outcome::Enriched(_))) {
            self.pii.push(told);
        }
    }

    fn good(&mut self, event: Box<EnrichedEvent>) {
        let maximum = self.recipe.settings().record_bytes_max;
        let Some(length) = length_beyond(&event, maximum) else {
            self.outcomes.push(Outcome::Enriched(event));
            return;
        };
        let expectation =
            format!("Enriched event exceeds the maximum allowed size of {maximum} bytes");
        let row = size_violation(&event.to_tsv(), length, maximum, expectation);
        self.outcomes.push(Outcome::Bad(row));
    }

    fn bad(&mut self, row: BadRow, at: Timestamp) {
        let row = self.sized(row, at);
        self.outcomes.push(Outcome::Bad(row));
    }

    /// The bad row, or what stands for one that is too large. `at` is the failure time in the text that is cut then: the
    /// real one is not known here.
    fn sized(&self, mut row: BadRow, at: Timestamp) -> Box<BadRow> {
        let settings = self.recipe.settings();
        if !settings.whole_bad_rows {
            row.fit();
        }
        let text = row.to_json(&processor(), at);
        let maximum = settings.record_bytes_max;
        if text.len() as u64 <= maximum {
            return Box::new(row);
        }
        let expectation = format!(
            "Event failed enrichment and resulting bad row exceeds the maximum allowed size of {maximum} bytes"
        );
        size_violation(&text, text.len() as u64, maximum, expectation)
    }

    /// Whether the line of a failed event is not too large. One that is has its bad row alone.
    fn has_room_for(&self, event: &FailedEvent) -> bool {
        let line = event.stamp(&processor(), Timestamp(0)).to_tsv();
        line.len() as u64 <= self.recipe.settings().record_bytes_max
    }
}

/// What is known before any parameter. Snowplow: `enrich-core.md` 2.1.
fn starting_values(request: &Request<'_>, errors: &mut AtomicErrors) -> Box<EnrichedEvent> {
    let collector_tstamp = match request.timestamp.has_plain_year() {
        true => Some(request.timestamp),
        false => {
            let text = request.timestamp.to_tsv();
            let message = format!("Formatted as {text} is not Redshift-compatible");
            errors.unparsable(message, "collector_tstamp", &text);
            None
        }
    };
    // Made where it stays and filled there: to copy so large a thing costs more than most steps.
    let mut event = Box::<EnrichedEvent>::default();
    event.collector_tstamp = collector_tstamp;
    event.v_collector = convert::tsv_safe(&request.collector);
    event.v_etl = Some(V_ETL.clone());
    event.network_userid.clone_from(&request.network_userid);
    event.user_ipaddress = convert::tsv_safe(client_ip::cut(&request.ip_address));
    event.useragent = request.user_agent.as_deref().and_then(convert::user_agent);
    event
}

/// Remembers each superseded schema once.
fn note(infos: &mut Vec<Entity>, info: Option<Entity>) {
    let is_same = |a: &Entity, b: &Entity| a.schema == b.schema && a.data() == b.data();
    if let Some(info) = info
        && !infos.iter().any(|known| is_same(known, &info))
    {
        infos.push(info);
    }
}

/// The length of the event's line with `etl_tstamp`, if it is beyond the maximum.
fn length_beyond(event: &EnrichedEvent, maximum: u64) -> Option<u64> {
    if (event.line_bytes_max() + ETL_TSTAMP_BYTES) as u64 <= maximum {
        return None;
    }
    let length = (event.to_tsv().len() + ETL_TSTAMP_BYTES) as u64;
    (length > maximum).then_some(length)
}

fn size_violation(text: &str, length: u64, maximum: u64, expectation: String) -> Box<BadRow> {
    let shown = usize::try_from(maximum / 10).unwrap_or(usize::MAX);
    Box::new(BadRow::SizeViolation {
        maximum_allowed_size_bytes: maximum,
        actual_size_bytes: length,
        expectation,
        payload: text.chars().take(shown).collect(),
    })
}
