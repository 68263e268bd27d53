//! A report as what it is before it looks like anything.

use super::controls::Control;
use super::parameters::Parameters;
use super::{LogCheckpoint, MAX_ROWS, ReportKind};
use grantlog_projections::values::Timestamp;

/// A report.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its kind's name.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// The server whose log it speaks of: its issuer.
    pub server: String,
    /// Grantlog's version.
    pub version: &'static str,
    /// What was asked for, in full: with these it is made again.
    pub parameters: Vec<(&'static str, String)>,
    /// The log's size up to which it speaks.
    pub through_index: u64,
    /// What it takes for now.
    pub now: Option<Timestamp>,
    /// The signed state of the log that it speaks of.
    pub checkpoint: Option<String>,
    /// The controls that it serves.
    pub controls: &'static [Control],
    /// The figures that come first.
    pub summary: Vec<(String, Cell)>,
    /// What has to be known to read it rightly.
    pub remarks: Vec<String>,
    /// The tables.
    pub tables: Vec<Table>,
    /// Whether somebody is to sign it.
    pub is_signed_off: bool,
}

/// What a reading of the log makes of it.
#[derive(Debug, Default)]
pub struct Body {
    /// The figures that come first.
    pub summary: Vec<(String, Cell)>,
    /// What has to be known to read it rightly.
    pub remarks: Vec<String>,
    /// The tables.
    pub tables: Vec<Table>,
    /// Whether somebody is to sign it.
    pub is_signed_off: bool,
}

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name for programs.
    pub name: &'static str,
    /// Its caption.
    pub title: String,
    /// What is said when it is empty.
    pub when_empty: &'static str,
    /// Its columns, each with its name for programs and for people.
    pub columns: &'static [Column],
    /// Its rows, each as long as `columns`.
    pub rows: Vec<Vec<Cell>>,
    /// Rows that there was no room for.
    pub omitted: u64,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name for programs.
    pub name: &'static str,
    /// Its heading.
    pub heading: &'static str,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// There is none.
    Nothing,
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
    /// A point in time.
    Time(Timestamp),
    /// Yes or no.
    Flag(bool),
    /// Several texts.
    List(Vec<String>),
}

/// A column of that name and heading.
pub(super) const fn column(name: &'static str, heading: &'static str) -> Column {
    Column { name, heading }
}

impl Report {
    pub(super) fn new(
        kind: &ReportKind,
        parameters: &Parameters,
        server: String,
        checkpoint: Option<LogCheckpoint>,
        body: Body,
    ) -> Self {
        Self {
            name: kind.name,
            title: kind.title,
            purpose: kind.purpose,
            server,
            version: env!("CARGO_PKG_VERSION"),
            parameters: parameters.effective(kind),
            through_index: parameters.through_index,
            now: parameters.now,
            checkpoint: checkpoint.map(|checkpoint| checkpoint.note),
            controls: kind.controls,
            summary: body.summary,
            remarks: body.remarks,
            tables: body.tables,
            is_signed_off: body.is_signed_off,
        }
    }

    /// How many rows its tables have.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows.len() as u64).sum()
    }

    /// The command that makes it again.
    pub fn again(&self) -> String {
        let parameters = self.parameters.iter().map(|(name, value)| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte);
            match !value.is_empty() && value.bytes().all(is_plain) {
                true => format!(" --{} {value}", name.replace('_', "-")),
                false => format!(" --{} '{}'", name.replace('_', "-"), value.replace('\'', r"'\''")),
            }
        });
        format!("grantlog report {}{}", self.name, parameters.collect::<String>())
    }
}

impl Table {
    pub(super) fn new(
        name: &'static str,
        title: impl Into<String>,
        when_empty: &'static str,
        columns: &'static [Column],
    ) -> Self {
        Self {
            name,
            title: title.into(),
            when_empty,
            columns,
            rows: Vec::new(),
            omitted: 0,
        }
    }

    /// Adds a row, as long as there is room.
    pub(super) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.columns.len(), "{}", self.name);
        if self.rows.len() < MAX_ROWS {
            self.rows.push(cells.into());
        } else {
            self.omitted += 1;
        }
    }
}

impl Cell {
    /// The value as people read it, on one line.
    pub fn text(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Time(time) => time.to_string(),
            Self::Flag(true) => "yes".into(),
            Self::Flag(false) => "no".into(),
            Self::List(texts) => texts.join(", "),
        }
    }

    pub(super) fn of(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    pub(super) fn maybe(text: Option<impl ToString>) -> Self {
        text.map_or(Self::Nothing, |text| Self::Text(text.to_string()))
    }

    pub(super) fn time(time: Option<Timestamp>) -> Self {
        time.map_or(Self::Nothing, Self::Time)
    }

    pub(super) fn count(count: usize) -> Self {
        Self::Number(count as u64)
    }

    pub(super) fn list<T: ToString>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(|text| text.to_string()).collect())
    }
}
