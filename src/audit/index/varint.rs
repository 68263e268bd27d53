//! Small numbers in few bytes: seven bits in each, lowest first, the high bit set in all but the last.

pub(super) fn push(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80); // the low seven bits: the cut is meant
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Takes one from the front; `None` when the bytes end within it or it is more than 64 bits.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_survives(value in any::<u64>(), shift in 0..64_u32) {
            let mut bytes = Vec::new();
            push(&mut bytes, value >> shift);
            prop_assert_eq!(take(&mut bytes.as_slice()), Some(value >> shift));
        }
    }

    #[test]
    fn a_number_that_does_not_end_or_is_too_large_is_none() {
        assert_eq!(take(&mut [0x80].as_slice()), None);
        assert_eq!(take(&mut [0xff; 11].as_slice()), None);
    }
}
