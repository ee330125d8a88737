//! The turns, the clock and the counter.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::operation::{Operation, Pod};
use super::options::Options;
use super::world::Contestant;

/// After each change: what an adapter asks its engine because of it belongs to it, and must not slow the next in turn.
const AFTERMATH: Duration = Duration::from_millis(100);
/// Standing pods on their way at once.
const AT_ONCE: usize = 4;
/// An operation that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(120);

/// What was seen of one contestant's operation.
#[derive(Default)]
pub(crate) struct Samples {
    pub(crate) times: Vec<Duration>,
    /// Engine calls; empty where nobody counts.
    pub(crate) calls: Vec<usize>,
    /// Why there are none.
    pub(crate) refused: Option<String>,
}

/// By operation and the contestant's place in the list.
pub(crate) type Results = BTreeMap<(Operation, usize), Samples>;

/// Runs the whole race. The first pod of each contestant is for warming up and isn't in the results.
pub(crate) async fn run(
    contestants: &mut [Contestant],
    options: &Options,
    stop: &AtomicBool,
) -> anyhow::Result<Results> {
    // the floor last: adapters bring in images that it needs
    for contestant in contestants.iter_mut().rev() {
        contestant.prepare().await.with_context(|| format!("{}: prepare", contestant.name))?;
    }
    for contestant in &*contestants {
        stand(contestant, options, stop).await.with_context(|| format!("{}: standing pods", contestant.name))?;
    }
    let mut race = Race { contestants, stop, results: Results::new() };
    if let Some(rounds) = options.stats {
        race.tell(rounds).await?;
        return Ok(race.results);
    }
    for number in options.pods..=options.pods + options.iterations {
        if number == options.pods + 1 {
            race.results.clear();
        }
        race.live(number, &Operation::LIFE).await?;
    }
    Ok(race.results)
}

/// Brings standing pods into being, unmeasured and some at once.
pub(crate) async fn stand(contestant: &Contestant, options: &Options, stop: &AtomicBool) -> anyhow::Result<Vec<Pod>> {
    let births = (0..options.pods).map(|number| async move {
        let mut pod = Pod::new(number);
        let containers = (0..options.containers).flat_map(|part| Operation::BIRTH.map(|operation| (operation, part)));
        for (operation, part) in std::iter::once((Operation::RunPodSandbox, 0)).chain(containers) {
            ensure!(!stop.load(Ordering::Relaxed), "stopped by a signal");
            pod.part = part;
            contestant.act(operation, &mut pod).await.with_context(|| format!("{operation:?} {number}"))?;
        }
        anyhow::Ok(pod)
    });
    stream::iter(births).buffered(AT_ONCE).try_collect().await
}

struct Race<'a> {
    contestants: &'a [Contestant],
    stop: &'a AtomicBool,
    results: Results,
}

impl Race<'_> {
    /// A pod's life, or a part of it, by all contestants. Each pod has another one begin: to come after somebody must not
    /// always hit the same.
    async fn live(&mut self, number: usize, life: &[Operation]) -> anyhow::Result<()> {
        let count = self.contestants.len();
        let mut pods = vec![Pod::new(number); count];
        for operation in life {
            for turn in 0..operation.repeats() * count {
                let at = (number + turn) % count;
                if self.contestants[at].takes(*operation) {
                    self.measure(*operation, at, &mut pods[at]).await?;
                }
            }
        }
        Ok(())
    }

    /// Statistics of what stands. Whoever can't tell some in the first round, which is for warming up, isn't asked again.
    async fn tell(&mut self, rounds: usize) -> anyhow::Result<()> {
        let count = self.contestants.len();
        let mut pod = Pod::default();
        for operation in Operation::STATS {
            let mut tellers = Vec::new();
            for at in 0..count {
                match self.measure(operation, at, &mut pod).await {
                    Ok(()) => tellers.push(at),
                    Err(error) if self.stop.load(Ordering::Relaxed) => return Err(error),
                    Err(error) => self.results.entry((operation, at)).or_default().refused = Some(format!("{error:#}")),
                }
            }
            for at in &tellers {
                self.results.remove(&(operation, *at));
            }
            for turn in 0..rounds * tellers.len() {
                self.measure(operation, tellers[(turn + turn / tellers.len()) % tellers.len()], &mut pod).await?;
            }
        }
        Ok(())
    }

    async fn measure(&mut self, operation: Operation, at: usize, pod: &mut Pod) -> anyhow::Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), "stopped by a signal");
        let contestant = &self.contestants[at];
        contestant.engine_calls();
        let begin = Instant::now();
        let done = tokio::time::timeout(LIMIT, contestant.act(operation, pod)).await;
        let time = begin.elapsed();
        let failed = || format!("{}: {operation:?}", contestant.name);
        done.with_context(failed)?.with_context(failed)?;
        if !operation.reads() {
            tokio::time::sleep(AFTERMATH).await;
        }
        let samples = self.results.entry((operation, at)).or_default();
        samples.times.push(time);
        samples.calls.extend(contestant.engine_calls());
        Ok(())
    }
}
