//! The page of all metrics, from the tables that they are printed by.

use serving::exposition::Family;

use super::cell;

const INTRODUCTION: &str = "\
# Metrics

Made from the code by `cargo xtask generate`. `GET /metrics` on the server's port answers in Prometheus text form; with
a password it wants the same as the API. Counters count from the start of the process. Every label has few values:
partitions, reasons, kinds, schemas of bad rows, codes of errors. Units stand in the names. What to alert on is in the
guide [operate](../guides/operate.md).

| Name | Type | Labels | Meaning |
|---|---|---|---|
";

/// The whole page.
pub(super) fn markdown() -> String {
    let row = |family: &Family| {
        let labels: Vec<String> = family.labels.iter().map(|it| format!("`{it}`")).collect();
        let Family { name, kind, help, .. } = family;
        format!("| `{name}` | {} | {} | {} |\n", kind.as_str(), labels.join(", "), cell(help))
    };
    let families = serving::FAMILIES.iter().chain(crate::metrics::FAMILIES);
    INTRODUCTION.to_owned() + &families.map(row).collect::<String>()
}
