//! A question to the index: which places may hold what is asked for, and which certainly do.

use super::field::{self, Field, Flag};
use super::identifier::Identifier;
use super::offsets::OffsetSet;
use super::times::TimeWindow;
use crate::audit::filter::comparison::{Operand, Operator, Value, holds};
use crate::audit::network::Network;
use std::ops::Range;

/// Places of one segment: it is left to its event whether one is asked for that is in `may` and not in `must`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::audit) struct Sets {
    may: OffsetSet,
    /// None: the same as `may`.
    must: Option<OffsetSet>,
}

impl Sets {
    /// These and no others.
    pub fn exactly(set: OffsetSet) -> Self {
        Self { may: set, must: None }
    }

    /// Some of these, as far as the index can tell.
    pub fn among(may: OffsetSet) -> Self {
        let must = Some(may.emptied());
        Self { may, must }
    }

    /// All of `must` and some of `may`, which has all of `must`.
    pub fn between(must: OffsetSet, may: OffsetSet) -> Self {
        Self { may, must: Some(must) }
    }

    /// The places that may hold what is asked for.
    pub fn may(&self) -> &OffsetSet {
        &self.may
    }

    /// Whether the place certainly holds what is asked for; the caller knows that it may.
    pub fn is_certain(&self, offset: usize) -> bool {
        self.must.as_ref().is_none_or(|must| must.contains(offset))
    }

    fn must(&self) -> &OffsetSet {
        self.must.as_ref().unwrap_or(&self.may)
    }

    pub fn intersect(&mut self, other: &Self) {
        if self.must.is_some() || other.must.is_some() {
            let mut must = self.must().clone();
            must.intersect(other.must());
            self.must = Some(must);
        }
        self.may.intersect(&other.may);
    }

    pub fn unite(&mut self, other: &Self) {
        if self.must.is_some() || other.must.is_some() {
            let mut must = self.must().clone();
            must.unite(other.must());
            self.must = Some(must);
        }
        self.may.unite(&other.may);
    }

    /// What is not asked for, of all places that there are.
    pub fn complement(self, all: &OffsetSet) -> Self {
        let without = |set: &OffsetSet| {
            let mut rest = all.clone();
            rest.subtract(set);
            rest
        };
        match &self.must {
            None => Self::exactly(without(&self.may)),
            Some(must) => Self::between(without(&self.may), without(must)),
        }
    }
}

/// A question, of parts that the index can or cannot answer.
#[derive(Debug, Clone)]
pub(in crate::audit) enum Plan<L = Leaf> {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Leaf(L),
}

/// A part that needs no other.
#[derive(Debug, Clone)]
pub(in crate::audit) enum Leaf {
    /// Every event, or none.
    Everything(bool),
    /// What the index does not know.
    Unknown,
    /// Events with these indexes.
    Indexes(Range<u64>),
    /// Events of this time.
    Times(TimeWindow),
    /// Events that are or have this.
    Flag(Flag),
    /// Events with one of these values.
    Values(ValueSet),
    /// Events with an identifier that has this hash.
    Identifier(Identifier),
}

impl Plan {
    pub fn everything() -> Self {
        Self::Leaf(Leaf::Everything(true))
    }

    pub fn nothing() -> Self {
        Self::Leaf(Leaf::Everything(false))
    }

    pub fn negate(self) -> Self {
        Self::Not(Box::new(self))
    }
}

impl<L> Plan<L> {
    /// The places in one segment that has `all` these; of the others than those that are `left`, nothing is said.
    /// `leaf` answers for each part; it may leave one to the events themselves where few places are left.
    pub fn evaluate<E, F>(&mut self, all: &OffsetSet, left: &OffsetSet, leaf: &mut F) -> Result<Sets, E>
    where
        F: FnMut(&mut L, &OffsetSet) -> Result<Sets, E>,
    {
        match self {
            Self::Leaf(part) => leaf(part, left),
            Self::Not(part) => Ok(part.evaluate(all, left, leaf)?.complement(all)),
            Self::Any(parts) => {
                let mut sets = Sets::exactly(all.emptied());
                for part in parts {
                    sets.unite(&part.evaluate(all, left, leaf)?);
                }
                Ok(sets)
            }
            Self::All(parts) => {
                let mut sets = Sets::exactly(left.clone());
                for part in parts {
                    if sets.may.is_empty() {
                        break;
                    }
                    let part = part.evaluate(all, &sets.may, leaf)?;
                    sets.intersect(&part);
                }
                Ok(sets)
            }
        }
    }
}

