//! Spans of time as people write them.

/// Reads `30d`, `12h`, `90m`, `45s`, `2w` or a plain number of seconds.
pub fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => (text.get(..at).unwrap_or_default(), unit),
        _ => (text, 's'),
    };
    let unit_seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        'w' => 7 * 24 * 60 * 60,
        _ => 0,
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = is_number
        .then(|| number.parse::<u64>().ok()?.checked_mul(unit_seconds))
        .flatten()
        // What a JSON number carries without loss.
        .filter(|&seconds| unit_seconds > 0 && seconds < 1 << 53);
    seconds.ok_or_else(|| "a span of time is a number of seconds, or 45s, 90m, 12h, 30d, 2w".into())
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, expected) in [
            ("0", 0),
            ("3600", 3600),
            ("45s", 45),
            ("90m", 5400),
            ("12h", 43_200),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in [
            "",
            "h",
            "-1h",
            "+1h",
            "1.5h",
            "1 h",
            "1y",
            "1H",
            "١h",
            "1h30m",
            "99999999999999999999",
            "20000000000000w",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
