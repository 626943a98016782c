//! The tracker protocol: which parameter goes to which column, and by which conversion.
//!
//! One table, in the order in which parameters are applied. Where two feed one column the later one wins, so legacy
//! names stand before current ones. Snowplow: `enrich-core.md` 2.2 to 2.5.

use std::borrow::Cow;
use std::sync::LazyLock;

use model::decimal::Decimal;
use model::event::EnrichedEvent;
use model::time::Timestamp;

use crate::names::Names;
use crate::querystring::Pair;
use crate::request::Parameters;
use crate::validate::AtomicErrors;
use crate::{base64_lenient, client_ip, convert};

/// The two JSON texts of an event, not yet parsed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct JsonTexts<'a> {
    pub(crate) unstruct: Option<Cow<'a, str>>,
    pub(crate) contexts: Option<Cow<'a, str>>,
}

/// The place of a column of one type.
type Column<T> = fn(&mut EnrichedEvent) -> &mut Option<T>;
/// The places of a width and a height.
type TwoColumns = fn(&mut EnrichedEvent) -> [&mut Option<i32>; 2];
type JsonText = for<'a, 't> fn(&'a mut JsonTexts<'t>) -> &'a mut Option<Cow<'t, str>>;

/// What is done with a parameter's value.
enum Rule {
    Text(Column<String>),
    /// Text up to the first comma, bar or space.
    Address(Column<String>),
    Int(Column<i32>),
    Decimal(Column<Decimal>),
    Bit(Column<bool>),
    Uuid(Column<String>),
    Time(Column<Timestamp>),
    Size(TwoColumns),
    EventType(Column<String>),
    Platform(Column<String>),
    Json(JsonText),
    Base64Json(JsonText),
}

use Rule::{
    Address, Base64Json, Bit, Decimal as Number, EventType, Int, Json, Platform, Size, Text, Time,
    Uuid,
};

/// Parameter and rule, lowest priority first.
const TABLE: &[(&str, Rule)] = &[
    ("e", EventType(|event| &mut event.event)),
    ("p", Platform(|event| &mut event.platform)),
    ("eid", Uuid(|event| &mut event.event_id)),
    ("tid", Int(|event| &mut event.txn_id)),
    ("aid", Text(|event| &mut event.app_id)),
    ("tna", Text(|event| &mut event.name_tracker)),
    ("tv", Text(|event| &mut event.v_tracker)),
    ("cv", Text(|event| &mut event.v_collector)),
    ("dtm", Time(|event| &mut event.dvce_created_tstamp)),
    ("stm", Time(|event| &mut event.dvce_sent_tstamp)),
    ("ttm", Time(|event| &mut event.true_tstamp)),
    ("uid", Text(|event| &mut event.user_id)),
    ("duid", Text(|event| &mut event.domain_userid)),
    ("nuid", Text(|event| &mut event.network_userid)),
    ("tnuid", Text(|event| &mut event.network_userid)), // After nuid: it wins.
    ("sid", Uuid(|event| &mut event.domain_sessionid)),
    ("vid", Int(|event| &mut event.domain_sessionidx)),
    ("fp", Text(|event| &mut event.user_fingerprint)),
    ("ip", Address(|event| &mut event.user_ipaddress)),
    ("ua", Text(|event| &mut event.useragent)),
    ("url", Text(|event| &mut event.page_url)),
    ("page", Text(|event| &mut event.page_title)),
    ("refr", Text(|event| &mut event.page_referrer)),
    ("lang", Text(|event| &mut event.br_lang)),
    ("cs", Text(|event| &mut event.doc_charset)),
    ("cd", Text(|event| &mut event.br_colordepth)),
    ("tz", Text(|event| &mut event.os_timezone)),
    ("res", Size(|event| [&mut event.dvce_screenwidth, &mut event.dvce_screenheight])),
    ("vp", Size(|event| [&mut event.br_viewwidth, &mut event.br_viewheight])),
    ("ds", Size(|event| [&mut event.doc_width, &mut event.doc_height])),
    ("cookie", Bit(|event| &mut event.br_cookies)),
    ("f_pdf", Bit(|event| &mut event.br_features_pdf)),
    ("f_fla", Bit(|event| &mut event.br_features_flash)),
    ("f_java", Bit(|event| &mut event.br_features_java)),
    ("f_dir", Bit(|event| &mut event.br_features_director)),
    ("f_qt", Bit(|event| &mut event.br_features_quicktime)),
    ("f_realp", Bit(|event| &mut event.br_features_realplayer)),
    ("f_wma", Bit(|event| &mut event.br_features_windowsmedia)),
    ("f_gears", Bit(|event| &mut event.br_features_gears)),
    ("f_ag", Bit(|event| &mut event.br_features_silverlight)),
    ("ev_ca", Text(|event| &mut event.se_category)),
    ("ev_ac", Text(|event| &mut event.se_action)),
    ("ev_la", Text(|event| &mut event.se_label)),
    ("ev_pr", Text(|event| &mut event.se_property)),
    ("ev_va", Number(|event| &mut event.se_value)),
    ("se_ca", Text(|event| &mut event.se_category)),
    ("se_ac", Text(|event| &mut event.se_action)),
    ("se_la", Text(|event| &mut event.se_label)),
    ("se_pr", Text(|event| &mut event.se_property)),
    ("se_va", Number(|event| &mut event.se_value)),
    ("tr_id", Text(|event| &mut event.tr_orderid)),
    ("tr_af", Text(|event| &mut event.tr_affiliation)),
    ("tr_ci", Text(|event| &mut event.tr_city)),
    ("tr_st", Text(|event| &mut event.tr_state)),
    ("tr_co", Text(|event| &mut event.tr_country)),
    ("tr_cu", Text(|event| &mut event.tr_currency)),
    ("tr_tt", Number(|event| &mut event.tr_total)),
    ("tr_tx", Number(|event| &mut event.tr_tax)),
    ("tr_sh", Number(|event| &mut event.tr_shipping)),
    ("ti_id", Text(|event| &mut event.ti_orderid)),
    ("ti_sk", Text(|event| &mut event.ti_sku)),
    ("ti_na", Text(|event| &mut event.ti_name)),
    ("ti_nm", Text(|event| &mut event.ti_name)),
    ("ti_ca", Text(|event| &mut event.ti_category)),
    ("ti_cu", Text(|event| &mut event.ti_currency)),
    ("ti_pr", Number(|event| &mut event.ti_price)),
    ("ti_qu", Int(|event| &mut event.ti_quantity)),
    ("pp_mix", Int(|event| &mut event.pp_xoffset_min)),
    ("pp_max", Int(|event| &mut event.pp_xoffset_max)),
    ("pp_miy", Int(|event| &mut event.pp_yoffset_min)),
    ("pp_may", Int(|event| &mut event.pp_yoffset_max)),
    ("ue_pr", Json(|texts| &mut texts.unstruct)),
    ("ue_px", Base64Json(|texts| &mut texts.unstruct)),
    ("co", Json(|texts| &mut texts.contexts)),
    ("cx", Base64Json(|texts| &mut texts.contexts)),
];

