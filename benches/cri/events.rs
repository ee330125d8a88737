//! Instead of the race: how much later than the Engine itself GetContainerEvents tells of an end, and whether each is told once.
//!
//! Standing containers are ended through the Docker API, one at a time, and started again all together, unmeasured. Both streams are
//! read here, so that the difference of the two arrivals is what the adapter adds.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use dockershim::cri::ContainerEventType as Kind;
use dockershim::engine::{Engine, Timeouts};
use futures_util::future::try_join_all;

use super::adapter::{Adapter, OWN};
use super::options::Options;
use super::race::stand;
use super::support::client::Cri;
use super::support::engine;
use super::table::percentile;
use super::world::Contestant;

/// What isn't told by then is lost.
const LIMIT: Duration = Duration::from_secs(10);
/// After an end: one that is told twice is told twice by then.
const AFTERMATH: Duration = Duration::from_millis(100);
/// Grace of a stop, in seconds.
const GRACE_S: i32 = 10;

/// How a container is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum By {
    /// It ends by itself, with exit code 0.
    Stop,
    /// Exit code 137, of which the Engine says later whether it was for want of memory.
    Kill,
}

/// When each container's starts and ends were told.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Times>>);

/// By container.
type Times = HashMap<(String, Kind), Vec<Instant>>;

impl Heard {
    fn note(&self, id: String, kind: Kind) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry((id, kind)).or_default().push(Instant::now());
    }

    fn times(&self, id: &str, kind: Kind) -> Vec<Instant> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(id.to_owned(), kind)).cloned().unwrap_or_default()
    }

    /// Waits until something has been told so often; whether it was.
    async fn reaches(&self, id: &str, kind: Kind, times: usize) -> bool {
        let end = Instant::now() + LIMIT;
        while self.times(id, kind).len() < times {
            if Instant::now() > end {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }
}

/// What came of the ends of one way.
#[derive(Default)]
struct Outcome {
    ends: usize,
    lost: usize,
    doubled: usize,
    lags: Vec<Duration>,
}

/// Measures so many ends, and writes a line for each way of ending.
pub(crate) async fn run(
    out: &mut impl Write,
    options: &Options,
    number: usize,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let private = engine::Engine::start(engine::Options::default());
    let adapter = Adapter::start(OWN, &private.socket())?;
    let docker = Engine::new(private.socket(), Timeouts::default())?;
    let mut kubelet = Contestant::kubelet("dockershim", &adapter.socket(), None, "events", options);
    kubelet.prepare().await?;
    let pods = stand(&kubelet, options, stop).await?;
    let ids: Vec<String> = pods.into_iter().map(|pod| pod.container).collect();
    ensure!(!ids.is_empty(), "--pods 0 leaves nothing to end");
    let (engines, ours) = (follow_engine(&docker).await?, follow_adapter(&adapter).await?);
    let mut outcomes = [(By::Stop, Outcome::default()), (By::Kill, Outcome::default())];
    let mut rounds = 0;
    for end in 0..number {
        ensure!(!stop.load(Ordering::Relaxed), "stopped by a signal");
        let id = &ids[end % ids.len()];
        let (by, outcome) = &mut outcomes[end % 2];
        end_one(&docker, id, *by, &engines, &ours, outcome).await.with_context(|| format!("{by:?} {id}"))?;
        if end % ids.len() == ids.len() - 1 {
            rounds += 1;
            try_join_all(ids.iter().map(|id| docker.start(id))).await.context("start them again")?;
            for id in &ids {
                ensure!(ours.reaches(id, Kind::ContainerStartedEvent, rounds).await, "start {rounds} of {id} is lost");
            }
            tokio::time::sleep(AFTERMATH).await;
        }
    }
    write(out, ids.len(), &outcomes)
}

/// Ends one, and waits until both have told so.
async fn end_one(
    docker: &Engine,
    id: &str,
    by: By,
    engines: &Heard,
    ours: &Heard,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    const ENDED: Kind = Kind::ContainerStoppedEvent;
    let before = [engines, ours].map(|heard| heard.times(id, ENDED).len());
    match by {
        By::Stop => docker.stop(id, GRACE_S).await?,
        By::Kill => docker.kill(id).await?,
    }
    if !engines.reaches(id, ENDED, before[0] + 1).await {
        bail!("the engine has not told of it");
    }
    let told = ours.reaches(id, ENDED, before[1] + 1).await;
    tokio::time::sleep(AFTERMATH).await;
    let times = ours.times(id, ENDED);
    outcome.ends += 1;
    outcome.lost += usize::from(!told);
    outcome.doubled += times.len().saturating_sub(before[1] + 1);
    let engines = engines.times(id, ENDED);
    let (died, told) = (engines.get(before[0]), times.get(before[1]));
    outcome.lags.extend(died.zip(told).map(|(died, told)| told.saturating_duration_since(*died)));
    Ok(())
}

/// Reads the Engine's own events, from when this answers.
async fn follow_engine(docker: &Engine) -> anyhow::Result<Heard> {
    docker.negotiate().await?;
    let mut events = docker.events().await?;
    let heard = Heard::default();
    let told = heard.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if event.action == "die" {
                told.note(event.actor.id, Kind::ContainerStoppedEvent);
            }
        }
    });
    Ok(heard)
}

/// Reads the adapter's, from when this answers.
async fn follow_adapter(adapter: &Adapter) -> anyhow::Result<Heard> {
    let mut events = Cri::new(&adapter.socket()).events().await?;
    let heard = Heard::default();
    let told = heard.clone();
    tokio::spawn(async move {
        while let Ok(Some(event)) = events.message().await {
            let kind = event.container_event_type();
            told.note(event.container_id, kind);
        }
    });
    Ok(heard)
}

fn write(out: &mut impl Write, standing: usize, outcomes: &[(By, Outcome)]) -> anyhow::Result<()> {
    writeln!(out, "ends of {standing} standing containers, one at a time; from the Engine's event to ours, in ms\n")?;
    writeln!(out, "{:<8} {:>6} {:>6} {:>8} {:>8} {:>8} {:>8}", "by", "ends", "lost", "doubled", "p50", "p95", "p99")?;
    for (by, Outcome { ends, lost, doubled, lags }) in outcomes {
        let ms = |percent| percentile(lags, percent).unwrap_or_default().as_secs_f64() * 1000.0;
        writeln!(
            out,
            "{:<8} {ends:>6} {lost:>6} {doubled:>8} {:>8.2} {:>8.2} {:>8.2}",
            format!("{by:?}"),
            ms(50),
            ms(95),
            ms(99)
        )?;
    }
    Ok(())
}
