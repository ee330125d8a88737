//! The metrics of pods, which a kubelet with `PodAndContainerStatsFromCRI` serves as `/metrics/cadvisor`: names, labels and
//! units are those that dashboards know from cAdvisor. Pure: what the values are made of is read elsewhere.
//!
//! **Invariant**: a metric has as many label values as its family has keys, in the same order. `docs/metrics.md` lists them all.

pub mod family;
pub mod pod;
