//! Amounts in one currency of one's own, by the rates that Open Exchange Rates gave for a day. Snowplow:
//! `enrichments.md` 17.
//!
//! The rates are those of the day before the collector's timestamp, in UTC: a day that is over, so that its table no
//! longer moves. The whole table is one question, which is asked once for each day and recorded for all records. Unlike
//! in Snowplow, what was asked before has no part in a rate.

mod exact;
mod iso_4217;

use model::bad_row::EnrichmentError;
use model::decimal::Decimal;
use model::time::{Timestamp, civil_from_days};
use serde::Deserialize;
use serde_json::Value;

use self::exact::Exact;
use super::{Assets, Enrichment, Kind, Work, configured, input_data};
use crate::look_up::{Cache, Holds, HttpRequest, Question, Request};

pub(super) const KIND: Kind = Kind {
    name: "currency_conversion_config",
    criterion: "iglu:com.snowplowanalytics.snowplow/currency_conversion_config/jsonschema/1-0-*",
    schema: include_str!("currency_conversion.schema.json"),
    identifier: "currency-conversion",
    many: false,
    assets: configured::no_assets,
    build: |data, _: &Assets| Ok(Box::new(CurrencyConversion::new(configured::parameters(data)?)?)),
};

/// Where the tables are, unless the configuration names a mirror.
const OPEN_EXCHANGE_RATES: &str = "https://openexchangerates.org/api";

/// How long a table may take.
const TIMEOUT_MS: u32 = 5000;

/// A table that was not to be had is asked for again after a minute; the days of late events have room.
const CACHE: Cache = Cache { size: 32, ttl_s: 600 };

const DAY_MS: i64 = 86_400_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    api_key: String,
    base_currency: String,
    account_type: AccountType,
    uri: Option<String>,
    ignore_on_error: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum AccountType {
    /// Tables in US dollars.
    Developer,
    Enterprise,
    Unlimited,
}

struct CurrencyConversion {
    api_key: String,
    uri: String,
    base: String,
    /// Digits behind the point of the base currency.
    digits: u32,
    /// Whether the tables are asked for in the base currency.
    is_paid: bool,
    ignores_errors: bool,
}

impl CurrencyConversion {
    fn new(parameters: Parameters) -> Result<CurrencyConversion, String> {
        let base = parameters.base_currency;
        let digits = iso_4217::digits(&base)
            .ok_or_else(|| format!("`baseCurrency`: `{base}` is no currency of ISO 4217"))?;
        let uri = parameters.uri.unwrap_or_else(|| OPEN_EXCHANGE_RATES.to_owned());
        if !uri.starts_with("https://") && !uri.starts_with("http://") {
            return Err(format!("`uri` {uri} does not begin with http:// or https://"));
        }
        Ok(CurrencyConversion {
            api_key: parameters.api_key,
            uri: uri.trim_end_matches('/').to_owned(),
            base,
            digits,
            is_paid: parameters.account_type != AccountType::Developer,
            ignores_errors: parameters.ignore_on_error.unwrap_or(false),
        })
    }

    /// The request for the table of the day before.
    fn request(&self, at: Timestamp) -> Result<HttpRequest, String> {
        let (year, month, day) = civil_from_days(at.0.div_euclid(DAY_MS) - 1);
        if !(1000..=9999).contains(&year) {
            return Err(error("day", &format!("there are no rates of the year {year}")));
        }
        let base = if self.is_paid { format!("?base={}", self.base) } else { String::new() };
        Ok(HttpRequest {
            method: "GET",
            uri: format!("{}/historical/{year:04}-{month:02}-{day:02}.json{base}", self.uri),
            secret: Some(("app_id", self.api_key.clone())),
            body: None,
            timeout_ms: TIMEOUT_MS,
            basic: None,
        })
    }

    /// An amount in the base currency. Snowplow: the rate is that of the inverse with six digits, half to even, times
    /// the base's; the amount is the double nearest to what the tracker sent.
    fn converted(&self, amount: &Decimal, from: &str, table: &Value) -> Result<Decimal, String> {
        let rate = |currency: &str| {
            let found = table["rates"].get(currency).and_then(Exact::of_json);
            found.filter(Exact::is_positive).ok_or_else(|| {
                error("table", &format!("the table has no rate of {currency} that can be used"))
            })
        };
        let odd = || error("amount", &format!("{amount} is no number to convert"));
        let inverse = rate(from)?.inverse(6);
        let exact = Exact::of_f64(amount.to_f64()).ok_or_else(odd)?;
        let product = exact.times(&inverse.times(&rate(&self.base)?)).round(self.digits);
        Decimal::parse(&product.to_string()).map_err(|_| odd())
    }
}

/// How Snowplow words it.
fn error(kind: &str, message: &str) -> String {
    format!("Open Exchange Rates error, type: [{kind}], message: [{message}]")
}

impl Enrichment for CurrencyConversion {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        work.event.base_currency = Some(self.base.clone());
        let event = &work.event;
        let (transaction, item) = (event.tr_currency.clone(), event.ti_currency.clone());
        let amounts = [
            ("tr_currency", event.tr_total.clone(), &transaction),
            ("tr_currency", event.tr_tax.clone(), &transaction),
            ("tr_currency", event.tr_shipping.clone(), &transaction),
            ("ti_currency", event.ti_price.clone(), &item),
        ];
        let mut failures = Vec::new();
        let mut converted = [const { None }; 4];
        let mut table: Option<&Result<Value, String>> = None;
        for ((field, amount, currency), place) in amounts.into_iter().zip(&mut converted) {
            let (Some(amount), Some(currency)) = (amount, currency) else { continue };
            if iso_4217::digits(currency).is_none() {
                let expectation = format!("Unknown currency '{currency}'");
                failures.push(input_data(field, Some(currency), expectation));
                continue;
            }
            if *currency == self.base {
                *place = Some(amount);
                continue;
            }
            if table.is_none() {
                let request = match self.request(event.collector_tstamp.unwrap_or(Timestamp(0))) {
                    Ok(request) => Request::Http(request),
                    Err(error) => {
                        failures.push(EnrichmentError::Simple { error });
                        break;
                    }
                };
                let holds = Holds::ForAll { member: "rates" };
                let question = Question { enrichment: KIND.name, request, cache: CACHE, holds };
                let Some(answer) = work.look_ups.ask(question) else { return Ok(()) };
                table = Some(answer);
            }
            match table {
                Some(Ok(table)) => match self.converted(&amount, currency, table) {
                    Ok(amount) => *place = Some(amount),
                    Err(error) => failures.push(EnrichmentError::Simple { error }),
                },
                Some(Err(what)) => {
                    failures.push(EnrichmentError::Simple { error: error("request", what) });
                    break;
                }
                None => {}
            }
        }
        let [total, tax, shipping, price] = converted;
        let event = &mut work.event;
        (event.tr_total_base, event.tr_tax_base) = (total, tax);
        (event.tr_shipping_base, event.ti_price_base) = (shipping, price);
        match failures.is_empty() || self.ignores_errors {
            true => Ok(()),
            false => Err(failures),
        }
    }
}

impl std::fmt::Debug for CurrencyConversion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The rest may hold secrets.
        f.write_str("CurrencyConversion")
    }
}

#[cfg(test)]
mod tests;
