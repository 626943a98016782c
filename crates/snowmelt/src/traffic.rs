//! A synthetic web shop: visitors, sessions and pages, as tracker-protocol events.
//!
//! `send` and `demo` post what it makes. The same seed gives the same events; the ids of two runs differ because their
//! seeds do.

use std::fmt::Write;

use model::time::Timestamp;
use serde_json::{Value, json};

/// The schema of a tp2 body. Snowplow: `enrich-core.md` 1.8.
const PAYLOAD_DATA: &str = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4";

const PAGES: [(&str, &str); 8] = [
    ("/", "Home"),
    ("/skis", "Skis"),
    ("/skis/all-mountain", "All-mountain skis"),
    ("/boots", "Boots"),
    ("/boots/touring?colour=red", "Touring boots"),
    ("/guide/waxing", "How to wax"),
    ("/cart", "Cart"),
    ("/checkout", "Checkout"),
];

const REFERRERS: [Option<&str>; 5] = [
    None,
    None,
    Some("https://search.example/?q=skis"),
    Some("https://news.example/winter"),
    Some("https://partner.example/deals?id=7"),
];

const DEVICES: [(&str, &str, &str); 3] = [
    ("1920x1080", "1903x969", "en-GB"),
    ("1440x900", "1425x770", "de-DE"),
    ("390x844", "390x664", "fr-FR"),
];

/// A small generator of numbers (SplitMix64): fast, and equal everywhere for equal seeds.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn seeded(seed: u64) -> Numbers {
        Numbers(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is small against 2^64.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// A text in the form of a random (version 4) UUID.
    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        let mut text = String::with_capacity(36);
        let _ = write!(
            text,
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | (low >> 50),
            low & 0xffff_ffff_ffff
        );
        text
    }
}

/// One visitor on the way through the shop.
#[derive(Clone, Debug)]
struct Visitor {
    domain_userid: String,
    session_id: String,
    session_index: u32,
    device: usize,
    page: usize,
    page_view_id: String,
    scrolled: u32,
}

/// One event before it is posted.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) event_id: String,
    /// The tracker-protocol fields.
    pub(crate) fields: Value,
}

/// Makes events for ever.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    numbers: Numbers,
    visitors: Vec<Visitor>,
    /// One event of this many names a schema that nobody has, so that it ends as a bad row; 0 for none.
    bad_one_in: usize,
}

impl Site {
    /// A shop with 200 visitors at a time.
    pub(crate) fn new(seed: u64, bad_one_in: usize) -> Site {
        let mut numbers = Numbers::seeded(seed);
        let visitors = (0..200).map(|_| Visitor::arrive(&mut numbers)).collect();
        Site { numbers, visitors, bad_one_in }
    }

    /// The next event of some visitor, created at `now`.
    pub(crate) fn event(&mut self, now: Timestamp) -> Event {
        let numbers = &mut self.numbers;
        let at = numbers.below(self.visitors.len());
        let event_id = numbers.uuid();
        if self.bad_one_in > 0 && numbers.below(self.bad_one_in) == 0 {
            return Event { fields: self.visitors[at].unknown_schema(&event_id, now), event_id };
        }
        let visitor = &mut self.visitors[at];
        let fields = match numbers.below(100) {
            0..55 => visitor.page_view(numbers, &event_id, now),
            55..80 => visitor.page_ping(numbers, &event_id, now),
            80..90 => visitor.add_to_cart(numbers, &event_id, now),
            _ => visitor.link_click(numbers, &event_id, now),
        };
        if numbers.below(40) == 0 {
            self.visitors[at] = Visitor::arrive(numbers);
        }
        Event { event_id, fields }
    }

    /// A tp2 body with the next `count` events, and their ids.
    pub(crate) fn body(&mut self, count: usize, now: Timestamp) -> (Vec<u8>, Vec<String>) {
        let (ids, events): (Vec<String>, Vec<Value>) =
            (0..count).map(|_| self.event(now)).map(|event| (event.event_id, event.fields)).unzip();
        (json!({"schema": PAYLOAD_DATA, "data": events}).to_string().into_bytes(), ids)
    }
}

impl Visitor {
    fn arrive(numbers: &mut Numbers) -> Visitor {
        Visitor {
            domain_userid: numbers.uuid(),
            session_id: numbers.uuid(),
            session_index: 1 + numbers.below(5) as u32,
            device: numbers.below(DEVICES.len()),
            page: 0,
            page_view_id: numbers.uuid(),
            scrolled: 0,
        }
    }

