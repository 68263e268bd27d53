//! A report for a browser and a printer: one page that needs nothing else, runs nothing, and shows names from outside
//! as text.

use super::document::{Cell, Report, Table};
use super::plain::plain;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::LazyLock;

const STYLE: &str = include_str!("report.css");
/// Columns that stand beside each other; the rest of a row follows below it.
const MAX_COLUMNS: usize = 9;
/// A figure that is longer is written smaller.
const LONG_FIGURE: usize = 14;

/// What a browser may do with the page: show it, in its own style. The page repeats it for a copy on disk.
pub static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The report as a page. Writing into a `String` cannot fail.
pub(super) fn render(report: &Report) -> String {
    let mut out = String::with_capacity(16_384);
    // A page cannot say who may frame it (CSP3 §6.4.2): that is for the header alone.
    let policy = CONTENT_SECURITY_POLICY.trim_end_matches("; frame-ancestors 'none'");
    let title = escaped(report.title);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<title>{title} · {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        escaped(&report.server)
    );
    let _ = write!(
        out,
        "<header>\n<p class=\"kind\">Grantlog report · {}</p>\n<h1>{title}</h1>\n<p class=\"purpose\">{}</p>\n</header>\n<main>\n",
        escaped(&report.server),
        escaped(report.purpose)
    );
    figures(&mut out, report);
    for table in &report.tables {
        write_table(&mut out, table);
    }
    if report.is_signed_off {
        out.push_str("<section class=\"sign-off\" aria-label=\"Sign-off\">\n");
        for line in ["Reviewed by", "Signature", "Date", "Next review"] {
            let _ = writeln!(out, "<div>{line}</div>");
        }
        out.push_str("</section>\n");
    }
    controls(&mut out, report);
    provenance(&mut out, report);
    let _ = write!(
        out,
        "</main>\n<footer>Grantlog {} · events before {} of {} · the same parameters give the same bytes</footer>\n</body>\n</html>\n",
        escaped(report.version),
        report.through_index,
        escaped(&report.server)
    );
    out
}

fn figures(out: &mut String, report: &Report) {
    out.push_str("<section aria-labelledby=\"summary\">\n<h2 id=\"summary\">Summary</h2>\n<ul class=\"figures\">\n");
    for (name, value) in &report.summary {
        let value = value.text();
        let class = if value.len() > LONG_FIGURE {
            "value long"
        } else {
            "value"
        };
        let value = if value.is_empty() { "none" } else { &value };
        let _ = writeln!(
            out,
            "<li><span class=\"{class}\">{}</span> <span class=\"name\">{}</span></li>",
            escaped(value),
            escaped(name)
        );
    }
    out.push_str("</ul>\n");
    if !report.remarks.is_empty() {
        out.push_str("<ul class=\"remarks\">\n");
        for remark in &report.remarks {
            let _ = writeln!(out, "<li>{}</li>", escaped(remark));
        }
        out.push_str("</ul>\n");
    }
    out.push_str("</section>\n");
}

