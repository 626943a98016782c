//! Amounts, tables and failures, without the API.

use serde_json::json;

use super::super::trial::{self, Trial};
use super::super::{Assets, Config};
use super::*;
use crate::look_up::Answer;
use crate::{Missing, Outcome};

fn config(change: impl FnOnce(&mut Value)) -> Config {
    let mut parameters = json!({
        "apiKey": "s3cret", "baseCurrency": "EUR", "rateAt": "EOD_PRIOR", "accountType": "DEVELOPER",
    });
    change(&mut parameters);
    let schema = "/currency_conversion_config/jsonschema/1-0-0";
    trial::config("currency.json", schema, &parameters)
}

fn trial(change: impl FnOnce(&mut Value)) -> Trial {
    Trial::of(vec![config(change)])
}

const BRITISH: [(&str, &str); 3] = [("e", "tr"), ("tr_cu", "GBP"), ("tr_tt", "12.99")];

fn asked(missing: &Missing) -> HttpRequest {
    match &missing.look_ups[..] {
        [Question { request: Request::Http(request), .. }] => request.clone(),
        other => panic!("{other:?}"),
    }
}

/// The same with an answer to the one question of an event.
fn answered(mut trial: Trial, parameters: &[(&str, &str)], answer: Answer) -> Trial {
    let missing = trial.try_outcomes(parameters).unwrap_err();
    trial.answers.insert(&missing.look_ups[0], answer);
    trial
}

fn table() -> Answer {
    Ok(
        json!({"base": "USD", "rates": {"USD": 1, "GBP": 0.79, "EUR": 0.92, "JPY": 149.5, "KWD": 0.3075}}),
    )
}

#[test]
fn the_table_of_the_day_before_is_asked_for_once_and_the_key_is_shown_to_nobody() {
    let missing = trial(|_| {}).try_outcomes(&BRITISH).unwrap_err();
    let request = asked(&missing);
    // The record is of 2026-09-21.
    assert_eq!(request.uri, "https://openexchangerates.org/api/historical/2026-09-20.json");
    assert_eq!(request.secret, Some(("app_id", "s3cret".to_owned())));
    assert_eq!(missing.look_ups[0].holds, Holds::ForAll { member: "rates" });
    assert!(!format!("{missing} {missing:?}").contains("s3cret"));
    let other_key = trial(|it| it["apiKey"] = json!("other")).try_outcomes(&BRITISH).unwrap_err();
    assert_eq!(missing.look_ups[0].digest(), other_key.look_ups[0].digest());
    for account in ["ENTERPRISE", "UNLIMITED"] {
        let paid = trial(|it| {
            it["accountType"] = json!(account);
            it["uri"] = json!("http://rates.example/v1/");
        });
        let request = asked(&paid.try_outcomes(&BRITISH).unwrap_err());
        assert_eq!(request.uri, "http://rates.example/v1/historical/2026-09-20.json?base=EUR");
    }
}

#[test]
fn amounts_are_converted_exactly_and_rounded_once() {
    let of = |base: &str, from: &str, amount: &str| {
        let parameters = [("e", "tr"), ("tr_cu", from), ("tr_tt", amount)];
        let trial = trial(|it| it["baseCurrency"] = json!(base));
        let event = answered(trial, &parameters, table()).event(&parameters);
        assert_eq!(event.base_currency.as_deref(), Some(base));
        event.tr_total_base.unwrap().as_str().to_owned()
    };
    // The example of the specification: 1.265823 times 0.92 is 1.16455716.
    assert_eq!(of("EUR", "GBP", "12.99"), "15.13");
    // 1 / 149.5 is 0.006689: six digits, no more, so that a million yen are off by some.
    assert_eq!(of("EUR", "JPY", "1000000"), "6153.88");
    assert_eq!(of("JPY", "EUR", "10"), "1625");
    assert_eq!(of("KWD", "USD", "10.1"), "3.106");
    assert_eq!(of("EUR", "USD", "-0.5"), "-0.46");
    // 0.125 EUR at the rate of 1: the half goes to the even neighbour.
    let even = |amount: &str| {
        let parameters = [("e", "ti"), ("ti_cu", "USD"), ("ti_pr", amount)];
        let same = Ok(json!({"rates": {"USD": 1, "EUR": 1}}));
        let event = answered(trial(|_| {}), &parameters, same).event(&parameters);
        event.ti_price_base.unwrap().as_str().to_owned()
    };
    assert_eq!((even("0.125"), even("0.375")), ("0.12".to_owned(), "0.38".to_owned()));
}

