//! `dockershim migrate`: what cri-dockerd was told, as our configuration file. Each flag is told with what becomes of it; a file that is
//! there stays, unless it is to be replaced.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::{Error, unit};
use crate::config::{Carried, Fate, carry_over};

/// How the program's file is called.
const PROGRAM: &str = "cri-dockerd";

/// Where cri-dockerd's command line stands.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// In a systemd unit: its path, or its name.
    Unit(&'a str),
    /// Here, without the program's name.
    Arguments(&'a [String]),
}

/// Makes the configuration file and tells of each flag in `out`.
pub fn run(source: Source<'_>, file: &Path, force: bool, out: &mut dyn Write) -> Result<(), Error> {
    let (place, flags) = told(source)?;
    report(&place, &flags, out).map_err(|source| Error::Tell { source })?;
    write(file, &text(&place, &flags), force)?;
    writeln!(out, "written to {}", file.display()).map_err(|source| Error::Tell { source })
}

/// Where the flags stand, and what becomes of each.
fn told(source: Source<'_>) -> Result<(String, Vec<Carried>), Error> {
    let (place, arguments, environment) = match source {
        Source::Arguments(arguments) => ("the command line".to_owned(), arguments.to_vec(), Vec::new()),
        Source::Unit(name) => {
            let unit::Command { files, words, environment } = unit::read(name)?;
            let place = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
            let mut words = words.into_iter();
            let program = words.next().unwrap_or_default();
            if !is_cri_dockerd(&program) {
                return Err(Error::OtherProgram { place, program });
            }
            let environment =
                environment.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
            (place, words.collect(), environment.collect())
        }
    };
    match carry_over(&arguments, environment) {
        Ok(flags) => Ok((place, flags)),
        Err(source) => Err(Error::Flags { place, source }),
    }
}

fn is_cri_dockerd(program: &str) -> bool {
    Path::new(program).file_name().is_some_and(|name| name.to_string_lossy().starts_with(PROGRAM))
}

fn report(place: &str, flags: &[Carried], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "told in {place}:")?;
    for Carried { flag, fate } in flags {
        match fate {
            Fate::Kept(line) => writeln!(out, "  {flag}: kept ({line})")?,
            Fate::Needless(why) => writeln!(out, "  {flag}: not written: {why}")?,
            Fate::Meaningless(why) => writeln!(out, "  {flag}: means nothing here: {why}")?,
        }
    }
    Ok(())
}

/// The file.
fn text(place: &str, flags: &[Carried]) -> String {
    let mut text =
        format!("# What cri-dockerd was told in {place}.\n# `dockershim config default` lists all keys.\n\n");
    for line in flags.iter().filter_map(|flag| if let Fate::Kept(line) = &flag.fate { Some(line) } else { None }) {
        text.extend([line, "\n"]);
    }
    text
}

/// Whole or not at all.
fn write(file: &Path, text: &str, force: bool) -> Result<(), Error> {
    let failed = |source| Error::Write { path: file.to_owned(), source };
    let folder = file.parent().unwrap_or_else(|| Path::new("/"));
    fs::create_dir_all(folder).map_err(failed)?;
    let beside = folder.join(format!(".dockershim-migrate-{}", std::process::id()));
    fs::write(&beside, text).map_err(failed)?;
    // a link, unlike a renaming, fails where something is
    let put = if force { fs::rename(&beside, file) } else { fs::hard_link(&beside, file) };
    if !force || put.is_err() {
        let _ = fs::remove_file(&beside);
    }
    put.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists { path: file.to_owned() },
        _ => failed(source),
    })
}
