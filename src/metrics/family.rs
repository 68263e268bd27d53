use opentelemetry::KeyValue;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// A metric per set of labels. Unlike the library's, it can be read: OTLP wants the values as well.
/// Finding a member allocates nothing and takes a read lock; only the first use of a set of labels writes.
#[derive(Debug, Clone)]
pub struct Family<L, M> {
    members: Arc<RwLock<BTreeMap<L, M>>>,
    make: fn() -> M,
}

/// Labels from a set that the code bounds.
pub trait Labels: EncodeLabelSet + Clone + Ord + fmt::Debug + Send + Sync + 'static {
    /// The labels as OpenTelemetry has them.
    fn attributes(&self) -> Vec<KeyValue>;
}

impl<L: Labels, M> Family<L, M> {
    /// No members yet; `make` makes them.
    pub fn new(make: fn() -> M) -> Self {
        Self {
            members: Arc::default(),
            make,
        }
    }

    /// Uses the member with these labels.
    pub fn with<T>(&self, labels: &L, with: impl FnOnce(&M) -> T) -> T {
        if let Some(member) = self.members.read().unwrap_or_else(PoisonError::into_inner).get(labels) {
            return with(member);
        }
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        with(members.entry(labels.clone()).or_insert_with(self.make))
    }

    /// Every member, ordered by its labels.
    pub fn each(&self, mut visit: impl FnMut(&L, &M)) {
        for (labels, member) in self.members.read().unwrap_or_else(PoisonError::into_inner).iter() {
            visit(labels, member);
        }
    }
}

impl<L: Labels, M: Default> Default for Family<L, M> {
    fn default() -> Self {
        Self::new(M::default)
    }
}

impl<L: Labels, M: EncodeMetric + TypedMetric> EncodeMetric for Family<L, M> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members
            .iter()
            .try_for_each(|(labels, member)| member.encode(encoder.encode_family(labels)?))
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}
