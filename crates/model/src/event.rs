//! The enriched event: 131 columns, and its TSV form.
//!
//! Everything about a column (its place, type and length limit) is in the one table at the end of this file's first
//! part; struct, TSV, SQL types and bad row payloads follow from it.
//! Snowplow: `enrich-core.md` 5.1, `enriched-event.tsv`.

use serde_json::{Map, Value};

use crate::decimal::Decimal;
use crate::time::Timestamp;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text without tabs or line ends; the limit counts UTF-16 code units.
    Text(usize),
    /// A signed 32-bit integer.
    Int,
    /// `0` or `1`.
    Bit,
    /// A decimal that SQL shows as a double.
    Number,
    /// A decimal that SQL shows with 18 digits, 2 of them after the point.
    Money,
    /// A 32-bit float.
    Float,
    /// Milliseconds, UTC.
    Time,
    /// A self-describing JSON as text.
    Json,
}

/// A column's name and type; its place is its place in [`COLUMNS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
}

/// One value of an event, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    Null,
    Text(&'a str),
    Int(i32),
    Bit(bool),
    Number(&'a Decimal),
    Money(&'a Decimal),
    Float(f32),
    Time(Timestamp),
    Json(&'a str),
}

macro_rules! field_type {
    (Text) => { Option<String> };
    (Int) => { Option<i32> };
    (Bit) => { Option<bool> };
    (Number) => { Option<Decimal> };
    (Money) => { Option<Decimal> };
    (Float) => { Option<f32> };
    (Time) => { Option<Timestamp> };
    (Json) => { Option<String> };
}

macro_rules! cell_of {
    (Text, $value:expr) => {
        $value.as_deref().map_or(Cell::Null, Cell::Text)
    };
    (Int, $value:expr) => {
        $value.map_or(Cell::Null, Cell::Int)
    };
    (Bit, $value:expr) => {
        $value.map_or(Cell::Null, Cell::Bit)
    };
    (Number, $value:expr) => {
        $value.as_ref().map_or(Cell::Null, Cell::Number)
    };
    (Money, $value:expr) => {
        $value.as_ref().map_or(Cell::Null, Cell::Money)
    };
    (Float, $value:expr) => {
        $value.map_or(Cell::Null, Cell::Float)
    };
    (Time, $value:expr) => {
        $value.map_or(Cell::Null, Cell::Time)
    };
    (Json, $value:expr) => {
        $value.as_deref().map_or(Cell::Null, Cell::Json)
    };
}

macro_rules! is_within {
    (Text, $value:expr, $limit:expr) => {
        $value.as_ref().is_none_or(|text| text.len() <= $limit)
    };
    ($other:ident, $value:expr, $limit:expr) => {{
        let _no_limit = $limit;
        true
    }};
}

/// The most bytes that the value takes in a line. What is short in every form is not looked at.
macro_rules! bytes_max {
    (Text, $value:expr) => {
        $value.as_ref().map_or(0, String::len)
    };
    (Json, $value:expr) => {
        $value.as_ref().map_or(0, String::len)
    };
    (Number, $value:expr) => {
        $value.as_ref().map_or(0, |decimal| decimal.as_str().len())
    };
    (Money, $value:expr) => {
        $value.as_ref().map_or(0, |decimal| decimal.as_str().len())
    };
    ($short:ident, $value:expr) => {
        SHORT_BYTES_MAX
    };
}

macro_rules! push_cell {
    (Text, $value:expr, $line:expr) => {
        if let Some(text) = &$value {
            $line.text(text);
        }
    };
    (Json, $value:expr, $line:expr) => {
        if let Some(text) = &$value {
            $line.text(text);
        }
    };
    ($kind:ident, $value:expr, $line:expr) => {
        if $value.is_some() {
            $line.cell(cell_of!($kind, $value));
        }
    };
}

macro_rules! parse_cell {
    (Text, $text:expr) => {
        Some($text.to_owned())
    };
    (Int, $text:expr) => {
        $text.parse::<i32>().ok()
    };
    (Bit, $text:expr) => {
        match $text {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        }
    };
    (Number, $text:expr) => {
        Decimal::parse($text).ok()
    };
    (Money, $text:expr) => {
        Decimal::parse($text).ok()
    };
    (Float, $text:expr) => {
        $text.parse::<f32>().ok()
    };
    (Time, $text:expr) => {
        Timestamp::from_tsv($text)
    };
    (Json, $text:expr) => {
        Some($text.to_owned())
    };
}

macro_rules! columns {
    ($($name:ident: $kind:ident $(($limit:literal))?,)*) => {
        /// All columns in the order of the TSV.
        pub const COLUMNS: [Column; 131] =
            [$(Column { name: stringify!($name), kind: Kind::$kind $(($limit))? }),*];

        /// One enriched event. A null is `None`; a text is never empty.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct EnrichedEvent {
            $(pub $name: field_type!($kind),)*
        }

        impl EnrichedEvent {
            /// The values in the order of [`COLUMNS`].
            pub fn cells(&self) -> [Cell<'_>; 131] {
                [$(cell_of!($kind, self.$name)),*]
            }

            /// Whether no text column has more bytes than the limit at its place; those of other kinds have none.
            pub fn texts_are_within(&self, limits: &[usize; 131]) -> bool {
                // Without an early end the compiler needs no jump for each column.
                let mut limits = limits.iter();
                let mut are_within = true;
                $(
                    let limit = limits.next().copied().unwrap_or(usize::MAX);
                    are_within &= is_within!($kind, self.$name, limit);
                )*
                are_within
            }

            /// The bytes of [`EnrichedEvent::to_tsv`], or some more: short values count as the longest of their kind.
            pub fn line_bytes_max(&self) -> usize {
                COLUMNS.len() $(+ bytes_max!($kind, self.$name))*
            }

            fn push_all(&self, line: &mut Line) {
                $(
                    push_cell!($kind, self.$name, line);
                    line.tabs += 1;
                )*
            }

            /// Makes a column null; a name that is no column's has no meaning.
            pub fn clear(&mut self, column: &str) {
                match column {
                    $(stringify!($name) => self.$name = None,)*
                    _ => {}
                }
            }

            /// Reads one line of the enriched TSV, without its line end. An empty cell is a null.
            ///
            /// # Errors
            /// When there are not exactly 131 cells, or a cell does not have its column's form.
            pub fn from_tsv(line: &str) -> Result<EnrichedEvent, InvalidTsv> {
                let count = line.split('\t').count();
                if count != COLUMNS.len() {
                    return Err(InvalidTsv::FieldCount(count));
                }
                let mut cells = line.split('\t');
                let mut event = EnrichedEvent::default();
                $(
                    let text = cells.next().unwrap_or_default();
                    if !text.is_empty() {
                        event.$name = parse_cell!($kind, text);
                        if event.$name.is_none() {
                            return Err(InvalidTsv::Cell { column: stringify!($name), text: text.to_owned() });
                        }
                    }
                )*
                Ok(event)
            }

            /// The value of the column at this place of [`COLUMNS`].
            pub fn cell(&self, at: usize) -> Cell<'_> {
                const CELLS: [fn(&EnrichedEvent) -> Cell<'_>; 131] =
                    [$(|event| cell_of!($kind, event.$name)),*];
                CELLS[at](self)
            }

            /// Sets the column at this place of [`COLUMNS`] from its TSV form.
            ///
            /// # Errors
            /// When the text does not have the column's form; the column keeps its value.
            pub fn set(&mut self, at: usize, text: Option<&str>) -> Result<(), InvalidTsv> {
                const SETTERS: [fn(&mut EnrichedEvent, Option<&str>) -> bool; 131] = [$(|event, text| {
                    let value = text.and_then(|text| parse_cell!($kind, text));
                    let fits = value.is_some() == text.is_some();
                    if fits {
                        event.$name = value;
                    }
                    fits
                }),*];
                match SETTERS[at](self, text) {
                    true => Ok(()),
                    false => {
                        let text = text.unwrap_or_default().to_owned();
                        Err(InvalidTsv::Cell { column: COLUMNS[at].name, text })
                    }
                }
            }
        }
    };
}

columns! {
    app_id: Text(255),
    platform: Text(255),
    etl_tstamp: Time,
    collector_tstamp: Time,
    dvce_created_tstamp: Time,
    event: Text(128),
    event_id: Text(36),
    txn_id: Int,
    name_tracker: Text(128),
    v_tracker: Text(100),
    v_collector: Text(100),
    v_etl: Text(100),
    user_id: Text(255),
    user_ipaddress: Text(128),
    user_fingerprint: Text(128),
    domain_userid: Text(128),
    domain_sessionidx: Int,
    network_userid: Text(128),
    geo_country: Text(2),
    geo_region: Text(3),
    geo_city: Text(75),
    geo_zipcode: Text(15),
    geo_latitude: Float,
    geo_longitude: Float,
    geo_region_name: Text(100),
    ip_isp: Text(100),
    ip_organization: Text(128),
    ip_domain: Text(128),
    ip_netspeed: Text(100),
    page_url: Text(10000),
    page_title: Text(2000),
    page_referrer: Text(10000),
    page_urlscheme: Text(16),
    page_urlhost: Text(255),
    page_urlport: Int,
    page_urlpath: Text(3000),
    page_urlquery: Text(6000),
    page_urlfragment: Text(3000),
    refr_urlscheme: Text(16),
    refr_urlhost: Text(255),
    refr_urlport: Int,
    refr_urlpath: Text(6000),
    refr_urlquery: Text(6000),
    refr_urlfragment: Text(3000),
    refr_medium: Text(25),
    refr_source: Text(50),
    refr_term: Text(255),
    mkt_medium: Text(255),
    mkt_source: Text(255),
    mkt_term: Text(255),
    mkt_content: Text(500),
    mkt_campaign: Text(255),
    contexts: Json,
    se_category: Text(1000),
    se_action: Text(1000),
    se_label: Text(4096),
    se_property: Text(1000),
    se_value: Number,
    unstruct_event: Json,
    tr_orderid: Text(255),
    tr_affiliation: Text(255),
    tr_total: Money,
    tr_tax: Money,
    tr_shipping: Money,
    tr_city: Text(255),
    tr_state: Text(255),
    tr_country: Text(255),
    ti_orderid: Text(255),
    ti_sku: Text(255),
    ti_name: Text(255),
    ti_category: Text(255),
    ti_price: Money,
    ti_quantity: Int,
    pp_xoffset_min: Int,
    pp_xoffset_max: Int,
    pp_yoffset_min: Int,
    pp_yoffset_max: Int,
    useragent: Text(1000),
    br_name: Text(50),
    br_family: Text(50),
    br_version: Text(50),
    br_type: Text(50),
    br_renderengine: Text(50),
    br_lang: Text(255),
    br_features_pdf: Bit,
    br_features_flash: Bit,
    br_features_java: Bit,
    br_features_director: Bit,
    br_features_quicktime: Bit,
    br_features_realplayer: Bit,
    br_features_windowsmedia: Bit,
    br_features_gears: Bit,
    br_features_silverlight: Bit,
    br_cookies: Bit,
    br_colordepth: Text(12),
    br_viewwidth: Int,
    br_viewheight: Int,
    os_name: Text(50),
    os_family: Text(50),
    os_manufacturer: Text(50),
    os_timezone: Text(255),
    dvce_type: Text(50),
    dvce_ismobile: Bit,
    dvce_screenwidth: Int,
    dvce_screenheight: Int,
    doc_charset: Text(128),
    doc_width: Int,
    doc_height: Int,
    tr_currency: Text(3),
    tr_total_base: Money,
    tr_tax_base: Money,
    tr_shipping_base: Money,
    ti_currency: Text(3),
    ti_price_base: Money,
    base_currency: Text(3),
    geo_timezone: Text(64),
    mkt_clickid: Text(1000),
    mkt_network: Text(64),
    etl_tags: Text(500),
    dvce_sent_tstamp: Time,
    refr_domain_userid: Text(128),
    refr_dvce_tstamp: Time,
    derived_contexts: Json,
    domain_sessionid: Text(128),
    derived_tstamp: Time,
    event_vendor: Text(1000),
    event_name: Text(1000),
    event_format: Text(128),
    event_version: Text(128),
    event_fingerprint: Text(128),
    true_tstamp: Time,
}

/// A line that is not an enriched event.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTsv {
    #[error("an enriched event has 131 cells, found {0}")]
    FieldCount(usize),
    #[error("column {column}: `{text}` does not have the column's form")]
    Cell { column: &'static str, text: String },
}

impl EnrichedEvent {
    /// The event as one TSV line: 131 cells, 130 tabs, no line end. A tab or line end inside a text, which only a
    /// script could have put there, becomes a space, so that the line stays one line.
    pub fn to_tsv(&self) -> String {
        let mut line = Line { text: String::with_capacity(4096), tabs: 0 };
        self.push_all(&mut line);
        // One look at the whole line costs less than one at each text: nearly none has more than the tabs in between.
        if controls(&line.text) + line.tabs == COLUMNS.len() {
            line.end()
        } else {
            self.to_mended_tsv()
        }
    }

    /// The line of an event with control characters in its texts.
    fn to_mended_tsv(&self) -> String {
        let mut line = String::with_capacity(4096);
        for (at, cell) in self.cells().into_iter().enumerate() {
            if at > 0 {
                line.push('\t');
            }
            match cell {
                Cell::Text(text) | Cell::Json(text) => {
                    line.push_str(&text.replace(['\t', '\n', '\r'], " "));
                }
                cell => cell.print(&mut line),
            }
        }
        line
    }

    /// The event as it stands in a bad row's payload: all 131 names in order, null when unset.
    /// Snowplow: `enrich-core.md` 6, "Partially enriched object".
    pub fn to_bad_row_json(&self) -> Map<String, Value> {
        let value = |column: &Column, cell: Cell<'_>| match cell {
            Cell::Null => Value::Null,
            Cell::Int(number) if column.name != "txn_id" => number.into(),
            Cell::Bit(bit) => i32::from(bit).into(),
            Cell::Float(number) => serde_json::from_str(&java_float(number)).unwrap_or(Value::Null),
            cell => {
                let mut text = String::new();
                cell.print(&mut text);
                text.into()
            }
        };
        COLUMNS
            .iter()
            .zip(self.cells())
            .map(|(column, cell)| (column.name.to_owned(), value(column, cell)))
            .collect()
    }
}

impl Cell<'_> {
    /// Appends the TSV form of the value; nothing for a null.
    pub fn print(self, line: &mut String) {
        match self {
            Cell::Null => {}
            Cell::Text(text) | Cell::Json(text) => line.push_str(text),
            Cell::Int(number) => push_int(number, line),
            Cell::Bit(bit) => line.push(if bit { '1' } else { '0' }),
            Cell::Number(decimal) | Cell::Money(decimal) => line.push_str(decimal.as_str()),
            Cell::Float(number) => line.push_str(&java_float(number)),
            Cell::Time(at) => at.push_tsv(line),
        }
    }
}

