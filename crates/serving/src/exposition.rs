//! Metrics in Prometheus text form, and the table that a family of them must stand in.
//!
//! Each role declares its families once with `families!`; what is printed and what `docs/reference/metrics.md` says
//! both come from there. Nothing here counts anything.

use std::fmt::{Display, Write};

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// The word in Prometheus text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric with all of its labels' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Ends with its unit: `_bytes`, `_seconds`; counters end with `_total`.
    pub name: &'static str,
    pub kind: Kind,
    /// One sentence, without a full stop.
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

/// Declares families as constants, and the list of all of them.
///
/// ```
/// serving::families! { ALL:
///     REQUESTS = Counter "requests_total" [] "requests answered";
///     LAG = Gauge "lag_seconds" ["partition"] "how old the newest answer is";
/// }
/// assert_eq!(ALL[1].labels, ["partition"]);
/// # assert_eq!(REQUESTS, ALL[0]); assert_eq!(LAG, ALL[1]);
/// ```
#[macro_export]
macro_rules! families {
    ($(#[$meta:meta])* $vis:vis $all:ident: $($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            const $constant: $crate::exposition::Family = $crate::exposition::Family {
                name: $name,
                kind: $crate::exposition::Kind::$kind,
                help: $help,
                labels: &[$($label),*],
            };
        )*
        $(#[$meta])*
        $vis const $all: &[$crate::exposition::Family] = &[$($constant),*];
    };
}

/// The text of `GET /metrics` while it is written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// A family without labels.
    pub fn value(&mut self, family: &Family, value: impl Display) {
        self.values(family, [([], value)]);
    }

    /// A family with labels: for each combination of their values one number.
    pub fn values<'a, V: Display, const N: usize>(
        &mut self,
        family: &Family,
        samples: impl IntoIterator<Item = ([&'a str; N], V)>,
    ) {
        self.head(family);
        for (labels, value) in samples {
            let labels = pairs(family, &labels);
            self.line(&format!("{}{}", family.name, braced(&labels)), value);
        }
    }

    /// A histogram per combination of label values: cumulative buckets, sum in seconds, count.
    pub fn histograms<'a, const N: usize>(
        &mut self,
        family: &Family,
        samples: impl IntoIterator<Item = ([&'a str; N], Vec<(f64, u64)>, f64, u64)>,
    ) {
        self.head(family);
        for (labels, buckets, sum, count) in samples {
            let labels = pairs(family, &labels);
            let mut bucket = |bound: &str, count| {
                let with_bound = [&labels[..], &[format!("le=\"{bound}\"")]].concat();
                self.line(&format!("{}_bucket{}", family.name, braced(&with_bound)), count);
            };
            buckets.iter().for_each(|(bound, count)| bucket(&bound.to_string(), *count));
            bucket("+Inf", count);
            self.line(&format!("{}_sum{}", family.name, braced(&labels)), sum);
            self.line(&format!("{}_count{}", family.name, braced(&labels)), count);
        }
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.text
    }

    fn head(&mut self, family: &Family) {
        let Family { name, help, kind, .. } = family;
        let kind = kind.as_str();
        self.text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, name: &str, value: impl Display) {
        writeln!(self.text, "{name} {value}").expect("writing to a string does not fail");
    }
}

fn pairs(family: &Family, values: &[&str]) -> Vec<String> {
    debug_assert_eq!(family.labels.len(), values.len(), "{}", family.name);
    let escaped =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    family
        .labels
        .iter()
        .zip(values)
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect()
}

fn braced(pairs: &[String]) -> String {
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    families! { ALL:
        PLAIN = Gauge "plain_bytes" [] "some bytes";
        LABELLED = Counter "labelled_total" ["reason"] "things, by reason";
        TIMES = Histogram "times_seconds" ["partition"] "how long";
    }

    #[test]
    fn each_kind_is_printed_with_its_head() {
        let mut text = Exposition::default();
        text.value(&PLAIN, 7);
        text.values(&LABELLED, [(["a \"b\"\n"], 1), (["c\\d"], 2)]);
        text.histograms(&TIMES, [(["raw/0"], vec![(0.5, 1), (1.0, 3)], 2.25, 4)]);
        let expect = "\
# HELP plain_bytes some bytes
# TYPE plain_bytes gauge
plain_bytes 7
# HELP labelled_total things, by reason
# TYPE labelled_total counter
labelled_total{reason=\"a \\\"b\\\"\\n\"} 1
labelled_total{reason=\"c\\\\d\"} 2
# HELP times_seconds how long
# TYPE times_seconds histogram
times_seconds_bucket{partition=\"raw/0\",le=\"0.5\"} 1
times_seconds_bucket{partition=\"raw/0\",le=\"1\"} 3
times_seconds_bucket{partition=\"raw/0\",le=\"+Inf\"} 4
times_seconds_sum{partition=\"raw/0\"} 2.25
times_seconds_count{partition=\"raw/0\"} 4
";
        assert_eq!(text.finish(), expect);
        assert_eq!(ALL.len(), 3);
    }
}
