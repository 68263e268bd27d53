//! Tables and lists for people, as wide as their terminal.

use crate::cli::printable::printable;
use crate::cli::{CliError, Console};
use chrono::{DateTime, SecondsFormat, Utc};
use std::borrow::Cow;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Spaces between two columns.
const GAP: usize = 2;
/// Spaces before what did not fit beside the rest and stands below it.
const INDENT: usize = 4;
/// No column becomes narrower than this, whatever the terminal.
const NARROWEST: usize = 4;
/// The narrowest terminal that anything is fitted to.
const NARROWEST_TERMINAL: usize = 20;

/// One column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    /// `None`: as wide as its widest value.
    at_least: Option<usize>,
    /// Whether its values may move below the row, and what then stands before them.
    below: Option<&'static str>,
    is_number: bool,
}

impl Column {
    /// Its values stand on one line.
    pub const fn whole(title: &'static str) -> Self {
        Self {
            title,
            at_least: None,
            below: None,
            is_number: false,
        }
    }

    /// Its values are wrapped, but not narrower than that.
    pub const fn wrapped(title: &'static str, at_least: usize) -> Self {
        Self {
            title,
            at_least: Some(at_least),
            below: None,
            is_number: false,
        }
    }

    /// Where the terminal is too narrow, its values stand below the row, behind this word.
    pub const fn or_below(self, word: &'static str) -> Self {
        Self {
            below: Some(word),
            ..self
        }
    }

    /// Its values are aligned to the right.
    pub const fn number(title: &'static str) -> Self {
        Self {
            is_number: true,
            ..Self::whole(title)
        }
    }
}

/// Rows of text under titles.
pub struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<[String; N]>,
    /// Decided by the first rows that are printed, and kept for those that follow.
    layout: Option<Layout<N>>,
}

/// The width of each column; `None` for those below.
#[derive(Clone, Copy)]
struct Layout<const N: usize> {
    widths: [Option<usize>; N],
}

