//! The command line. Nothing is opened or started here.

use std::path::PathBuf;

use clap::Parser;

use super::measure::Measure;

/// Measures exec, attach and port-forward, in turn within one run, beside the bare Engine and a direct connection.
#[derive(Debug, Parser)]
#[command(name = "stream")]
pub(crate) struct Options {
    /// CRI socket of an adapter that runs already, beside this dockershim; has to know the image. May be given more than once
    #[arg(long, value_name = "NAME=unix://PATH", value_parser = named_socket)]
    pub(crate) socket: Vec<(String, PathBuf)>,
    /// Adapter to start on the same private engine; in the command {cri} and {docker} stand for its sockets' paths, {dir} for a
    /// directory that it may fill and {pause} for this dockershim's own sandbox image. Words are split at spaces. May be given more than
    /// once
    #[arg(long, value_name = "NAME=COMMAND", value_parser = named)]
    pub(crate) start: Vec<(String, String)>,
    /// Image with a shell and busybox's commands
    #[arg(long, default_value = super::support::images::BUSYBOX)]
    pub(crate) image: String,
    /// MiB that each measurement of a rate moves
    #[arg(long, value_name = "MIB", default_value_t = 128)]
    pub(crate) size: usize,
    /// How often each rate is measured, in turn; the median counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) rounds: usize,
    /// How often each time is
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub(crate) repeats: usize,
    /// Only these
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<Measure>,
    /// Instead of all that: so many streams, and what is left of them in memory, threads and open files
    #[arg(long, value_name = "N", conflicts_with = "only")]
    pub(crate) streams: Option<usize>,
}

impl Options {
    /// As typed, but for the `--bench` that cargo adds. Ends the process when it can't be read.
    pub(crate) fn from_command_line() -> Options {
        Options::parse_from(std::env::args_os().filter(|argument| argument != "--bench"))
    }

    /// What is measured.
    pub(crate) fn measures(&self) -> impl Iterator<Item = Measure> {
        Measure::ALL.into_iter().filter(|measure| self.only.is_empty() || self.only.contains(measure))
    }
}

fn named(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("no name: NAME=… is expected")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn named_socket(text: &str) -> Result<(String, PathBuf), String> {
    let (name, endpoint) = named(text)?;
    let path = endpoint.strip_prefix("unix://").ok_or_else(|| format!("{endpoint} is not unix://PATH"))?;
    Ok((name, PathBuf::from(path)))
}
