//! The executable: reads the arguments, serves or checks, and ends with 0, or with 1 and the reason in one line.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use dockershim::config::cli::{CheckFlags, Cli, Command};
use dockershim::config::{self, Config};
use dockershim::{check, server};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

fn main() -> ExitCode {
    let Cli { command, flags } = Cli::parse();
    let ended = match command {
        Some(Command::Check(flags)) => run_check(flags),
        None => Config::from_flags(flags).map_err(anyhow::Error::from).and_then(serve),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            // when nobody hears this, the exit code still tells
            let _ = writeln!(io::stderr(), "dockershim: {}", server::in_one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Serves until SIGTERM or SIGINT.
fn serve(config: Config) -> anyhow::Result<ExitCode> {
    log_to_stderr(config.log_level)?;
    raise_open_files();
    // two workers keep a slow verb from holding up the rest, and memory small
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server::run(config, shutdown).await.map_err(anyhow::Error::from)
    });
    // work that can't be cancelled is not waited for: what it leaves is found at the next start
    runtime.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}

/// Each followed log takes two descriptors, and the usual soft limit of 1024 would be reached at 500 containers.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files can't be raised");
    }
}

/// Our own lines at the level asked for; those of libraries only if they are warnings.
fn log_to_stderr(level: Level) -> anyhow::Result<()> {
    let targets = Targets::new().with_target("dockershim", level).with_default(level.min(Level::WARN));
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).finish().with(targets);
    Ok(tracing::subscriber::set_global_default(subscriber)?)
}

fn run_check(flags: CheckFlags) -> anyhow::Result<ExitCode> {
    let CheckFlags { run_pod: _always, container_runtime_endpoint } = flags;
    let socket = config::socket("container-runtime-endpoint", &container_runtime_endpoint)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let passed = runtime.block_on(check::run_pod(&socket, &mut io::stdout().lock()))?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