impl<const N: usize> Table<N> {
    /// An empty table.
    pub fn new(columns: [Column; N]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
            layout: None,
        }
    }

    /// Adds a row. A line feed in a value begins a new line; everything else that a terminal could obey
    /// is escaped.
    pub fn row(&mut self, values: [String; N]) {
        self.rows
            .push(values.map(|value| value.split('\n').map(printable).collect::<Vec<_>>().join("\n")));
    }

    /// Whether there is nothing to print.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints the rows so far, the first time below their titles, and forgets them: more may follow.
    pub fn print(&mut self, console: &mut Console<'_>) -> Result<(), CliError> {
        let terminal = console.columns.map(|columns| columns.max(NARROWEST_TERMINAL));
        let layout = match self.layout {
            Some(layout) => layout,
            None => {
                let layout = self.fit(terminal);
                self.layout = Some(layout);
                let titles = self.columns.map(|column| vec![column.title.to_owned()]);
                self.print_lines(&titles, layout, console)?;
                layout
            }
        };
        for row in std::mem::take(&mut self.rows) {
            let cells: [Vec<String>; N] = std::array::from_fn(|at| {
                let (Some(value), Some(width)) = (row.get(at), layout.widths.get(at)) else {
                    return Vec::new();
                };
                match (terminal, width) {
                    (Some(_), Some(width)) => wrap(value, *width),
                    (_, Some(_)) => value.split('\n').map(str::to_owned).collect(),
                    (_, None) => Vec::new(),
                }
            });
            self.print_lines(&cells, layout, console)?;
            let below = row.iter().zip(layout.widths).zip(self.columns);
            let below = below.filter(|((value, width), _)| width.is_none() && !value.is_empty());
            let below = below.map(|((value, _), column)| match column.below {
                Some(word) if !word.is_empty() => format!("{word} {value}"),
                _ => value.clone(),
            });
            let below = below.collect::<Vec<_>>().join("  ");
            if !below.is_empty() {
                let room = terminal.unwrap_or(usize::MAX).saturating_sub(INDENT);
                for line in wrap(&below, room) {
                    writeln!(console.out, "{:INDENT$}{line}", "")?;
                }
            }
        }
        Ok(())
    }

    fn print_lines(
        &self,
        cells: &[Vec<String>; N],
        layout: Layout<N>,
        console: &mut Console<'_>,
    ) -> Result<(), CliError> {
        let height = cells
            .iter()
            .zip(layout.widths)
            .filter(|(_, width)| width.is_some())
            .map(|(cell, _)| cell.len())
            .max();
        for line in 0..height.unwrap_or(0) {
            let mut text = String::new();
            for ((cell, width), column) in cells.iter().zip(layout.widths).zip(self.columns) {
                let Some(width) = width else { continue };
                let value = cell.get(line).map(String::as_str).unwrap_or_default();
                let padding = " ".repeat(width.saturating_sub(value.width()));
                if column.is_number {
                    text.extend([padding.as_str(), value]);
                } else {
                    text.extend([value, padding.as_str()]);
                }
                text.extend([" "; GAP]);
            }
            writeln!(console.out, "{}", text.trim_end())?;
        }
        Ok(())
    }

    fn fit(&self, terminal: Option<usize>) -> Layout<N> {
        let natural: [usize; N] = std::array::from_fn(|at| {
            let values = self
                .rows
                .iter()
                .filter_map(|row| row.get(at))
                .flat_map(|value| value.split('\n'));
            let title = self
                .columns
                .get(at)
                .map(|column| column.title.width())
                .unwrap_or_default();
            values.map(UnicodeWidthStr::width).max().unwrap_or_default().max(title)
        });
        let mut layout = Layout {
            widths: natural.map(Some),
        };
        let Some(terminal) = terminal else { return layout };
        let least: [usize; N] = std::array::from_fn(|at| match (self.columns.get(at), natural.get(at)) {
            (Some(column), Some(&natural)) => column
                .at_least
                .unwrap_or(natural)
                .max(column.title.width())
                .min(natural),
            _ => 0,
        });
        // First the last columns move below the row, while even the narrowest widths are too wide.
        let mut smallest = Layout {
            widths: least.map(Some),
        };
        for at in (0..N).rev() {
            let may_move = self.columns.get(at).is_some_and(|column| column.below.is_some());
            if smallest.total() > terminal && may_move {
                for layout in [&mut smallest, &mut layout] {
                    if let Some(width) = layout.widths.get_mut(at) {
                        *width = None;
                    }
                }
            }
        }
        // Then the widest of those that may be wrapped becomes narrower, and at last whichever is widest.
        layout.shrink_to(terminal, &least);
        layout.shrink_to(terminal, &[NARROWEST; N]);
        layout
    }
}

impl<const N: usize> Layout<N> {
    fn total(&self) -> usize {
        let shown = self.widths.iter().flatten();
        shown.clone().sum::<usize>() + shown.count().saturating_sub(1) * GAP
    }

    fn shrink_to(&mut self, terminal: usize, least: &[usize; N]) {
        while self.total() > terminal {
            let shrinkable = self
                .widths
                .iter_mut()
                .zip(least)
                .filter_map(|(width, &least)| width.as_mut().filter(|width| **width > least));
            match shrinkable.max_by_key(|width| **width) {
                Some(width) => *width -= 1,
                None => return,
            }
        }
    }
}

/// Names and what they are.
#[derive(Default)]
pub struct Details {
    rows: Vec<(String, String)>,
}

impl Details {
    /// Adds a name and a value; what a terminal could obey is escaped.
    pub fn add(&mut self, name: &str, value: impl AsRef<str>) {
        let value = value.as_ref().split('\n').map(printable).collect::<Vec<_>>().join("\n");
        self.rows.push((printable(name).into_owned(), value));
    }

