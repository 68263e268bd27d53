//! A report for spreadsheets (RFC 4180): one section after another, each with a line of its title and a line of its
//! columns, an empty line between them.

use super::document::{Cell, Report};
use crate::audit::export::csv::push_cell;

/// The report as CSV.
pub(super) fn render(report: &Report) -> Vec<u8> {
    let mut out = Vec::new();
    line(&mut out, [format!("# {}", report.title)]);
    line(&mut out, ["name", "value"]);
    let facts = [
        ("report", report.name.to_owned()),
        ("server", report.server.clone()),
        ("grantlog_version", report.version.to_owned()),
        ("from_index", "0".to_owned()),
        ("as_of", report.now.map(|now| now.to_string()).unwrap_or_default()),
    ];
    for (name, value) in facts.iter().map(|(name, value)| (*name, value)) {
        line(&mut out, [name, value]);
    }
    for (name, value) in &report.parameters {
        line(&mut out, [*name, value]);
    }
    line(&mut out, ["again", &report.again()]);
    line(
        &mut out,
        ["checkpoint", report.checkpoint.as_deref().unwrap_or_default()],
    );
    for (name, value) in &report.summary {
        line(&mut out, [name, &value.text()]);
    }
    for remark in &report.remarks {
        line(&mut out, ["note", remark]);
    }
    for table in &report.tables {
        out.extend_from_slice(b"\r\n");
        line(&mut out, [format!("# {}", table.title)]);
        line(&mut out, table.columns.iter().map(|column| column.name));
        for row in &table.rows {
            line(&mut out, row.iter().map(Cell::text));
        }
        if table.omitted > 0 {
            line(
                &mut out,
                [format!(
                    "# and {} more rows: narrow the report to see them",
                    table.omitted
                )],
            );
        }
    }
    out.extend_from_slice(b"\r\n");
    line(&mut out, ["# Controls that this serves"]);
    line(&mut out, ["standard", "control", "evidence"]);
    for control in report.controls {
        line(&mut out, [control.standard, control.control, control.evidence]);
    }
    out
}

fn line<T: AsRef<str>>(out: &mut Vec<u8>, fields: impl IntoIterator<Item = T>) {
    for (at, field) in fields.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        // What a spreadsheet would take for a formula is neutral, as in an export.
        push_cell(out, field.as_ref());
    }
    out.extend_from_slice(b"\r\n");
}