/// Applies every parameter that the table knows. A parameter without a value is as if absent; an empty one makes a
/// text column null.
///
/// A value that does not convert leaves its column as it was and adds an error with the parameter's name.
pub(crate) fn apply<'p>(
    parameters: &'p Parameters<'_>,
    event: &mut EnrichedEvent,
    errors: &mut AtomicErrors,
) -> JsonTexts<'p> {
    let mut texts = JsonTexts::default();
    for ((name, rule), value) in TABLE.iter().zip(by_rule(parameters)) {
        let Some(value) = value else { continue };
        if let Err(message) = rule.apply(value, event, &mut texts) {
            errors.unparsable(message, name, value);
        }
    }
    texts
}

/// The value of each line of the table. An event has some twenty of its names, so those are searched for in the table,
/// and not the table's in the event.
fn by_rule<'p>(parameters: &'p Parameters<'_>) -> [Option<&'p str>; TABLE.len()] {
    let mut values = [None; TABLE.len()];
    let (own, over) = parameters.parts();
    // Where a name comes twice the later one wins, even without a value.
    let mut note = |(name, value): &'p Pair<'_>| {
        if let Some(line) = NAMES.place(name) {
            values[line] = value.as_deref();
        }
    };
    own.iter().for_each(&mut note);
    match over {
        None => {}
        Some(over) if over.pairs().len() <= TABLE.len() => over.pairs().iter().for_each(note),
        // It may stand over ten thousand events.
        Some(over) => {
            for (value, (name, _)) in values.iter_mut().zip(TABLE) {
                *value = over.get(name).unwrap_or(*value);
            }
        }
    }
    values
}

/// The names of the table.
static NAMES: LazyLock<Names> = LazyLock::new(|| Names::new(TABLE.iter().map(|(name, _)| *name)));

impl Rule {
    fn apply<'p>(
        &self,
        value: &'p str,
        event: &mut EnrichedEvent,
        texts: &mut JsonTexts<'p>,
    ) -> Result<(), String> {
        match self {
            Text(column) => *column(event) = convert::tsv_safe(value),
            Address(column) => *column(event) = convert::tsv_safe(client_ip::cut(value)),
            Int(column) => *column(event) = convert::int32(value)?,
            Number(column) => *column(event) = convert::decimal(value)?,
            Bit(column) => *column(event) = convert::bit(value)?,
            Uuid(column) => *column(event) = convert::uuid_strict(value)?,
            Time(column) => *column(event) = convert::epoch_ms(value)?,
            EventType(column) => *column(event) = convert::event_type(value)?,
            Platform(column) => *column(event) = convert::platform(value)?,
            Size(columns) => {
                let (width, height) = convert::width_and_height(value)?;
                let [width_column, height_column] = columns(event);
                (*width_column, *height_column) = (Some(width), Some(height));
            }
            Json(text) => *text(texts) = Some(value.into()),
            Base64Json(text) => *text(texts) = Some(base64_lenient::decode(value).into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_stands_once_in_the_table() {
        let mut names: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
