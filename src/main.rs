//! The executable: reads the arguments, serves, checks the node, shows how a running daemon is or how it is configured, and ends with 0,
//! or with 1 and the reason in one line; `check` has an exit code for warnings, too.

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;
use dockershim::check::{self, Options};
use dockershim::config::cli::{CheckFlags, Cli, Command, ConfigCommand, MigrateFlags, ReleaseFlags, StatusFlags};
use dockershim::config::{Changes, Resolved, Typed, reference};
use dockershim::handover::{migrate, release};
use dockershim::journal::Journal;
use dockershim::server::{self, Supervisor};
use dockershim::status;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

fn main() -> ExitCode {
    let (cli, matches) = Cli::read();
    let ended = match cli.command {
        Some(Command::Check(flags)) => run_check(*flags, &Typed::of(&matches)),
        Some(Command::Status(flags)) => show_status(*flags, &Typed::of(&matches)),
        Some(Command::Config(command)) => configure(command, &matches),
        Some(Command::Migrate(flags)) => make_configuration(&flags),
        Some(Command::Release(flags)) => hand_back(&flags, &matches),
        None => serve(&Typed::of(&matches)),
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

/// Serves until SIGTERM or SIGINT; SIGHUP has the configuration read again.
fn serve(typed: &Typed) -> anyhow::Result<ExitCode> {
    let resolved = Resolved::new(typed, env::vars_os())?;
    let journal = Journal::open(resolved.config.log_level, resolved.config.logging_format)?;
    for (flag, why) in resolved.without_meaning() {
        tracing::warn!("--{flag} means nothing here: {why}");
    }
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
        let supervisor = Supervisor::from_environment();
        let config = resolved.config.clone();
        let running = Running { resolved, typed: typed.clone(), journal, supervisor: supervisor.clone() };
        tokio::spawn(running.reload_at(signal(SignalKind::hangup())?));
        server::run(config, supervisor, shutdown).await.map_err(anyhow::Error::from)
    });
    // work that can't be cancelled is not waited for: what it leaves is found at the next start
    runtime.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}

/// What a reload starts from.
struct Running {
    resolved: Resolved,
    typed: Typed,
    journal: Journal,
    supervisor: Supervisor,
}

impl Running {
    async fn reload_at(mut self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            self.supervisor.reloading();
            self.reload();
            self.supervisor.reloaded();
        }
    }

    /// A configuration that can't be used changes nothing.
    fn reload(&mut self) {
        let new = match Resolved::new(&self.typed, env::vars_os()) {
            Ok(new) => new,
            Err(error) => {
                tracing::error!("the configuration stays as it was: {error}");
                return;
            }
        };
        let Changes { now, at_restart } = self.resolved.reload(new);
        self.journal.set_level(self.resolved.config.log_level);
        tracing::info!(?now, ?at_restart, "configuration read again");
    }
}

/// Each followed log takes two descriptors, and the usual soft limit of 1024 would be reached at 500 containers.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files can't be raised");
    }
}

fn run_check(flags: CheckFlags, typed: &Typed) -> anyhow::Result<ExitCode> {
    let CheckFlags { pre, json, run_pod, kubelet_config, told: _resolved } = flags;
    let resolved = Resolved::new(typed, env::vars_os())?;
    let kubelet_config = kubelet_config.map(std::path::absolute).transpose()?;
    let options = Options { pre, json, run_pod, kubelet_config, root: PathBuf::from("/") };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let verdict = runtime.block_on(check::run(&resolved.config, &options, &mut io::stdout().lock()))?;
    Ok(ExitCode::from(verdict.exit_code()))
}

fn make_configuration(flags: &MigrateFlags) -> anyhow::Result<ExitCode> {
    let MigrateFlags { from, output, force, arguments } = flags;
    let source = if arguments.is_empty() { migrate::Source::Unit(from) } else { migrate::Source::Arguments(arguments) };
    migrate::run(source, output, *force, &mut io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn hand_back(flags: &ReleaseFlags, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let config = Resolved::new(&Typed::of(matches), env::vars_os())?.config;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let whole = runtime.block_on(release::run(&config, &flags.to, flags.dry_run, &mut io::stdout().lock()))?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show_status(flags: StatusFlags, typed: &Typed) -> anyhow::Result<ExitCode> {
    let StatusFlags { json, told: _resolved } = flags;
    let config = Resolved::new(typed, env::vars_os())?.config;
    let form = if json { status::Form::Json } else { status::Form::Screen };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let ready = runtime.block_on(status::show(config.own_socket(), form, &mut io::stdout().lock()))?;
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn configure(command: ConfigCommand, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let out = &mut io::stdout().lock();
    match command {
        ConfigCommand::Default => reference::write_default(out)?,
        ConfigCommand::Dump(_) => reference::write_dump(&Resolved::new(&Typed::of(matches), env::vars_os())?, out)?,
        ConfigCommand::Check { file } => {
            Resolved::new(&Typed::only_file(file.clone()), [])?;
            writeln!(out, "{} can be used", file.display())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
