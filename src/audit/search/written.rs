//! Goes through the segments of the database in the order asked for, and opens those that may have something.

use super::{Budget, Order};
use crate::audit::index::plan::{Fit, Leaf, Plan, Sets, ValueSet};
use crate::audit::index::{Field, Flag, Identifier, OffsetSet, Reader, Row, TimeBounds, TimeWindow};
use std::ops::Range;

/// Values that a part of the question is split into at the most, each with a search of its own: where more fit,
/// each segment's own list is looked through.
const SEPARATE_VALUES: usize = 64;
/// Places of a segment that are left to their events rather than to a look through its list of values.
const FEW: usize = 16;

/// A question with where each of its parts is being looked for.
pub(super) struct Written<'a> {
    plan: Plan<Part>,
    reader: &'a Reader,
    order: Order,
    size: usize,
    /// The times of the segments.
    bounds: &'a imbl::Vector<TimeBounds>,
    all: OffsetSet,
}

enum Part {
    Everything(bool),
    Unknown,
    Indexes(Range<u64>),
    Times(TimeSeeker),
    Identifier(Identifier),
    /// Each value by itself.
    Separate(Vec<Seeker>),
    /// More values than that.
    Listed(ValueSet),
}

/// A window of times on its way through the segments.
struct TimeSeeker {
    window: TimeWindow,
    /// The nearest segment that is known to touch it; `Some(None)`: there is none any more.
    nearest: Option<Option<u64>>,
}

impl TimeSeeker {
    fn seek(&mut self, at: u64, order: Order, all: &imbl::Vector<TimeBounds>, budget: &mut Budget) -> Option<u64> {
        let is_known = match (self.nearest, order) {
            (None, _) => false,
            (Some(None), _) => true,
            (Some(Some(segment)), Order::Asc) => segment >= at,
            (Some(Some(segment)), Order::Desc) => segment <= at,
        };
        if is_known {
            return self.nearest.flatten();
        }
        let touches = |segment: &u64| {
            let bounds = all.get(*segment as usize); // a position of a list in memory
            bounds.is_some_and(|bounds| self.window.touches(*bounds))
        };
        let (nearest, end) = match order {
            Order::Asc => ((at..all.len() as u64).find(touches), all.len() as u64),
            Order::Desc => ((0..=at).rev().find(touches), 0),
        };
        budget.spend_bounds(nearest.unwrap_or(end).abs_diff(at) + 1);
        self.nearest = Some(nearest);
        nearest
    }
}

/// One value on its way through the segments.
struct Seeker {
    row: Row,
    value: Box<[u8]>,
    /// Whether its places certainly have what is asked for.
    is_certain: bool,
    /// The nearest segment that is known to have it, with its places; `Some(None)`: there is none any more.
    nearest: Option<Option<(u64, OffsetSet)>>,
}

impl Seeker {
    fn seek(
        &mut self,
        at: u64,
        order: Order,
        reader: &Reader,
        budget: &mut Budget,
    ) -> rusqlite::Result<Option<&(u64, OffsetSet)>> {
        let is_known = match (&self.nearest, order) {
            (None, _) => false,
            (Some(None), _) => true,
            (Some(Some((segment, _))), Order::Asc) => *segment >= at,
            (Some(Some((segment, _))), Order::Desc) => *segment <= at,
        };
        if !is_known {
            budget.rows += 1;
            self.nearest = Some(reader.seek(self.row, &self.value, at, order)?);
        }
        Ok(self.nearest.as_ref().and_then(Option::as_ref))
    }
}

