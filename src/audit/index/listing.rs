//! The values of a field within one segment, in order: what a question that many values may fit looks through.

use super::varint;

/// The values, each as what it does not share with the one before it. They come sorted.
pub(super) fn encode<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut before: &[u8] = &[];
    for value in values {
        let shared = before.iter().zip(value).take_while(|(one, other)| one == other).count();
        varint::push(&mut bytes, shared as u64);
        varint::push(&mut bytes, (value.len() - shared) as u64); // at most all of it
        bytes.extend(value.iter().skip(shared));
        before = value;
    }
    bytes
}

/// Calls with every value that `encode` wrote, in order; `None` when the bytes are not its work.
pub(super) fn each(mut bytes: &[u8], mut then: impl FnMut(&[u8])) -> Option<()> {
    let mut value = Vec::new();
    while !bytes.is_empty() {
        let shared = usize::try_from(varint::take(&mut bytes)?).ok()?;
        let own = usize::try_from(varint::take(&mut bytes)?).ok()?;
        if shared > value.len() {
            return None;
        }
        let (own, rest) = bytes.split_at_checked(own)?;
        bytes = rest;
        value.truncate(shared);
        value.extend_from_slice(own);
        then(&value);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_survive(values in proptest::collection::btree_set(proptest::collection::vec(0..3_u8, 0..8), 0..40)) {
            let bytes = encode(values.iter().map(Vec::as_slice));
            let mut read = Vec::new();
            prop_assert_eq!(each(&bytes, |value| read.push(value.to_vec())), Some(()));
            prop_assert_eq!(read, Vec::from_iter(values));
        }

        #[test]
        fn bytes_that_are_no_listing_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = each(&bytes, |_| {});
        }
    }
}
