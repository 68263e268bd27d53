use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A histogram of whole numbers without a lock, which the library's takes for each value.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    bounds: &'static [u64],
    /// One for each bound, and one for what is beyond them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    /// How many of what is observed make one of what is shown: nanoseconds a second.
    per_unit: f64,
}

impl Histogram {
    /// Nothing observed. The bounds ascend; each belongs to the bucket below it.
    pub fn new(bounds: &'static [u64], per_unit: f64) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets {
            bounds,
            counts,
            sum: AtomicU64::new(0),
            per_unit,
        }))
    }

    /// Counts one value.
    pub fn observe(&self, value: u64) {
        let Buckets {
            bounds, counts, sum, ..
        } = &*self.0;
        if let Some(count) = counts.get(bounds.partition_point(|bound| *bound < value)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        sum.fetch_add(value, Ordering::Relaxed);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let Buckets {
            bounds,
            counts,
            sum,
            per_unit,
        } = &*self.0;
        // The library writes infinity as +Inf.
        let bounds = bounds
            .iter()
            .map(|bound| *bound as f64 / per_unit)
            .chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds
            .zip(counts.iter().map(|count| count.load(Ordering::Relaxed)))
            .collect();
        // Counted from the same reads, so that the last bucket and the count agree whatever happens meanwhile.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = sum.load(Ordering::Relaxed) as f64 / per_unit;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}
