//! The text of a timestamp, `2026-03-16T09:30:00.123456Z`: every event has one to four of them, which are written on
//! the way of a token and read by everything that follows the log. What does not look like this, such as a year of
//! five digits or another offset, is left to chrono.

use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc};

/// Characters, all ASCII. A zero is a digit.
const SHAPE: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";
/// Where each number ends, and how many digits it has: year, month, day, hour, minute, second, microseconds.
const NUMBERS: [(usize, usize); 7] = [(4, 4), (7, 2), (10, 2), (13, 2), (16, 2), (19, 2), (26, 6)];

/// Room for a text.
pub(super) fn buffer() -> [u8; SHAPE.len()] {
    *SHAPE
}

/// The text in these bytes; `None` when it has another shape.
pub(super) fn write(time: DateTime<Utc>, bytes: &mut [u8; SHAPE.len()]) -> Option<&str> {
    let year = u32::try_from(time.year()).ok().filter(|year| *year < 10_000)?;
    // From there on it is a leap second, which is written as the sixtieth.
    let nanoseconds = Some(time.nanosecond()).filter(|nanoseconds| *nanoseconds < 1_000_000_000)?;
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    let numbers = [
        year,
        time.month(),
        time.day(),
        hour,
        minute,
        second,
        nanoseconds / 1_000,
    ];
    *bytes = *SHAPE;
    for (mut number, (end, digits)) in numbers.into_iter().zip(NUMBERS) {
        for byte in bytes[end - digits..end].iter_mut().rev() {
            *byte = b'0' + (number % 10) as u8; // a digit; every number ends within the shape
            number /= 10;
        }
    }
    std::str::from_utf8(bytes).ok()
}

/// The time that a text of this shape says; `None` when it has another shape, or says none.
pub(super) fn read(text: &str) -> Option<DateTime<Utc>> {
    let bytes: &[u8; SHAPE.len()] = text.as_bytes().try_into().ok()?;
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        shape => byte == shape,
    };
    if !bytes.iter().zip(SHAPE).all(fits) {
        return None;
    }
    let [year, month, day, hour, minute, second, microseconds] = NUMBERS.map(|(end, digits)| {
        // Digits only, and every number ends within the shape.
        let digits = bytes[end - digits..end].iter();
        digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
    });
    let day = NaiveDate::from_ymd_opt(year as i32, month, day)?; // four digits
    Some(day.and_hms_micro_opt(hour, minute, second, microseconds)?.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{SecondsFormat, SubsecRound};
    use proptest::prelude::*;

    fn written(time: DateTime<Utc>) -> Option<String> {
        write(time, &mut buffer()).map(str::to_owned)
    }

    proptest! {
        #[test]
        fn a_text_is_the_one_that_chrono_writes(seconds in -62_167_219_200i64..=253_402_300_799, nanos in 0u32..1_000_000_000) {
            let time = DateTime::from_timestamp(seconds, nanos).unwrap();
            prop_assert_eq!(written(time), Some(time.to_rfc3339_opts(SecondsFormat::Micros, true)));
        }

        #[test]
        fn a_text_is_read_as_chrono_reads_it(text in "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\\.[0-9]{6}Z") {
            let by_chrono = DateTime::parse_from_rfc3339(&text).ok().map(|time| time.to_utc().trunc_subsecs(6));
            // A leap second is none of ours.
            let is_leap = by_chrono.is_some_and(|time| time.nanosecond() >= 1_000_000_000);
            prop_assert_eq!(read(&text), by_chrono.filter(|_| !is_leap));
        }

        #[test]
        fn bytes_that_are_no_time_do_no_harm(text in "\\PC{0,30}") {
            prop_assert_eq!(read(&text), None);
        }
    }

    #[test]
    fn what_has_another_shape_is_left_to_chrono() {
        for text in [
            "2026-03-16T09:30:00Z",
            "2026-03-16T09:30:00.123456+00:00",
            "2026-03-16t09:30:00.123456Z",
            "2026-02-30T09:30:00.123456Z",
            "2016-12-31T23:59:60.123456Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let leap = DateTime::parse_from_rfc3339("2016-12-31T23:59:60.5Z").unwrap().to_utc();
        let late = DateTime::from_timestamp(253_402_300_800, 0).unwrap();
        assert_eq!((written(leap), written(late)), (None, None));
    }
}