fn write_table(out: &mut String, table: &Table) {
    let beside = table.columns.len().min(MAX_COLUMNS);
    let rows = table.rows.len() as u64 + table.omitted;
    let count = match rows {
        0 => String::new(),
        1 => "<span class=\"count\">1 row</span>".into(),
        rows => format!("<span class=\"count\">{rows} rows</span>"),
    };
    let title = escaped(&table.title);
    // What can be scrolled can be reached by the keyboard (WCAG 2.1.1).
    let _ = write!(
        out,
        "<div class=\"scroll\" role=\"region\" aria-label=\"{title}\" tabindex=\"0\">\n<table id=\"{}\">\n<caption>{title}{count}</caption>\n<thead>\n<tr>",
        table.name
    );
    for (at, column) in table.columns.iter().take(beside).enumerate() {
        // Above its numbers.
        let is_number = table
            .rows
            .iter()
            .any(|row| matches!(row.get(at), Some(Cell::Number(_))));
        let class = if is_number { " class=\"number\"" } else { "" };
        let _ = write!(out, "<th scope=\"col\"{class}>{}</th>", escaped(column.heading));
    }
    out.push_str("</tr>\n</thead>\n<tbody>\n");
    if table.rows.is_empty() {
        let _ = writeln!(
            out,
            "<tr><td class=\"empty\" colspan=\"{beside}\">{}</td></tr>",
            escaped(table.when_empty)
        );
    }
    for row in &table.rows {
        let more: Vec<_> = table
            .columns
            .iter()
            .zip(row)
            .skip(beside)
            .filter(|(_, cell)| !cell.text().is_empty())
            .collect();
        out.push_str(if more.is_empty() {
            "<tr>"
        } else {
            "<tr class=\"with-more\">"
        });
        for (at, cell) in row.iter().take(beside).enumerate() {
            let text = cell.text();
            let text = escaped(&text);
            let _ = match (at, cell) {
                (0, _) => write!(out, "<th scope=\"row\">{text}</th>"),
                (_, Cell::Number(_)) => write!(out, "<td class=\"number\">{text}</td>"),
                (_, Cell::Time(_)) => write!(out, "<td class=\"time\">{}</td>", escaped(&shown(cell))),
                _ => write!(out, "<td>{text}</td>"),
            };
        }
        out.push_str("</tr>\n");
        if !more.is_empty() {
            let _ = write!(out, "<tr class=\"more\"><td colspan=\"{beside}\">");
            for (column, cell) in more {
                let _ = write!(
                    out,
                    "<span>{}: <b>{}</b></span> ",
                    escaped(column.heading),
                    escaped(&shown(cell))
                );
            }
            out.push_str("</td></tr>\n");
        }
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    if table.omitted > 0 {
        let _ = writeln!(
            out,
            "<p class=\"omitted\">{} more rows are not shown: narrow the report to see them.</p>",
            table.omitted
        );
    }
}

fn controls(out: &mut String, report: &Report) {
    out.push_str(
        "<div class=\"scroll\" role=\"region\" aria-label=\"Controls that this serves\" tabindex=\"0\">\n\
         <table id=\"controls\">\n<caption>Controls that this serves</caption>\n<thead>\n<tr><th scope=\"col\">Standard</th>\
         <th scope=\"col\">Control</th><th scope=\"col\">This report</th></tr>\n</thead>\n<tbody>\n",
    );
    for control in report.controls {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>",
            escaped(control.standard),
            escaped(control.control),
            escaped(control.evidence)
        );
    }
    out.push_str("</tbody>\n</table>\n</div>\n<p class=\"remarks\">Evidence for an assessor; no report makes anybody compliant.</p>\n");
}

fn provenance(out: &mut String, report: &Report) {
    out.push_str("<section aria-labelledby=\"provenance\">\n<h2 id=\"provenance\">Where this comes from</h2>\n<dl>\n");
    let last = report.through_index.checked_sub(1);
    let facts = [
        ("Server", report.server.clone()),
        ("Grantlog", report.version.to_owned()),
        (
            "Events",
            last.map_or_else(|| "none".to_owned(), |last| format!("0 to {last}")),
        ),
        (
            "As of",
            report
                .now
                .map_or_else(|| "an empty log".to_owned(), |now| now.to_string()),
        ),
    ];
    let parameters = report.parameters.iter().map(|(name, value)| (*name, value.clone()));
    for (name, value) in facts.into_iter().chain(parameters).chain([("Again", report.again())]) {
        let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(&value));
    }
    out.push_str("</dl>\n</section>\n<section aria-labelledby=\"checkpoint\">\n<h2 id=\"checkpoint\">Checkpoint of the log</h2>\n");
    match &report.checkpoint {
        Some(note) => {
            let lines = note.lines().map(escaped).collect::<Vec<_>>().join("\n");
            let _ = writeln!(out, "<pre>{lines}</pre>");
        }
        None => out.push_str("<p>None of this size was signed.</p>\n"),
    }
    out.push_str("</section>\n");
}

/// A value as a table shows it: a time to the second; JSON and CSV have all of it.
fn shown(cell: &Cell) -> String {
    let text = cell.text();
    match (cell, text.split_once('.')) {
        (Cell::Time(_), Some((seconds, _))) => format!("{}Z", seconds.replace('T', " ")),
        _ => text,
    }
}

/// A text that is text in any place of the page.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in plain(text).chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char => out.push(char),
        }
    }
    out
}
