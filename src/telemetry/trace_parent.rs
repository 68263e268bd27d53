use opentelemetry::trace::{SpanId, TraceId};

/// What the caller says about its trace: the `traceparent` header (W3C Trace Context §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: TraceId,
    /// The caller's span in it.
    pub parent_id: SpanId,
    /// Whether the caller may have recorded it.
    pub sampled: bool,
}

impl TraceParent {
    /// Parses the header's value, `None` when it is not one to the letter: then §4.3 wants it ignored.
    /// Allocates nothing.
    pub fn parse(header: &[u8]) -> Option<TraceParent> {
        // version "-" trace-id "-" parent-id "-" trace-flags
        let (version, rest) = field::<1>(header)?;
        let (trace_id, rest) = field::<16>(rest.strip_prefix(b"-")?)?;
        let (parent_id, rest) = field::<8>(rest.strip_prefix(b"-")?)?;
        let (flags, rest) = field::<1>(rest.strip_prefix(b"-")?)?;
        // §3.2.2: version ff is invalid; 00 is exactly this long; §4.3: a later one may say more after a dash.
        let well_ended = match version {
            [0xff] => false,
            [0] => rest.is_empty(),
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        // §3.2.2.3, §3.2.2.4: all zero is invalid.
        if !well_ended || trace_id == [0; 16] || parent_id == [0; 8] {
            return None;
        }
        Some(TraceParent {
            trace_id: TraceId::from_bytes(trace_id),
            parent_id: SpanId::from_bytes(parent_id),
            // §3.2.2.5: the lowest bit; the meaning of the others is not known.
            sampled: flags[0] & 1 == 1,
        })
    }
}

/// `N` bytes in lower-case hex, and what follows them.
fn field<const N: usize>(text: &[u8]) -> Option<([u8; N], &[u8])> {
    let (digits, rest) = text.split_at_checked(N * 2)?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some((bytes, rest))
}

/// §3.2.1: HEXDIGLC.
fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    #[test]
    fn the_example_of_the_recommendation_is_understood() {
        let parsed = TraceParent::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(parsed.trace_id.to_string(), TRACE);
        assert_eq!(parsed.parent_id.to_string(), PARENT);
        assert!(parsed.sampled);
    }

    #[test]
    fn only_the_lowest_flag_says_that_the_trace_is_sampled() {
        for (flags, sampled) in [
            ("00", false),
            ("01", true),
            ("02", false),
            ("03", true),
            ("fe", false),
            ("ff", true),
        ] {
            let header = format!("00-{TRACE}-{PARENT}-{flags}");
            assert_eq!(
                TraceParent::parse(header.as_bytes()).unwrap().sampled,
                sampled,
                "{flags}"
            );
        }
    }

    #[test]
    fn a_later_version_may_say_more_after_a_dash() {
        for header in [
            format!("01-{TRACE}-{PARENT}-01"),
            format!("cc-{TRACE}-{PARENT}-01-what-the-future-holds"),
            format!("fe-{TRACE}-{PARENT}-01-"),
        ] {
            assert_eq!(
                TraceParent::parse(header.as_bytes()).unwrap().trace_id.to_string(),
                TRACE,
                "{header}"
            );
        }
    }

    #[test]
    fn what_is_not_a_traceparent_to_the_letter_is_none() {
        for header in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{PARENT}"),
            format!("00-{TRACE}-{PARENT}-"),
            format!("00-{TRACE}-{PARENT}-0"),
            format!("00-{TRACE}-{PARENT}-011"),
            format!("00-{TRACE}-{PARENT}-01-"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("01-{TRACE}-{PARENT}-01more"),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("0-{TRACE}-{PARENT}-01"),
            format!("000-{TRACE}-{PARENT}-01"),
            format!("0x-{TRACE}-{PARENT}-01"),
            format!("00_{TRACE}_{PARENT}_01"),
            format!(" 00-{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-01 "),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", PARENT.to_uppercase()),
            format!("00-{TRACE}-{PARENT}-0A"),
            format!("00-{TRACE}-{PARENT}-+1"),
            format!("00-{}-{PARENT}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{PARENT}-01", &TRACE[1..]),
            format!("00-{TRACE}0-{PARENT}-01"),
            format!("00-{}-{PARENT}-01", "é".repeat(16)),
        ] {
            assert_eq!(TraceParent::parse(header.as_bytes()), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn every_id_that_is_not_zero_survives_printing_and_parsing(trace in 1u128.., parent in 1u64.., sampled: bool) {
            let (trace_id, parent_id) = (TraceId::from(trace), SpanId::from(parent));
            let header = format!("00-{trace_id}-{parent_id}-{:02x}", u8::from(sampled));
            prop_assert_eq!(TraceParent::parse(header.as_bytes()), Some(TraceParent { trace_id, parent_id, sampled }));
        }

        #[test]
        fn no_bytes_break_it(header: Vec<u8>) {
            let _ = TraceParent::parse(&header);
        }
    }
}
