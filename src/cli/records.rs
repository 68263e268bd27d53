//! An export on its way: where its events end, and which was the last that came whole.

use crate::audit::export::ExportFormat;
use serde::Deserialize;

/// The largest event in any format, in bytes: 65,535 of the log's, written with escapes, and what is around them.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// Takes an export's bytes apart into whole events.
pub struct Records {
    format: ExportFormat,
    /// What has come behind the last whole event.
    rest: Vec<u8>,
    /// Within the quotes of a CSV cell a line feed ends nothing.
    is_quoted: bool,
    /// How much of the rest has been looked at.
    looked: usize,
    head: Head,
}

/// The header row of a CSV file.
#[derive(PartialEq, Eq)]
enum Head {
    None,
    /// It comes first, and belongs to the file.
    Kept,
    /// It comes first, and the file has it already.
    Dropped,
}

/// Whole events.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// As they came.
    pub bytes: Vec<u8>,
    /// How many.
    pub count: u64,
    /// The index of the last, where the format says it.
    pub last_index: Option<u64>,
}

impl Records {
    /// Of an export in this format.
    pub fn of(format: ExportFormat) -> Self {
        Self {
            format,
            rest: Vec::new(),
            is_quoted: false,
            looked: 0,
            head: Head::None,
        }
    }

    /// An answer begins; `goes_on` when the file has the head already.
    pub fn begin(&mut self, goes_on: bool) {
        self.rest.clear();
        (self.is_quoted, self.looked) = (false, 0);
        self.head = match (self.format, goes_on) {
            (ExportFormat::Csv, false) => Head::Kept,
            (ExportFormat::Csv, true) => Head::Dropped,
            _ => Head::None,
        };
    }

    /// The events that are whole with these bytes.
    pub fn add(&mut self, bytes: &[u8]) -> Result<Whole, String> {
        self.rest.extend_from_slice(bytes);
        let mut whole = Whole::default();
        let (mut begin, mut last) = (0, None);
        while let Some(end) = self.next_end() {
            match std::mem::replace(&mut self.head, Head::None) {
                Head::None => {
                    whole.count += 1;
                    last = Some(begin..end);
                }
                Head::Kept => {}
                Head::Dropped => {
                    self.rest.drain(..end);
                    self.looked = 0;
                    continue;
                }
            }
            begin = end;
        }
        if let Some(last) = last {
            let record = self.rest.get(last).unwrap_or_default();
            whole.last_index = match self.format {
                ExportFormat::Log => None,
                _ => Some(index(self.format, record).ok_or("an event without its index")?),
            };
        }
        let rest = self.rest.split_off(begin);
        whole.bytes = std::mem::replace(&mut self.rest, rest);
        self.looked -= begin;
        if self.rest.len() > MAX_RECORD_BYTES {
            return Err(format!("an event of more than {MAX_RECORD_BYTES} bytes"));
        }
        Ok(whole)
    }

    /// Whether nothing has come behind the last whole event.
    pub fn is_at_an_end(&self) -> bool {
        self.rest.is_empty() && self.head == Head::None
    }

    /// The end of the next event from where was looked last.
    fn next_end(&mut self) -> Option<usize> {
        loop {
            let rest = self.rest.get(self.looked..)?;
            let found = match self.format {
                // RFC 4180 §2.6: a quote within quotes is doubled, so each changes sides.
                ExportFormat::Csv => memchr::memchr2(b'\n', b'"', rest),
                _ => memchr::memchr(b'\n', rest),
            };
            let Some(found) = found else {
                self.looked = self.rest.len();
                return None;
            };
            let is_quote = rest.get(found) == Some(&b'"');
            self.looked += found + 1;
            if is_quote {
                self.is_quoted = !self.is_quoted;
            } else if !self.is_quoted {
                return Some(self.looked);
            }
        }
    }
}

/// The index that an event says of itself.
fn index(format: ExportFormat, record: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Shown {
        index: u64,
    }
    #[derive(Deserialize)]
    struct Translated {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        sequence: u64,
    }
    match format {
        ExportFormat::Log => None,
        ExportFormat::Ndjson => serde_json::from_slice::<Shown>(record).ok().map(|event| event.index),
        ExportFormat::Ocsf => {
            let event: Translated = serde_json::from_slice(record).ok()?;
            Some(event.metadata.sequence)
        }
        ExportFormat::Csv => {
            let first = record.split(|byte| *byte == b',').next()?;
            std::str::from_utf8(first).ok()?.trim_end().parse().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of an export that is cut into two pieces, at every place.
    fn cut_anywhere(format: ExportFormat, export: &str, expected: (u64, Option<u64>)) {
        for cut in 0..=export.len() {
            let mut records = Records::of(format);
            records.begin(false);
            let mut bytes = Vec::new();
            let (mut count, mut last_index) = (0, None);
            for piece in [&export.as_bytes()[..cut], &export.as_bytes()[cut..]] {
                let whole = records.add(piece).unwrap();
                bytes.extend(whole.bytes);
                count += whole.count;
                last_index = whole.last_index.or(last_index);
            }
            assert!(records.is_at_an_end());
            assert_eq!(
                (bytes, (count, last_index)),
                (export.as_bytes().to_vec(), expected),
                "{format}, {cut}"
            );
        }
    }

    #[test]
    fn an_event_ends_where_its_line_does() {
        cut_anywhere(ExportFormat::Log, "{\"id\":1}\n{\"id\":2}\n", (2, None));
        cut_anywhere(ExportFormat::Ndjson, "{\"index\":7}\n{\"index\":9}\n", (2, Some(9)));
        let ocsf = "{\"metadata\":{\"sequence\":3}}\n";
        cut_anywhere(ExportFormat::Ocsf, ocsf, (1, Some(3)));
    }

    #[test]
    fn a_line_feed_in_a_quoted_cell_ends_nothing_and_the_header_is_no_event() {
        let csv = "index,name\r\n4,\"two\nlines, \"\"quoted\"\"\"\r\n5,plain\r\n";
        cut_anywhere(ExportFormat::Csv, csv, (2, Some(5)));
    }

    #[test]
    fn an_answer_that_goes_on_brings_the_header_again_and_it_is_dropped() {
        let mut records = Records::of(ExportFormat::Csv);
        records.begin(false);
        assert_eq!(records.add(b"index\r\n4\r\n5,cut o").unwrap().bytes, b"index\r\n4\r\n");
        records.begin(true);
        let whole = records.add(b"index\r\n5,cut off\r\n").unwrap();
        assert_eq!(
            (whole.bytes.as_slice(), whole.count, whole.last_index),
            (b"5,cut off\r\n".as_slice(), 1, Some(5))
        );
    }

    #[test]
    fn what_ends_within_an_event_is_no_end() {
        let mut records = Records::of(ExportFormat::Log);
        records.begin(false);
        records.add(b"{}\n{").unwrap();
        assert!(!records.is_at_an_end());
        assert!(records.add(&vec![b'x'; MAX_RECORD_BYTES]).is_err());
    }
}