impl<'a> Written<'a> {
    pub fn new(
        plan: Plan,
        reader: &'a Reader,
        order: Order,
        size: usize,
        bounds: &'a imbl::Vector<TimeBounds>,
        budget: &mut Budget,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            plan: prepare(plan, reader, budget)?,
            reader,
            order,
            size,
            bounds,
            all: OffsetSet::range(size, 0..size),
        })
    }

    /// The nearest segment from `at` on that may have something.
    pub fn next(&mut self, at: u64, budget: &mut Budget) -> rusqlite::Result<Option<u64>> {
        let look = Look {
            reader: self.reader,
            order: self.order,
            size: self.size as u64,
            bounds: self.bounds,
        };
        let next = look.next(&mut self.plan, at, budget)?;
        // The database may have segments that came after this search began: they are in what it saw of the memory.
        Ok(next.filter(|segment| *segment < self.bounds.len() as u64))
    }

    /// Which of the segment's events are asked for.
    pub fn matching(&mut self, segment: u64, budget: &mut Budget) -> rusqlite::Result<Sets> {
        let Self {
            plan,
            reader,
            order,
            size,
            bounds,
            all,
        } = self;
        let first = segment * *size as u64;
        plan.evaluate(all, all, &mut |part, left| {
            Ok(match part {
                Part::Everything(true) => Sets::exactly(all.clone()),
                Part::Everything(false) => Sets::exactly(all.emptied()),
                Part::Unknown => Sets::among(all.clone()),
                Part::Indexes(range) => Sets::exactly(all.within(range, first)),
                Part::Times(TimeSeeker { window, .. }) => match bounds.get(segment as usize) {
                    Some(bounds) if window.covers(*bounds) => Sets::exactly(all.clone()),
                    Some(bounds) if window.touches(*bounds) => {
                        budget.rows += 1;
                        let times = reader.times(segment)?;
                        let mut set = left.clone();
                        set.retain(|offset| times.get(offset).is_some_and(|time| window.contains(*time)));
                        Sets::exactly(set)
                    }
                    _ => Sets::exactly(all.emptied()),
                },
                Part::Identifier(identifier) => {
                    budget.rows += 1;
                    Sets::among(reader.identified(*identifier, segment)?)
                }
                Part::Separate(seekers) => {
                    let mut sets = Sets::exactly(all.emptied());
                    for seeker in seekers {
                        let is_certain = seeker.is_certain;
                        let found = seeker.seek(segment, *order, reader, budget)?;
                        if let Some((_, places)) = found.filter(|(at, _)| *at == segment) {
                            sets.unite(&match is_certain {
                                true => Sets::exactly(places.clone()),
                                false => Sets::among(places.clone()),
                            });
                        }
                    }
                    sets
                }
                Part::Listed(_) if left.count() <= FEW => Sets::among(all.clone()),
                Part::Listed(values) => listed(values, segment, all, reader, budget)?,
            })
        })
    }
}

/// What is needed to find the next segment.
struct Look<'a> {
    reader: &'a Reader,
    order: Order,
    size: u64,
    bounds: &'a imbl::Vector<TimeBounds>,
}

impl Look<'_> {
    fn next(&self, plan: &mut Plan<Part>, at: u64, budget: &mut Budget) -> rusqlite::Result<Option<u64>> {
        match plan {
            Plan::Leaf(part) => self.next_of_part(part, at, budget),
            // What it is not may be anywhere.
            Plan::Not(_) => Ok(Some(at)),
            Plan::Any(parts) => {
                let mut nearest = None;
                for part in parts {
                    nearest = self.nearer(nearest, self.next(part, at, budget)?);
                }
                Ok(nearest)
            }
            Plan::All(parts) => {
                let mut at = at;
                'from: loop {
                    for part in &mut *parts {
                        match self.next(part, at, budget)? {
                            None => return Ok(None),
                            Some(next) if next == at => {}
                            // Nothing is before it. The search may have to end there.
                            Some(next) if budget.is_spent() => return Ok(Some(next)),
                            Some(next) => {
                                at = next;
                                continue 'from;
                            }
                        }
                    }
                    return Ok(Some(at));
                }
            }
        }
    }

    fn next_of_part(&self, part: &mut Part, at: u64, budget: &mut Budget) -> rusqlite::Result<Option<u64>> {
        Ok(match part {
            Part::Everything(false) => None,
            Part::Everything(true) | Part::Unknown | Part::Identifier(_) | Part::Listed(_) => Some(at),
            Part::Indexes(range) if range.is_empty() => None,
            Part::Indexes(range) => {
                let (first, last) = (range.start / self.size, (range.end - 1) / self.size); // not empty
                match self.order {
                    Order::Asc => Some(at.max(first)).filter(|at| *at <= last),
                    Order::Desc => Some(at.min(last)).filter(|at| *at >= first),
                }
            }
            Part::Times(seeker) => seeker.seek(at, self.order, self.bounds, budget),
            Part::Separate(seekers) => {
                let mut nearest = None;
                for seeker in seekers {
                    let found = seeker.seek(at, self.order, self.reader, budget)?;
                    nearest = self.nearer(nearest, found.map(|(segment, _)| *segment));
                }
                nearest
            }
        })
    }

    fn nearer(&self, one: Option<u64>, other: Option<u64>) -> Option<u64> {
        match (one, other, self.order) {
            (Some(one), Some(other), Order::Asc) => Some(one.min(other)),
            (Some(one), Some(other), Order::Desc) => Some(one.max(other)),
            (one, other, _) => one.or(other),
        }
    }
}

