//! The small texts: schema keys, criteria, versions, partitions, offsets, durations, decimals, instants. What is read is
//! printed as something that reads as the same.

use model::decimal::Decimal;
use model::duration;
use model::iglu::{Criterion, SchemaKey, SelfDescribing, Version};
use model::position::{Offset, Partition};
use model::time::Timestamp;

pub(crate) fn keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let key = SchemaKey::parse(text);
    if let Ok(key) = &key {
        assert_eq!(key.to_string(), text);
        let parts = [key.vendor(), key.name(), key.format(), &key.version().to_string()].join("/");
        assert_eq!(format!("iglu:{parts}"), text);
        assert_eq!(key.with_version(key.version()), *key);
    }
    if let Ok(criterion) = Criterion::parse(text) {
        let again = Criterion::parse(&criterion.to_string());
        assert_eq!(again.map(|it| it.to_string()), Ok(criterion.to_string()));
        assert!(key.is_err() || key.is_ok_and(|key| criterion.matches(&key)));
    }
    if let Ok(version) = Version::parse(text) {
        assert_eq!(version.to_string(), text);
    }
    if let Ok(partition) = Partition::parse(text) {
        assert_eq!(partition.to_string(), text);
        assert!(text.split('/').all(|part| !matches!(part, "" | "." | "..")), "{text}");
    }
    if let Ok(offset) = text.parse::<Offset>() {
        assert_eq!(offset.to_string().parse::<Offset>().ok(), Some(offset));
    }
    if let Ok(duration) = duration::parse(text) {
        assert_eq!(duration::parse(&duration::print(duration)).ok(), Some(duration));
    }
    if let Ok(decimal) = Decimal::parse(text) {
        let again = Decimal::parse(decimal.as_str()).expect("a decimal reads back");
        assert_eq!(again.as_str(), decimal.as_str());
        assert!(!decimal.to_f64().is_nan());
        let _ = decimal.to_hundredths();
    }
    if let Some(instant) = Timestamp::from_tsv(text) {
        assert_eq!(Timestamp::from_tsv(&instant.to_tsv()), Some(instant));
    }
    if let Ok(value) = serde_json::from_str(text)
        && let Ok(self_describing) = SelfDescribing::from_value(value)
    {
        let again = SelfDescribing::from_value(self_describing.clone().into_value());
        assert!(again.is_ok_and(|again| again == self_describing));
    }
}
