//! A report for a terminal, and for `diff`: no line depends on how wide anything is.

use super::document::{Cell, Report, Table};
use super::plain::plain;
use std::fmt::Write;

/// A table that is wider is written as one paragraph per row.
const MAX_WIDTH: usize = 110;
const GAP: usize = 2;

/// The report as text. Writing into a `String` cannot fail.
pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    let title = plain(report.title);
    let _ = writeln!(out, "{title}\n{}\n", "=".repeat(width(&title)));
    let _ = writeln!(out, "{}\n", report.purpose);
    let now = report
        .now
        .map_or_else(|| "an empty log".to_owned(), |now| now.to_string());
    let mut facts = vec![
        ("Server".to_owned(), report.server.clone()),
        ("Grantlog".to_owned(), report.version.to_owned()),
        (
            "Events".to_owned(),
            format!("0 to {} (through_index {})", last(report), report.through_index),
        ),
        ("As of".to_owned(), now),
    ];
    for (name, value) in report.parameters.iter().filter(|(name, _)| *name != "through_index") {
        facts.push(((*name).to_owned(), value.clone()));
    }
    facts.push(("Again".to_owned(), report.again()));
    pairs(&mut out, &facts);
    heading(&mut out, "Summary");
    let summary: Vec<_> = report
        .summary
        .iter()
        .map(|(name, value)| (name.clone(), shown(value)))
        .collect();
    pairs(&mut out, &summary);
    for remark in &report.remarks {
        let _ = writeln!(out, "\nNote: {remark}");
    }
    for table in &report.tables {
        heading(&mut out, &table.title);
        write_table(&mut out, table);
    }
    heading(&mut out, "Controls that this serves");
    for control in report.controls {
        let _ = writeln!(out, "{} {}: {}", control.standard, control.control, control.evidence);
    }
    heading(&mut out, "Checkpoint");
    match &report.checkpoint {
        Some(note) => out.push_str(note),
        None => out.push_str("None of this size was signed.\n"),
    }
    out
}

fn last(report: &Report) -> String {
    match report.through_index.checked_sub(1) {
        Some(last) => last.to_string(),
        None => "none".into(),
    }
}

fn heading(out: &mut String, text: &str) {
    let text = plain(text);
    let _ = writeln!(out, "\n{text}\n{}", "-".repeat(width(&text)));
}

fn pairs(out: &mut String, pairs: &[(String, String)]) {
    let widest = pairs.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    for (name, value) in pairs {
        let padding = " ".repeat(widest + GAP - width(name));
        let _ = writeln!(out, "{}", format!("{name}{padding}{}", plain(value)).trim_end());
    }
}

fn write_table(out: &mut String, table: &Table) {
    if table.rows.is_empty() {
        let _ = writeln!(out, "{}", table.when_empty);
        return;
    }
    let cells: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(shown).collect()).collect();
    let mut widths: Vec<usize> = table.columns.iter().map(|column| width(column.heading)).collect();
    for row in &cells {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    if widths.iter().sum::<usize>() + GAP * widths.len() <= MAX_WIDTH {
        let headings = table
            .columns
            .iter()
            .map(|column| column.heading.to_owned())
            .collect::<Vec<_>>();
        for (at, row) in std::iter::once(&headings).chain(&cells).enumerate() {
            let mut line = String::new();
            for ((cell, widest), column) in row.iter().zip(&widths).zip(0..) {
                let is_number = at > 0
                    && table
                        .rows
                        .get(at - 1)
                        .and_then(|row| row.get(column))
                        .is_some_and(is_number);
                let padding = " ".repeat(widest - width(cell));
                match is_number {
                    true => line.extend([&padding, cell.as_str()]),
                    false => line.extend([cell.as_str(), &padding]),
                }
                line.push_str("  ");
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
    } else {
        for (at, row) in cells.iter().enumerate() {
            if at > 0 {
                out.push('\n');
            }
            let named: Vec<_> = table
                .columns
                .iter()
                .zip(row)
                .filter(|(_, cell)| !cell.is_empty())
                .map(|(column, cell)| (format!("  {}", column.heading), cell.clone()))
                .collect();
            pairs(out, &named);
        }
    }
    if table.omitted > 0 {
        let _ = writeln!(out, "and {} more: narrow the report to see them", table.omitted);
    }
}

fn shown(cell: &Cell) -> String {
    plain(&cell.text()).into_owned()
}

fn is_number(cell: &Cell) -> bool {
    matches!(cell, Cell::Number(_))
}

fn width(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}