/// Gives each part what it needs to go through the segments, and puts first what costs least.
fn prepare(plan: Plan, reader: &Reader, budget: &mut Budget) -> rusqlite::Result<Plan<Part>> {
    let all = |parts: Vec<Plan>, budget: &mut Budget| {
        let parts = parts.into_iter().map(|part| prepare(part, reader, budget));
        parts.collect::<rusqlite::Result<Vec<_>>>()
    };
    Ok(match plan {
        Plan::Not(part) => Plan::Not(Box::new(prepare(*part, reader, budget)?)),
        Plan::Any(parts) => Plan::Any(all(parts, budget)?),
        Plan::All(parts) => {
            let mut parts = all(parts, budget)?;
            parts.sort_by_key(cost);
            Plan::All(parts)
        }
        Plan::Leaf(leaf) => Plan::Leaf(match leaf {
            Leaf::Everything(whether) => Part::Everything(whether),
            Leaf::Unknown => Part::Unknown,
            Leaf::Indexes(range) => Part::Indexes(range),
            Leaf::Times(window) => Part::Times(TimeSeeker { window, nearest: None }),
            Leaf::Identifier(identifier) => Part::Identifier(identifier),
            Leaf::Flag(flag) => Part::Separate(vec![flag_seeker(flag)]),
            Leaf::Values(values) => match separate(&values, reader, budget)? {
                Some(seekers) => Part::Separate(seekers),
                None => Part::Listed(values),
            },
        }),
    })
}

fn cost(plan: &Plan<Part>) -> usize {
    match plan {
        Plan::Leaf(part) => match part {
            Part::Everything(_) | Part::Indexes(_) => 0,
            Part::Separate(seekers) => seekers.len(),
            Part::Identifier(_) => SEPARATE_VALUES + 1,
            Part::Times(_) => SEPARATE_VALUES + 2,
            Part::Listed(_) => SEPARATE_VALUES + 4,
            Part::Unknown => SEPARATE_VALUES + 5,
        },
        Plan::Not(_) | Plan::Any(_) | Plan::All(_) => SEPARATE_VALUES + 3,
    }
}

fn flag_seeker(flag: Flag) -> Seeker {
    Seeker {
        row: Row::Flag,
        value: Box::from([flag as u8]),
        is_certain: true,
        nearest: None,
    }
}

