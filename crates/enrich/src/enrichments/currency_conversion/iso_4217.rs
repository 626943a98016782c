//! The currencies of ISO 4217 and the digits of their minor units, those that were withdrawn since 2010 too.

/// Without minor units.
const NONE: &str = "BIF BYR CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";

const TWO: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD \
    CDF CHE CHF CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EEK EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD \
    HKD HNL HRK HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL LTL LVL MAD MDL MGA MKD MMK MNT \
    MOP MRO MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR \
    SDG SEK SGD SHP SLE SLL SOS SRD SSP STD STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN USS UYU UZS VED \
    VEF VES WST XCD XCG YER ZAR ZMK ZMW ZWG ZWL";

const THREE: &str = "BHD IQD JOD KWD LYD OMR TND";

const FOUR: &str = "CLF UYW";

/// The digits behind the point of a currency's amounts; none if no currency has this code.
pub(super) fn digits(code: &str) -> Option<u32> {
    let is_in =
        |codes: &str| code.len() == 3 && codes.split_ascii_whitespace().any(|it| it == code);
    [(NONE, 0), (TWO, 2), (THREE, 3), (FOUR, 4)]
        .into_iter()
        .find_map(|(codes, digits)| is_in(codes).then_some(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_known_by_their_capitals() {
        for (code, expected) in [
            ("EUR", Some(2)),
            ("JPY", Some(0)),
            ("KWD", Some(3)),
            ("CLF", Some(4)),
            ("eur", None),
            ("EUR ", None),
            ("", None),
            ("XXX", None),
            ("UR ", None),
        ] {
            assert_eq!(digits(code), expected, "{code}");
        }
        let all: Vec<&str> =
            [NONE, TWO, THREE, FOUR].iter().flat_map(|it| it.split_ascii_whitespace()).collect();
        let each: std::collections::BTreeSet<&&str> = all.iter().collect();
        assert_eq!(all.len(), each.len(), "no currency twice");
        assert!(all.iter().all(|code| code.len() == 3));
    }
}
