//! Answers of the SQL API as text: an aligned table for people, CSV and JSON for programs.

use std::io::{self, Write};

use serde_json::{Map, Value};

/// Columns by name, rows of JSON values.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Table {
    /// From the body of `POST /api/v1/sql`; anything missing counts as empty.
    pub(crate) fn from_answer(answer: &Value) -> Table {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        Table {
            columns: list(&answer["columns"])
                .iter()
                .map(|column| column["name"].as_str().unwrap_or_default().to_owned())
                .collect(),
            rows: list(&answer["rows"]).iter().map(list).collect(),
        }
    }

    /// Aligned columns; numbers to the right, nulls empty, long texts whole.
    pub(crate) fn print_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let texts: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(text_of).collect()).collect();
        let width = |at: usize| {
            let cells = texts.iter().filter_map(|row| row.get(at)).map(|text| text.chars().count());
            cells.chain([self.columns[at].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let header: Vec<String> = self
            .columns
            .iter()
            .zip(&widths)
            .map(|(name, width)| format!("{name:width$}"))
            .collect();
        writeln!(out, "{}", header.join(" | ").trim_end())?;
        writeln!(
            out,
            "{}",
            widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("-+-")
        )?;
        for (row, texts) in self.rows.iter().zip(&texts) {
            let cells: Vec<String> = row
                .iter()
                .zip(texts)
                .zip(&widths)
                .map(|((value, text), width)| {
                    if value.is_number() {
                        format!("{text:>width$}")
                    } else {
                        format!("{text:width$}")
                    }
                })
                .collect();
            writeln!(out, "{}", cells.join(" | ").trim_end())?;
        }
        let ending = if self.rows.len() == 1 { "" } else { "s" };
        writeln!(out, "({} row{ending})", self.rows.len())
    }

    /// RFC 4180 with a header; a null is an empty field, an empty text is `""`.
    pub(crate) fn print_csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let header: Vec<String> = self.columns.iter().map(|name| csv_field(name)).collect();
        writeln!(out, "{}", header.join(","))?;
        for row in &self.rows {
            let fields: Vec<String> = row
                .iter()
                .map(
                    |value| {
                        if value.is_null() { String::new() } else { csv_field(&text_of(value)) }
                    },
                )
                .collect();
            writeln!(out, "{}", fields.join(","))?;
        }
        Ok(())
    }

    /// One JSON object per line.
    pub(crate) fn print_json(&self, out: &mut dyn Write) -> io::Result<()> {
        for row in &self.rows {
            let object: Map<String, Value> =
                self.columns.iter().cloned().zip(row.iter().cloned()).collect();
            writeln!(out, "{}", Value::Object(object))?;
        }
        Ok(())
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn csv_field(text: &str) -> String {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn printed(print: impl Fn(&Table, &mut Vec<u8>) -> io::Result<()>) -> String {
        let answer = json!({
            "columns": [{"name": "event", "type": "text"}, {"name": "n", "type": "bigint"}],
            "rows": [["page_view", 12], [null, 3], ["a,\"b\"", 1]],
        });
        let mut out = Vec::new();
        print(&Table::from_answer(&answer), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_is_aligned() {
        let expect = "event     | n\n----------+---\npage_view | 12\n          |  3\na,\"b\"     |  1\n(3 rows)\n";
        assert_eq!(printed(|table, out| table.print_text(out)), expect);
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(
            printed(|table, out| table.print_csv(out)),
            "event,n\npage_view,12\n,3\n\"a,\"\"b\"\"\",1\n"
        );
    }

    #[test]
    fn json_is_one_object_per_row() {
        assert!(
            printed(|table, out| table.print_json(out))
                .starts_with("{\"event\":\"page_view\",\"n\":12}\n")
        );
    }
}