/// Values of a field: the ones in a range of bytes that fit what is asked.
#[derive(Debug, Clone)]
pub(in crate::audit) struct ValueSet {
    pub field: Field,
    /// The first bytes of the range.
    pub from: Box<[u8]>,
    /// The first bytes behind the range; none: it has no end.
    pub below: Option<Box<[u8]>>,
    asked: Asked,
}

#[derive(Debug, Clone)]
enum Asked {
    Text(Operator, Operand),
    Network(Network),
    Exactly,
}

/// Whether a value fits what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audit) enum Fit {
    Yes,
    No,
    /// It was cut: its event tells.
    Maybe,
}

impl ValueSet {
    /// Texts, or addresses as they are written, that compare so. `ne` is for the caller to turn round.
    pub fn text(field: Field, operator: Operator, text: &str) -> Self {
        let everything = (Box::default(), None);
        let kept = field::cut(field, text);
        let (from, below) = match operator {
            _ if field == Field::SourceIp => everything,
            Operator::Equal => (kept.into(), Some(just_behind(kept))),
            Operator::StartsWith => (kept.into(), behind_prefix(kept)),
            Operator::Greater | Operator::GreaterOrEqual => (kept.into(), None),
            // What was cut to these bytes may be greater or less.
            Operator::Less | Operator::LessOrEqual => (Box::default(), Some(just_behind(kept))),
            Operator::NotEqual | Operator::Contains | Operator::EndsWith => everything,
        };
        Self {
            field,
            from,
            below,
            asked: Asked::Text(operator, Operand::Text(text.into())),
        }
    }

    /// Addresses of a network.
    pub fn network(network: Network) -> Self {
        let (first, last) = network.bounds();
        let (mut from, mut below) = (Box::default(), None);
        field::address(first, |octets| from = octets.into());
        field::address(last, |octets| below = Some(just_behind(octets)));
        Self {
            field: Field::SourceIp,
            from,
            below,
            asked: Asked::Network(network),
        }
    }

    /// One value, as the index has it.
    pub fn exactly(field: Field, value: &[u8]) -> Self {
        Self {
            field,
            from: value.into(),
            below: Some(just_behind(value)),
            asked: Asked::Exactly,
        }
    }

    /// The only value of the range, when there is no other.
    pub fn only(&self) -> Option<&[u8]> {
        let below = self.below.as_deref()?;
        let is_only = below
            .split_last()
            .is_some_and(|(last, rest)| *last == 0 && *rest == *self.from);
        is_only.then_some(&self.from)
    }

    /// Whether it lies in the range.
    pub fn contains(&self, value: &[u8]) -> bool {
        *value >= *self.from && self.below.as_deref().is_none_or(|below| value < below)
    }

    /// Whether a value of the range fits.
    pub fn fit(&self, value: &[u8]) -> Fit {
        let certain = |fits: bool| if fits { Fit::Yes } else { Fit::No };
        match &self.asked {
            Asked::Exactly => certain(*value == *self.from),
            Asked::Network(network) => {
                // A range of IPv4 addresses also holds IPv6 addresses that begin with the same bytes.
                certain(field::address_of(value).is_some_and(|address| network.contains(address)))
            }
            Asked::Text(operator, operand) if self.field == Field::SourceIp => {
                let address = field::address_of(value);
                certain(address.is_some_and(|address| holds(&Value::Address(address), *operator, operand)))
            }
            Asked::Text(operator, operand) => {
                let kept = String::from_utf8_lossy(value);
                let holds = holds(&Value::Text(kept.as_ref().into()), *operator, operand);
                let Operand::Text(text) = operand else {
                    return Fit::Maybe;
                };
                if !field::may_be_cut(self.field, value.len()) {
                    return certain(holds);
                }
                match operator {
                    Operator::Contains if holds => Fit::Yes,
                    Operator::StartsWith if text.len() <= kept.len() => certain(holds),
                    Operator::Contains | Operator::EndsWith => Fit::Maybe,
                    // What was cut off decides only where the rest is the same.
                    _ if text.starts_with(kept.as_ref()) => Fit::Maybe,
                    _ => certain(holds),
                }
            }
        }
    }
}

/// The least bytes that are greater.
fn just_behind(bytes: &[u8]) -> Box<[u8]> {
    bytes.iter().copied().chain([0]).collect()
}