#[test]
fn all_four_amounts_and_no_more_are_converted() {
    let all = [
        ("e", "tr"),
        ("tr_cu", "GBP"),
        ("tr_tt", "10"),
        ("tr_tx", "1"),
        ("tr_sh", "2"),
        ("ti_cu", "USD"),
        ("ti_pr", "10"),
    ];
    let event = answered(trial(|_| {}), &all, table()).event(&all);
    let text = |amount: Option<Decimal>| amount.map(|it| it.as_str().to_owned());
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(text(event.tr_total_base), some("11.65"));
    assert_eq!(text(event.tr_tax_base), some("1.16"));
    assert_eq!(text(event.tr_shipping_base), some("2.33"));
    assert_eq!(text(event.ti_price_base), some("9.20"));
    // Half a pair is neither converted nor asked about, and the base currency is there all the same.
    for parameters in [&[("tr_cu", "GBP")][..], &[("tr_tt", "1")], &[]] {
        let event = trial(|_| {}).event(parameters);
        assert_eq!(event.base_currency.as_deref(), Some("EUR"));
        assert_eq!(event.tr_total_base, None);
    }
    // So is what is in the base currency already, as it came.
    let event = trial(|_| {}).event(&[("tr_cu", "EUR"), ("tr_tt", "1.234")]);
    assert_eq!(text(event.tr_total_base), some("1.234"));
}

#[test]
fn what_cannot_be_converted_fails_the_event_unless_it_is_ignored() {
    let unknown = [("tr_cu", "XXX"), ("tr_tt", "1"), ("tr_tx", "1")];
    let failures = trial(|_| {}).failures(&unknown);
    assert_eq!(failures.len(), 2, "one for each amount: {failures:?}");
    assert_eq!(failures[0], "tr_currency Some(\"XXX\") Unknown currency 'XXX'");
    let item = trial(|_| {}).failures(&[("ti_cu", "eur"), ("ti_pr", "1")]);
    assert_eq!(item[0], "ti_currency Some(\"eur\") Unknown currency 'eur'");

    let away = || Err("GET https://a.example/b: Request failed with status 401".to_owned());
    let odd = |rates: Value| Ok(json!({"rates": rates}));
    for (answer, expected) in [
        (
            away(),
            "type: [request], message: [GET https://a.example/b: Request failed with status 401]",
        ),
        (odd(json!({"EUR": 1})), "type: [table], message: [the table has no rate of GBP"),
        (odd(json!({"GBP": 1})), "message: [the table has no rate of EUR"),
        (odd(json!({"GBP": 0, "EUR": 1})), "no rate of GBP"),
        (odd(json!({"GBP": "1", "EUR": 1})), "no rate of GBP"),
    ] {
        let failures = answered(trial(|_| {}), &BRITISH, answer.clone()).failures(&BRITISH);
        assert!(failures[0].starts_with("Open Exchange Rates error, type: ["), "{failures:?}");
        assert!(failures[0].contains(expected) && failures.len() == 1, "{failures:?}");
        let lenient = answered(trial(|it| it["ignoreOnError"] = json!(true)), &BRITISH, answer);
        let event = lenient.event(&BRITISH);
        assert_eq!((event.base_currency.as_deref(), event.tr_total_base), (Some("EUR"), None));
    }
    let lenient = trial(|it| it["ignoreOnError"] = json!(true));
    assert!(matches!(&lenient.outcomes(&unknown)[..], [Outcome::Enriched(_)]));
}

#[test]
fn a_configuration_that_cannot_be_meant_is_refused_without_its_key() {
    for (change, expected) in [
        ((|it| it["baseCurrency"] = json!("EURO")) as fn(&mut Value), "no currency of ISO 4217"),
        (|it| it["uri"] = json!("ftp://a.example"), "does not begin with http"),
        (|it| it["accountType"] = json!("FREE"), "accountType"),
        (|it| it["rateAt"] = json!("NOW"), "rateAt"),
        (|it| it["apiKey"] = json!({"a": "s3cret"}), "apiKey"),
    ] {
        let result = Trial::with_assets(vec![config(change)], &Assets::new());
        let message = result.err().unwrap().to_string();
        assert!(message.contains(expected) && !message.contains("s3cret"), "{message}");
    }
}