    /// Adds it if there is a value.
    pub fn add_some(&mut self, name: &str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// Prints one name per line, indented.
    pub fn print(&self, console: &mut Console<'_>) -> Result<(), CliError> {
        let names = self.rows.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
        let before = 2 + names + GAP;
        for (name, value) in &self.rows {
            let lines = match console.columns {
                Some(columns) => wrap(
                    value,
                    columns.max(NARROWEST_TERMINAL).saturating_sub(before).max(NARROWEST),
                ),
                None => value.split('\n').map(str::to_owned).collect(),
            };
            for (at, line) in lines.iter().enumerate() {
                let name = if at == 0 { name.as_str() } else { "" };
                let padding = " ".repeat((names + GAP).saturating_sub(name.width()));
                writeln!(console.out, "{}", format!("  {name}{padding}{line}").trim_end())?;
            }
        }
        Ok(())
    }
}

/// A time of the server's in UTC to the second, as RFC 3339: it can be given back as `--since`.
pub fn time(text: &str) -> Cow<'_, str> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Cow::Owned(time.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::Secs, true)),
        Err(_) => Cow::Borrowed(text),
    }
}

/// Seconds since 1970 in the same form.
pub fn unix_time(seconds: i64) -> Option<String> {
    DateTime::from_timestamp(seconds, 0).map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// Breaks a text into lines of at most this width: between words, else behind a mark inside of one such as
/// the slash of a client_id, and in the middle of a word only when there is nothing else.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut rest = paragraph;
        while rest.width() > width {
            let at = break_at(rest, width);
            let (line, after) = rest.split_at(at);
            lines.push(line.trim_end().to_owned());
            rest = after.trim_start();
        }
        if !rest.is_empty() || paragraph.is_empty() {
            lines.push(rest.to_owned());
        }
    }
    lines
}