/// The least bytes that are greater than all that begin so; none: there are no such bytes.
fn behind_prefix(bytes: &[u8]) -> Option<Box<[u8]>> {
    let last = bytes.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut behind: Box<[u8]> = bytes.get(..=last)?.into();
    *behind.last_mut()? += 1; // below the maximum
    Some(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(field: Field, operator: Operator, text: &str, value: &str) -> Fit {
        let set = ValueSet::text(field, operator, text);
        let kept = field::cut(field, value);
        match set.contains(kept) {
            true => set.fit(kept),
            false => Fit::No,
        }
    }

    #[test]
    fn a_value_that_was_kept_whole_fits_or_not() {
        use Operator::*;
        for (operator, text, yes, no) in [
            (Equal, "orders", "orders", "order"),
            (StartsWith, "or", "orders", "billing"),
            (Contains, "der", "orders", "billing"),
            (EndsWith, "s", "orders", "billing"),
            (Greater, "orders", "orders2", "orders"),
            (GreaterOrEqual, "orders", "orders", "order"),
            (Less, "orders", "order", "orders"),
            (LessOrEqual, "orders", "orders", "orders2"),
        ] {
            assert_eq!(fit(Field::ClientId, operator, text, yes), Fit::Yes, "{operator:?}");
            assert_eq!(fit(Field::ClientId, operator, text, no), Fit::No, "{operator:?}");
        }
    }

    #[test]
    fn a_value_that_was_cut_fits_for_certain_only_where_the_rest_does_not_matter() {
        use Operator::*;
        let long = "/p".repeat(40);
        let longer = format!("{long}/x");
        for (operator, text, expected) in [
            (Equal, long.as_str(), Fit::Maybe),
            (Equal, "/p", Fit::No),
            (StartsWith, "/p/p", Fit::Yes),
            (StartsWith, "/q", Fit::No),
            (StartsWith, &longer, Fit::Maybe),
            (Contains, "p/p", Fit::Yes),
            (Contains, "q", Fit::Maybe),
            (EndsWith, "q", Fit::Maybe),
            (Greater, "/a", Fit::Yes),
            (Greater, "/q", Fit::No),
            (Greater, &longer, Fit::Maybe),
            (Less, &longer, Fit::Maybe),
            (Less, "/q", Fit::Yes),
        ] {
            assert_eq!(fit(Field::Path, operator, text, &long), expected, "{operator:?} {text}");
        }
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others_that_begin_with_the_same_bytes() {
        let set = ValueSet::network(Network::parse("10.0.0.0/8").unwrap());
        let fit = |text: &str| {
            let mut fit = Fit::No;
            field::address(text.parse().unwrap(), |octets| {
                if set.contains(octets) {
                    fit = set.fit(octets);
                }
            });
            fit
        };
        assert_eq!(
            [fit("10.0.0.0"), fit("10.255.255.255"), fit("::ffff:10.1.2.3")],
            [Fit::Yes; 3]
        );
        assert_eq!([fit("9.255.255.255"), fit("11.0.0.0"), fit("a00:1::")], [Fit::No; 3]);
        let everything = ValueSet::network(Network::parse("0.0.0.0/0").unwrap());
        assert!(everything.contains(&[255; 4]) && everything.fit(&[255; 4]) == Fit::Yes);
        assert!(set.only().is_none());
        assert!(ValueSet::network(Network::parse("10.0.0.1").unwrap()).only().is_some());
    }

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(behind_prefix(b"ab"), Some(Box::from(*b"ac")));
        assert_eq!(behind_prefix(&[b'a', 255, 255]), Some(Box::from(*b"b")));
        assert_eq!(behind_prefix(&[255]), None);
        assert_eq!(behind_prefix(b""), None);
    }

    #[test]
    fn what_is_not_certain_is_not_certain_of_the_opposite_either() {
        let all = OffsetSet::range(8, 0..8);
        let some = |range| OffsetSet::range(8, range);
        let sets = Sets::between(some(0..2), some(0..5)).complement(&all);
        assert_eq!(sets.may(), &some(2..8));
        assert!(!sets.is_certain(3) && sets.is_certain(6));
        let mut both = sets.clone();
        both.intersect(&Sets::exactly(some(6..8)));
        assert!(both.is_certain(7) && both.may() == &some(6..8));
        let mut either = sets;
        either.unite(&Sets::exactly(some(0..4)));
        assert!(either.is_certain(3) && !either.is_certain(4));
    }
}