/// How many ASCII control characters stand in the text, DEL left aside. Counted in bytes, of which the compiler adds
/// many at once.
fn controls(text: &str) -> usize {
    let count = |chunk: &[u8]| chunk.iter().fold(0u8, |count, byte| count + u8::from(*byte < b' '));
    text.as_bytes().chunks(128).map(|chunk| usize::from(count(chunk))).sum()
}

/// No integer, flag, float or time is longer.
const SHORT_BYTES_MAX: usize = 24;

/// A line while it is being written. Two of three columns are null, so tabs are written many at a time, before the next
/// value.
struct Line {
    text: String,
    /// Those that are still to be written.
    tabs: usize,
}

impl Line {
    fn text(&mut self, text: &str) {
        self.write_tabs();
        self.text.push_str(text);
    }

    fn cell(&mut self, cell: Cell<'_>) {
        self.write_tabs();
        cell.print(&mut self.text);
    }

    fn write_tabs(&mut self) {
        const TABS: &str = match std::str::from_utf8(&[b'\t'; COLUMNS.len()]) {
            Ok(tabs) => tabs,
            Err(_) => panic!("tabs are UTF-8"),
        };
        self.text.push_str(&TABS[..self.tabs]);
        self.tabs = 0;
    }

    /// The last column has no tab behind it.
    fn end(mut self) -> String {
        self.tabs -= 1;
        self.write_tabs();
        self.text
    }
}