/// Where to break a text that is too wide: never at 0, always between two characters.
fn break_at(text: &str, width: usize) -> usize {
    let (mut used, mut space, mut mark, mut end) = (0, 0, 0, 0);
    for (at, char) in text.char_indices() {
        if char == ' ' {
            space = at;
        }
        used += char.width().unwrap_or(0);
        if used > width {
            break;
        }
        end = at + char.len_utf8();
        if "/,;:.@_=&?-".contains(char) {
            mark = end;
        }
    }
    let first = text.chars().next().map_or(0, char::len_utf8);
    let choice = if space > 0 { space } else { mark };
    // A mark right at the beginning, the one after `https:` say, would leave a line with next to nothing.
    let is_early = space == 0 && mark * 2 < end;
    if choice > 0 && !is_early {
        choice
    } else {
        end.max(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn printed<const N: usize>(table: &mut Table<N>, columns: Option<usize>) -> Vec<String> {
        let mut out = Vec::new();
        let mut console = Console {
            out: &mut out,
            err: &mut std::io::sink(),
            input: &mut std::io::empty(),
            columns,
            input_is_terminal: false,
            err_is_terminal: false,
            variable: &|_| None,
        };
        table.print(&mut console).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    fn example() -> Table<4> {
        let mut table = Table::new([
            Column::number("N"),
            Column::wrapped("CLIENT ID", 40),
            Column::whole("ORG").or_below("org"),
            Column::wrapped("WHAT", 16).or_below(""),
        ]);
        table.row([
            "7".into(),
            "my.trusted.app/service".into(),
            "acme".into(),
            "scope read update DomainApi".into(),
        ]);
        table.row(["1234".into(), "b".into(), "".into(), "line\nby line".into()]);
        table
    }

    #[test]
    fn without_a_terminal_every_value_stands_on_its_row() {
        let lines = printed(&mut example(), None);
        assert_eq!(lines[0], "   N  CLIENT ID               ORG   WHAT");
        assert_eq!(
            lines[1],
            "   7  my.trusted.app/service  acme  scope read update DomainApi"
        );
        assert_eq!(lines[2], "1234  b                             line");
        assert_eq!(lines[3], "                                    by line");
    }

    #[test]
    fn a_terminal_wraps_the_widest_column_between_words() {
        let lines = printed(&mut example(), Some(52));
        assert_eq!(lines[1], "   7  my.trusted.app/service  acme  scope read");
        assert_eq!(lines[2], "                                    update DomainApi");
    }

    #[test]
    fn a_narrow_terminal_moves_the_last_columns_below() {
        let lines = printed(&mut example(), Some(30));
        assert_eq!(lines[0], "   N  CLIENT ID");
        assert_eq!(lines[1], "   7  my.trusted.app/service");
        assert_eq!(lines[2], "    org acme  scope read");
        assert_eq!(lines[3], "    update DomainApi");
        let lines = printed(&mut example(), Some(24));
        assert_eq!(lines[1..3], ["   7  my.trusted.app/", "      service"]);
    }

    #[test]
    fn rows_that_follow_keep_the_layout_and_get_no_second_title() {
        let mut table = example();
        let first = printed(&mut table, Some(100));
        table.row(["8".into(), "c".into(), "o".into(), "w".into()]);
        let second = printed(&mut table, Some(100));
        assert_eq!(second, ["   8  c                       o     w"]);
        assert_eq!(first[0].find("WHAT"), second[0].find('w'));
    }

    #[test]
    fn what_a_terminal_could_obey_is_escaped_before_it_is_measured() {
        let mut table = Table::new([Column::whole("A"), Column::whole("B")]);
        table.row(["\u{1b}[31mred".into(), "支払い".into()]);
        table.row(["x".into(), "y".into()]);
        assert_eq!(
            printed(&mut table, None),
            ["A              B", r"\u{1b}[31mred  支払い", "x              y"]
        );
    }

    #[test]
    fn words_are_broken_behind_marks_and_only_else_in_the_middle() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("my.trusted.app/service", 16), ["my.trusted.app/", "service"]);
        assert_eq!(wrap("https://an.example", 12), ["https://an.", "example"]);
        assert_eq!(wrap("https://examplesandmore", 20), ["https://examplesandm", "ore"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("a  b", 10), ["a  b"]);
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("支払い", 1), ["支", "払", "い"]);
    }

    #[test]
    fn a_time_is_in_utc_to_the_second() {
        assert_eq!(time("2026-03-16T12:11:12.123456+02:00"), "2026-03-16T10:11:12Z");
        assert_eq!(time("yesterday"), "yesterday");
        assert_eq!(unix_time(0).as_deref(), Some("1970-01-01T00:00:00Z"));
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_the_terminal_and_nothing_is_lost(
            rows in prop::collection::vec(prop::array::uniform4("[a-z /.é払]{0,40}"), 1..6),
            columns in 20usize..120,
        ) {
                        let mut table = Table::new([
                Column::number("N"),
                Column::wrapped("CLIENT ID", 40),
                Column::whole("ORG").or_below(""),
                Column::wrapped("WHAT", 16).or_below(""),
            ]);
            for row in &rows {
                table.row(row.clone());
            }
            let lines = printed(&mut table, Some(columns));
            for line in &lines {
                prop_assert!(line.width() <= columns, "{line:?} is wider than {columns}");
            }
            let count = |text: &str| text.chars().filter(|char| !char.is_whitespace()).count();
            let all: usize = rows.iter().flatten().map(|value| count(value)).sum();
            prop_assert_eq!(lines.iter().skip(1).map(|line| count(line)).sum::<usize>(), all);
        }

        #[test]
        fn wrapping_ends_and_loses_only_spaces(text in "\\PC{0,80}", width in 1usize..30) {
            let lines = wrap(&text, width);
            let solid = |text: &str| text.chars().filter(|char| !char.is_whitespace()).collect::<String>();
            prop_assert_eq!(solid(&lines.concat()), solid(&text));
        }
    }
}