    fn page_view(&mut self, numbers: &mut Numbers, event_id: &str, now: Timestamp) -> Value {
        self.page = numbers.below(PAGES.len());
        self.page_view_id = numbers.uuid();
        self.scrolled = 0;
        let mut fields = self.fields("pv", event_id, now);
        if let Some(referrer) = numbers.pick(&REFERRERS) {
            fields["refr"] = (*referrer).into();
        }
        fields
    }

    fn page_ping(&mut self, numbers: &mut Numbers, event_id: &str, now: Timestamp) -> Value {
        let from = self.scrolled;
        self.scrolled += numbers.below(600) as u32;
        let mut fields = self.fields("pp", event_id, now);
        fields["pp_mix"] = "0".into();
        fields["pp_max"] = "0".into();
        fields["pp_miy"] = from.to_string().into();
        fields["pp_may"] = self.scrolled.to_string().into();
        fields
    }

    fn add_to_cart(&mut self, numbers: &mut Numbers, event_id: &str, now: Timestamp) -> Value {
        let mut fields = self.fields("se", event_id, now);
        fields["se_ca"] = "shop".into();
        fields["se_ac"] = "add-to-cart".into();
        fields["se_la"] = format!("sku-{}", numbers.below(500)).into();
        fields["se_va"] = format!("{}.{:02}", 5 + numbers.below(900), numbers.below(100)).into();
        fields
    }

    fn link_click(&mut self, numbers: &mut Numbers, event_id: &str, now: Timestamp) -> Value {
        let (path, title) = numbers.pick(&PAGES);
        let click =
            json!({"targetUrl": format!("https://shop.example{path}"), "elementContent": title});
        self.self_describing(
            "iglu:com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-1",
            click,
            event_id,
            now,
        )
    }

    fn unknown_schema(&self, event_id: &str, now: Timestamp) -> Value {
        let data = json!({"flake": "stellar dendrite"});
        self.self_describing("iglu:com.acme/snowflake_seen/jsonschema/1-0-0", data, event_id, now)
    }

    fn self_describing(&self, schema: &str, data: Value, event_id: &str, now: Timestamp) -> Value {
        let mut fields = self.fields("ue", event_id, now);
        let wrapper = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0";
        fields["ue_pr"] =
            json!({"schema": wrapper, "data": {"schema": schema, "data": data}}).to_string().into();
        fields
    }

    /// What every event of this visitor carries.
    fn fields(&self, kind: &str, event_id: &str, now: Timestamp) -> Value {
        let (path, title) = PAGES[self.page];
        let (resolution, viewport, language) = DEVICES[self.device];
        let entities = json!({
            "schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0",
            "data": [{
                "schema": "iglu:com.snowplowanalytics.snowplow/web_page/jsonschema/1-0-0",
                "data": {"id": self.page_view_id},
            }],
        });
        json!({
            "e": kind,
            "eid": event_id,
            "tv": concat!("snowmelt-send-", env!("CARGO_PKG_VERSION")),
            "tna": "shop",
            "aid": "snowmelt-demo",
            "p": "web",
            "url": format!("https://shop.example{path}"),
            "page": title,
            "duid": self.domain_userid,
            "sid": self.session_id,
            "vid": self.session_index.to_string(),
            "dtm": now.0.to_string(),
            "stm": now.0.to_string(),
            "lang": language,
            "cs": "UTF-8",
            "cd": "24",
            "res": resolution,
            "vp": viewport,
            "ds": viewport,
            "tz": "Europe/Zurich",
            "cookie": "1",
            "co": entities.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_events_and_other_seeds_other_ids() {
        let body = |seed| Site::new(seed, 10).body(50, Timestamp(0));
        assert_eq!(body(7), body(7));
        assert!(body(7).1.iter().all(|id| !body(8).1.contains(id)));
    }

    #[test]
    fn ids_have_the_form_of_a_version_4_uuid() {
        let mut numbers = Numbers::seeded(1);
        for _ in 0..100 {
            let id = numbers.uuid();
            assert_eq!(id.len(), 36);
            assert_eq!(&id[14..15], "4");
            assert!("89ab".contains(&id[19..20]), "{id}");
        }
    }
}
