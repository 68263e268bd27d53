//! A report for programs: rows are objects, and what is text stays as it is in the log.

use super::document::{Cell, Report, Table};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

/// The report as one JSON document, ending with a line break.
pub(super) fn render(report: &Report) -> String {
    let document = Document {
        report: report.name,
        title: report.title,
        purpose: report.purpose,
        server: &report.server,
        grantlog_version: report.version,
        parameters: Pairs(&report.parameters),
        range: Range {
            from_index: 0,
            through_index: report.through_index,
        },
        as_of: report.now,
        checkpoint: report.checkpoint.as_deref(),
        controls: report
            .controls
            .iter()
            .map(|control| ShownControl {
                standard: control.standard,
                control: control.control,
                evidence: control.evidence,
            })
            .collect(),
        again: report.again(),
        summary: Pairs(&report.summary),
        remarks: &report.remarks,
        tables: report.tables.iter().map(ShownTable).collect(),
    };
    // Texts, numbers and lists are always JSON.
    let mut text = serde_json::to_string(&document).unwrap_or_default();
    text.push('\n');
    text
}

#[derive(Serialize)]
struct Document<'a> {
    report: &'a str,
    title: &'a str,
    purpose: &'a str,
    server: &'a str,
    grantlog_version: &'a str,
    parameters: Pairs<'a, &'static str, String>,
    range: Range,
    as_of: Option<grantlog_projections::values::Timestamp>,
    checkpoint: Option<&'a str>,
    controls: Vec<ShownControl<'a>>,
    again: String,
    summary: Pairs<'a, String, Cell>,
    remarks: &'a [String],
    tables: Vec<ShownTable<'a>>,
}

#[derive(Serialize)]
struct Range {
    from_index: u64,
    through_index: u64,
}

#[derive(Serialize)]
struct ShownControl<'a> {
    standard: &'a str,
    control: &'a str,
    evidence: &'a str,
}

/// Pairs as an object, in their order.
struct Pairs<'a, N, V>(&'a [(N, V)]);

impl<N: Serialize, V: Serialize> Serialize for Pairs<'_, N, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

struct ShownTable<'a>(&'a Table);

impl Serialize for ShownTable<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("name", self.0.name)?;
        map.serialize_entry("title", &self.0.title)?;
        map.serialize_entry(
            "columns",
            &self.0.columns.iter().map(|column| column.name).collect::<Vec<_>>(),
        )?;
        map.serialize_entry("rows", &Rows(self.0))?;
        map.serialize_entry("omitted_rows", &self.0.omitted)?;
        map.end()
    }
}

struct Rows<'a>(&'a Table);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.0.rows.len()))?;
        for row in &self.0.rows {
            rows.serialize_element(&Row(self.0, row))?;
        }
        rows.end()
    }
}

struct Row<'a>(&'a Table, &'a [Cell]);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.columns.iter().map(|column| column.name).zip(self.1))
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing => serializer.serialize_none(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Time(time) => time.serialize(serializer),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::List(texts) => texts.serialize(serializer),
        }
    }
}