fn push_int(number: i32, line: &mut String) {
    // From the last digit to the first, in one piece: a line asks at each piece whether it has room.
    let mut text = [b'-'; 11];
    let (mut at, mut rest) = (text.len(), number.unsigned_abs());
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
    }
    line.push_str(std::str::from_utf8(&text[at..]).expect("digits are UTF-8"));
}

/// The text of a 32-bit float as Java prints it: the shortest digits that name it, always with a point, scientific
/// below 1e-3 and from 1e7. Snowplow: `enrich-core.md` 5.1.
fn java_float(number: f32) -> String {
    let magnitude = number.abs();
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        return format!("{number:?}");
    }
    let scientific = format!("{number:e}");
    match scientific.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => format!("{digits}E{exponent}"),
        Some((digits, exponent)) => format!("{digits}.0E{exponent}"),
        None => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_has_the_known_corners() {
        assert_eq!(COLUMNS[0].name, "app_id");
        assert_eq!(COLUMNS[52], Column { name: "contexts", kind: Kind::Json });
        assert_eq!(COLUMNS[57], Column { name: "se_value", kind: Kind::Number });
        assert_eq!(COLUMNS[130], Column { name: "true_tstamp", kind: Kind::Time });
    }

    #[test]
    fn floats_print_as_in_java() {
        for (number, text) in [
            (37.0, "37.0"),
            (-122.4124, "-122.4124"),
            (1e7, "1.0E7"),
            (1.5e-4, "1.5E-4"),
            (0.0, "0.0"),
        ] {
            assert_eq!(java_float(number), text);
        }
    }

    #[test]
    fn integers_print_as_they_are_written() {
        for number in [0, 7, 10, -10, 99, 1_000_000_000, i32::MAX, i32::MIN] {
            let mut text = String::new();
            push_int(number, &mut text);
            assert_eq!(text, number.to_string());
        }
    }

    #[test]
    fn an_empty_event_is_130_tabs() {
        assert_eq!(EnrichedEvent::default().to_tsv(), "\t".repeat(130));
        assert_eq!(EnrichedEvent::from_tsv(&"\t".repeat(130)).unwrap(), EnrichedEvent::default());
        assert!(EnrichedEvent::from_tsv("").is_err());
        assert!(EnrichedEvent::from_tsv(&format!("{}x", "\t".repeat(130))).is_err());
    }

    #[test]
    fn a_bad_row_shows_decimals_and_the_transaction_id_as_text() {
        let event = EnrichedEvent {
            txn_id: Some(7),
            domain_sessionidx: Some(3),
            br_cookies: Some(true),
            tr_total: Some(Decimal::parse("18.50").unwrap()),
            geo_latitude: Some(37.5),
            ..EnrichedEvent::default()
        };
        let json = event.to_bad_row_json();
        assert_eq!(json.len(), 131);
        assert_eq!(json["txn_id"], "7");
        assert_eq!(json["domain_sessionidx"], 3);
        assert_eq!(json["br_cookies"], 1);
        assert_eq!(json["tr_total"], "18.50");
        assert_eq!(json["geo_latitude"].to_string(), "37.5");
        assert!(json["app_id"].is_null());
    }

    proptest! {
        #[test]
        fn the_tsv_form_reads_back(
            text in "[^\\p{Cc}]{1,12}", int in any::<i32>(), bit in any::<bool>(), latitude in -90f32..90.0,
            at in 0i64..4_000_000_000_000, unscaled in any::<i64>(), scale in 0u32..12,
        ) {
            let decimal = Decimal::parse(&format!("{unscaled}E-{scale}")).unwrap();
            let event = EnrichedEvent {
                page_title: Some(text.clone()),
                contexts: Some(format!("{{\"a\":\"{}\"}}", text.replace(['"', '\\'], ""))),
                pp_xoffset_max: Some(int),
                br_cookies: Some(bit),
                geo_latitude: Some(latitude),
                collector_tstamp: Some(Timestamp(at)),
                se_value: Some(decimal),
                ..EnrichedEvent::default()
            };
            prop_assert_eq!(EnrichedEvent::from_tsv(&event.to_tsv()).unwrap(), event);
        }
    }
}
