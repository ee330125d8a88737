//! Medians and ratios, one line for each operation of each contestant.

use std::io::Write;
use std::time::Duration;

use super::operation::Operation;
use super::options::Options;
use super::race::{Results, Samples};
use super::world::Contestant;

/// Writes the table.
pub(crate) fn write(
    out: &mut impl Write,
    options: &Options,
    contestants: &[Contestant],
    results: &Results,
) -> anyhow::Result<()> {
    let Options { iterations, pods, containers, image, stats, .. } = options;
    let floor = contestants.iter().position(Contestant::is_floor);
    let first = contestants.iter().position(|contestant| !contestant.is_floor());
    let first_name = first.map_or("", |at| contestants[at].name.as_str());
    let what = match stats {
        Some(rounds) => format!("{rounds} rounds, {pods} pods standing"),
        None => format!("{iterations} pods lived, {pods} standing beside them"),
    };
    writeln!(out, "{what} with {containers} containers each, from {image}; medians\n")?;
    let of_first = format!("of {first_name}");
    writeln!(
        out,
        "{:<19} {:<12} {:>6} {:>10} {:>10} {:>9} {:>10} {:>14}",
        "operation", "by", "calls", "p50 ms", "p95 ms", "of docker", "beyond ms", of_first
    )?;
    for operation in Operation::LIFE {
        let median = |at: Option<usize>| results.get(&(operation, at?)).map(|samples| ms(samples, 50));
        for (at, contestant) in contestants.iter().enumerate() {
            let Some(samples) = results.get(&(operation, at)) else { continue };
            if let Some(why) = &samples.refused {
                writeln!(out, "{:<19} {:<12} {why}", format!("{operation:?}"), contestant.name)?;
                continue;
            }
            let p50 = ms(samples, 50);
            let ratio = |base: Option<f64>| told(base.map(|base| p50 / base), 2);
            let beyond = median(floor).map(|floor| p50 - floor);
            writeln!(
                out,
                "{:<19} {:<12} {:>6} {:>10.2} {:>10.2} {:>9} {:>10} {:>14}",
                format!("{operation:?}"),
                contestant.name,
                told(calls(samples), 0),
                p50,
                ms(samples, 95),
                ratio(median(floor)),
                told(beyond, 2),
                ratio(median(first)),
            )?;
        }
    }
    Ok(())
}

/// A number, or that there is none.
fn told(number: Option<impl Into<f64>>, digits: usize) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{:.digits$}", number.into()))
}

fn ms(samples: &Samples, percent: usize) -> f64 {
    percentile(&samples.times, percent).unwrap_or(Duration::ZERO).as_secs_f64() * 1000.0
}

fn calls(samples: &Samples) -> Option<u32> {
    percentile(&samples.calls, 50).and_then(|calls| u32::try_from(calls).ok())
}

/// By nearest rank; None of none.
pub(crate) fn percentile<T: Ord + Copy>(values: &[T], percent: usize) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.max(1) - 1).copied()
}