/// The values of the whole log that may fit, unless there are too many or it takes too long to find them.
fn separate(values: &ValueSet, reader: &Reader, budget: &mut Budget) -> rusqlite::Result<Option<Vec<Seeker>>> {
    let seeker = |value: &[u8]| {
        let fit = values.fit(value);
        (fit != Fit::No).then(|| Seeker {
            row: Row::Value(values.field),
            value: value.into(),
            is_certain: fit == Fit::Yes,
            nearest: None,
        })
    };
    if let Some(only) = values.only() {
        return Ok(Some(seeker(only).into_iter().collect()));
    }
    let mut seekers = Vec::new();
    let mut value = reader.next_value(values, None)?;
    while let Some(found) = value {
        seekers.extend(seeker(&found));
        let is_enough = seekers.len() > SEPARATE_VALUES || budget.values == 0;
        if is_enough && values.field.is_listed() {
            return Ok(None);
        }
        budget.values = budget.values.saturating_sub(1);
        value = reader.next_value(values, Some(&found))?;
    }
    Ok(Some(seekers))
}

/// The places of the segment with one of the values, by the segment's own list of them.
fn listed(
    values: &ValueSet,
    segment: u64,
    all: &OffsetSet,
    reader: &Reader,
    budget: &mut Budget,
) -> rusqlite::Result<Sets> {
    let (mut fitting, mut others, mut has_empty) = (Vec::new(), Vec::new(), false);
    budget.rows += 1;
    reader.listed(values.field, segment, |value| {
        has_empty |= value.is_empty();
        let fit = if values.contains(value) {
            values.fit(value)
        } else {
            Fit::No
        };
        match fit {
            Fit::No => others.push(Box::<[u8]>::from(value)),
            fit => fitting.push((Box::<[u8]>::from(value), fit)),
        }
    })?;
    let mut places = |value: &[u8]| {
        budget.rows += 1;
        reader.places(Row::Value(values.field), value, segment)
    };
    // An event has one value of such a field at the most: what has one and none of the others has one of these.
    let holders = match values.field {
        Field::SourceIp => Some(Flag::HasSource),
        Field::ClientId => Some(Flag::HasClient),
        Field::Reason => Some(Flag::HasReason),
        Field::Path => Some(Flag::HasPath),
        Field::Type | Field::Outcome | Field::Actor | Field::Secret => None,
    };
    if let Some(holders) = holders
        && others.len() < fitting.len()
        && !has_empty
    {
        let mut may = reader.places(Row::Flag, &[holders as u8], segment)?;
        for value in &others {
            may.subtract(&places(value)?);
        }
        let mut must = may.clone();
        for (value, fit) in &fitting {
            if *fit == Fit::Maybe {
                must.subtract(&places(value)?);
            }
        }
        return Ok(Sets::between(must, may));
    }
    let mut sets = Sets::exactly(all.emptied());
    for (value, fit) in &fitting {
        let places = places(value)?;
        sets.unite(&match fit {
            Fit::Yes => Sets::exactly(places),
            Fit::Maybe | Fit::No => Sets::among(places),
        });
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segments_that_a_window_touches_are_looked_for_once_and_counted() {
        let all: imbl::Vector<TimeBounds> = (0..2_500)
            .map(|at| TimeBounds {
                earliest: at * 10,
                latest: at * 10 + 9,
            })
            .collect();
        let window = TimeWindow {
            since: Some(22_000),
            until: Some(22_020),
        };
        for (order, begin, found, looked_at) in [(Order::Asc, 0, 2_200, 2_201), (Order::Desc, 2_499, 2_201, 299)] {
            let mut seeker = TimeSeeker { window, nearest: None };
            let mut budget = Budget {
                segments: 1,
                events: 0,
                rows: 0,
                bounds: 0,
                values: 0,
            };
            for at in [begin, begin, found] {
                assert_eq!(seeker.seek(at, order, &all, &mut budget), Some(found));
                assert_eq!((budget.rows, budget.bounds), (looked_at / 1_000, looked_at % 1_000));
            }
            let beyond = match order {
                Order::Asc => found + 2,
                Order::Desc => found - 2,
            };
            assert_eq!(seeker.seek(beyond, order, &all, &mut budget), None);
            let spent = (budget.rows, budget.bounds);
            assert_eq!(seeker.seek(beyond, order, &all, &mut budget), None);
            assert_eq!((budget.rows, budget.bounds), spent);
        }
    }
}
