//! Figures as Prometheus reads them: gathered by whoever can read them, put into words by the official client.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Reading;
use super::family::{ALL, Family, Kind};

/// In which form figures are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' own, which everybody reads.
    Plain,
}

impl Form {
    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Form::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All values at one moment.
#[derive(Debug, Default)]
pub struct Exposition {
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    family: &'static Family,
    labels: Vec<(&'static str, String)>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Count(u64),
    Seconds(f64),
    Durations(Reading),
}

impl Exposition {
    /// A number; `own` are the values of the family's labels.
    pub fn count(&mut self, family: &'static Family, own: &[&str], count: u64) {
        self.tell(family, own, Value::Count(count));
    }

    /// A time.
    pub fn seconds(&mut self, family: &'static Family, own: &[&str], time: Duration) {
        self.tell(family, own, Value::Seconds(time.as_secs_f64()));
    }

    /// Times in classes.
    pub fn durations(&mut self, family: &'static Family, own: &[&str], reading: Reading) {
        self.tell(family, own, Value::Durations(reading));
    }

    fn tell(&mut self, family: &'static Family, own: &[&str], value: Value) {
        debug_assert_eq!(own.len(), family.labels.len(), "{}", family.name);
        let labels = family.labels.iter().zip(own).map(|(name, value)| (*name, (*value).to_owned()));
        self.samples.push(Sample { family, labels: labels.collect(), value });
    }

    /// Writes all of them.
    pub fn write(self, form: Form) -> Result<String, fmt::Error> {
        let (mut registry, mut out) = (Registry::default(), String::new());
        registry.register_collector(Box::new(self));
        match form {
            Form::OpenMetrics => text::encode(&mut out, &registry)?,
            Form::Plain => prometheus_text::encode(&mut out, &registry)?,
        }
        Ok(out)
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in ALL {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut described = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for sample in self.samples.iter().filter(|sample| sample.family.name == family.name) {
                sample.value.encode(family.kind, described.encode_family(&sample.labels)?)?;
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, kind: Kind, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match (self, kind) {
            (Value::Count(count), Kind::Counter) => encoder.encode_counter::<NoLabelSet, _, f64>(count, None),
            (Value::Seconds(time), Kind::Counter) => encoder.encode_counter::<NoLabelSet, _, f64>(time, None),
            (Value::Count(count), _) => encoder.encode_gauge(count),
            (Value::Seconds(time), _) => encoder.encode_gauge(time),
            (Value::Durations(reading), _) => {
                let bounds = reading.bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
                let classes: Vec<_> = bounds.zip(reading.classes.iter().copied()).collect();
                encoder.encode_histogram::<NoLabelSet>(reading.sum.as_secs_f64(), reading.count(), &classes, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Histogram, family};
    use super::*;

    fn some() -> Exposition {
        let histogram = Histogram::new(const { &[Duration::from_millis(10), Duration::from_secs(1)] });
        [3, 400, 5000].into_iter().for_each(|ms| histogram.note(Duration::from_millis(ms)));
        let mut told = Exposition::default();
        told.durations(&family::RPC_SECONDS, &["Status"], histogram.read());
        told.count(&family::RPC_FAILURES, &["StartContainer", "Internal"], 2);
        told.count(&family::PODS, &["odd \"\\\n"], 3);
        told.seconds(&family::PROCESS_CPU_SECONDS, &[], Duration::from_millis(1500));
        told
    }

    fn values(text: &str) -> String {
        let values = text.lines().filter(|line| !line.starts_with("# HELP") && !line.starts_with("# TYPE"));
        values.map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn values_are_told_in_both_forms() {
        insta::assert_snapshot!("plain", values(&some().write(Form::Plain).unwrap()));
        insta::assert_snapshot!("open_metrics", values(&some().write(Form::OpenMetrics).unwrap()));
    }

    #[test]
    fn every_family_is_described_once() {
        let text = some().write(Form::OpenMetrics).unwrap();
        for family in ALL {
            let kind = format!("{:?}", family.kind).to_lowercase();
            assert_eq!(text.matches(&format!("# TYPE {} {kind}\n", family.name)).count(), 1, "{}", family.name);
            assert_eq!(text.matches(&format!("# HELP {} {}\n", family.name, family.help)).count(), 1);
        }
    }
}
