//! Counters with a label, shared by Prometheus and the statistics.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A label of a counter.
pub(super) trait Label: Copy + Ord + fmt::Debug + Send + Sync + 'static {
    /// The name in the statistics. Labels with the same name are summed up.
    fn name(self) -> &'static str;

    /// The names and values of the labels in Prometheus.
    fn labels(self) -> Vec<(&'static str, Cow<'static, str>)>;
}

/// Counts by label since the start. Clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct Tally<L>(Arc<Mutex<BTreeMap<L, u64>>>);

impl<L: Label> Default for Tally<L> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<L: Label> Tally<L> {
    /// Makes counts that show these labels with 0 from the start.
    pub(super) fn showing(labels: impl IntoIterator<Item = L>) -> Self {
        let counts = labels.into_iter().map(|label| (label, 0)).collect();
        Self(Arc::new(Mutex::new(counts)))
    }

    /// Increments the count of a label.
    pub(super) fn add(&self, label: L) {
        *self.0.lock().entry(label).or_default() += 1;
    }

    /// The counts, summed up by name.
    pub(super) fn by_name(&self) -> BTreeMap<&'static str, u64> {
        let mut by_name = BTreeMap::new();
        for (label, count) in &*self.0.lock() {
            *by_name.entry(label.name()).or_default() += count;
        }
        by_name
    }
}

impl<L: Label> EncodeMetric for Tally<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (label, count) in &*self.0.lock() {
            let labels = label.labels();
            let mut encoder = encoder.encode_family(&labels)?;
            encoder.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }

    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl<L> TypedMetric for Tally<L> {
    const TYPE: MetricType = MetricType::Counter;
}
