//! From one container's spool to its log file: the blocking half of a pump, run on a lane, because a full or slow disk must stop
//! this container's log and nothing else. Between two rounds it holds two open files and next to no memory.
//!
//! **Invariants**: a position's mark moves on only when everything before it is in the log; the spool is taken only into `out`,
//! and `out` is emptied only into files that a saved position names.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use memchr::memchr_iter;

use super::counters::Counters;
use super::error::Error;
use super::lanes::Buffers;
use super::line;
use super::output::{Output, Replay};
use super::path::LogPath;
use super::position::Position;
use super::spool::{Losses, Spool};
use crate::id::ContainerId;
use crate::record::Records;
use crate::translate::time::parse_ns;

/// How much one round takes at most, so that a busy container can be told something in between.
const ROUND: usize = 1024 * 1024;
/// The longest time that a position is not saved,
const SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// and the most that is moved meanwhile: so much is compared after a crash. Docker must not have rotated all of it away by then.
const SAVE_VOLUME: usize = 4 * 1024 * 1024;

/// What a round has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// There is more.
    More,
    /// All that was there has been written.
    Moved,
    /// Nothing was there.
    Nothing,
}

/// One container's log on its way.
pub(super) struct Transfer {
    id: ContainerId,
    path: LogPath,
    spool: Spool,
    /// What the log may hold already, to be compared first.
    replays: VecDeque<Replay>,
    output: Output,
    /// Converted and not written yet: empty between rounds unless writing fails.
    out: Vec<u8>,
    records: Records,
    position: Position,
    /// It is on disk.
    is_saved: bool,
    saved_at: Option<Instant>,
    /// Of the spool, since then.
    unsaved_bytes: usize,
    /// That it can't be saved has been told.
    unsaved_told: bool,
    counters: Arc<Counters>,
    damage_told: bool,
    gap_told: bool,
}

impl Transfer {
    /// Opens the log, made when it isn't there, and finds out how far it has come.
    pub(super) fn open(
        id: ContainerId,
        spool: PathBuf,
        path: LogPath,
        records: Records,
        counters: Arc<Counters>,
    ) -> Result<Self, Error> {
        let output = Output::open(&path)?;
        let mut known: Option<Position> = records.load(id.as_str()).unwrap_or_else(|error| {
            tracing::warn!(container = %id, %error, "the log's position can't be read; the log is compared from its start");
            None
        });
        let saved = known.clone();
        let since = match &mut known {
            Some(position) => output.since(position, &path)?,
            None => None,
        };
        let is_saved = since.is_some() && known == saved;
        let (position, replays) = match (known, since) {
            (Some(position), Some(replays)) => (position, replays),
            _ => output.start_over(&path)?,
        };
        let mut transfer = Transfer {
            spool: Spool::new(spool, position.spool.clone()),
            replays: replays.into(),
            out: Vec::new(),
            saved_at: None,
            unsaved_bytes: 0,
            unsaved_told: false,
            damage_told: false,
            gap_told: false,
            counters,
            id,
            path,
            output,
            records,
            position,
            is_saved,
        };
        transfer.name_output()?;
        Ok(transfer)
    }

    /// Moves what there is, at most a round's worth, through buffers that it has for this time.
    pub(super) fn round(&mut self, buffers: &mut Buffers) -> Result<Round, Error> {
        self.spool.lend(&mut buffers.read);
        if self.out.is_empty() {
            buffers.converted.clear();
            std::mem::swap(&mut self.out, &mut buffers.converted);
        }
        let outcome = self.move_lines();
        self.spool.give_back(&mut buffers.read);
        if self.out.is_empty() {
            buffers.converted = std::mem::take(&mut self.out);
        }
        outcome
    }

    fn move_lines(&mut self) -> Result<Round, Error> {
        let mut moved = self.out.len();
        self.flush()?;
        let round = loop {
            if moved >= ROUND {
                break Round::More;
            }
            if !self.spool.fill().map_err(|source| Error::Spool { path: self.spool.path().to_owned(), source })? {
                // a gap without a line after it yet
                self.count_losses(0);
                break if moved == 0 { Round::Nothing } else { Round::Moved };
            }
            let taken = self.spool.lines().len();
            (moved, self.unsaved_bytes) = (moved + taken, self.unsaved_bytes.saturating_add(taken));
            let damaged = line::convert(self.spool.lines(), &mut self.out);
            self.count_losses(damaged);
            self.spool.take();
            self.flush()?;
        };
        self.save_if_due();
        Ok(round)
    }

    /// Goes on in the file that is at the log's path now, made when there is none.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        let new = Output::open(&self.path)?;
        // from here on the position names the new file, so a power loss must take neither the old one's end nor the new one's name
        let synced = self.output.sync().map_err(|source| self.write_failed(source));
        if let Err(error) = synced.and_then(|()| self.path.sync_names()) {
            tracing::warn!(container = %self.id, %error, "the rotated log can't be synced");
        }
        self.output = new;
        self.name_output()?;
        self.save();
        Ok(())
    }

    /// Makes the position say where the next line goes, if it doesn't yet.
    fn name_output(&mut self) -> Result<(), Error> {
        let output = self.output.written().map_err(|source| self.write_failed(source))?;
        if self.position.outputs.last().is_none_or(|last| last.file != output.file) {
            self.position.outputs.push(output);
            self.is_saved = false;
        }
        self.keep_position();
        Ok(())
    }

    /// Moves the position on to what has been taken, and saves it. Not while something is still to be written or compared.
    pub(super) fn save(&mut self) {
        if !self.is_settled() {
            return;
        }
        (self.saved_at, self.unsaved_bytes) = (Some(Instant::now()), 0);
        // a file that can't be asked for its length can't be written either, and that is told
        let Ok(output) = self.output.written() else { return };
        let position = Position { spool: self.spool.mark().cloned(), outputs: vec![output] };
        self.is_saved &= self.position == position;
        self.position = position;
        self.keep_position();
    }

    /// Writes the position's record if the one on disk is another. The log goes on without: a crash may then double lines.
    fn keep_position(&mut self) {
        if self.is_saved {
            return;
        }
        match self.records.save_unsynced(self.id.as_str(), &self.position) {
            Ok(()) => (self.is_saved, self.unsaved_told) = (true, false),
            Err(error) => {
                if !std::mem::replace(&mut self.unsaved_told, true) {
                    tracing::warn!(container = %self.id, %error, "the log's position can't be saved");
                }
            }
        }
    }

    /// When the next save is due; None when everything is saved.
    pub(super) fn save_due(&self) -> Option<Instant> {
        if !self.is_settled() || (self.is_saved && self.position.spool.as_ref() == self.spool.mark()) {
            return None;
        }
        let waits = self.saved_at.filter(|_| self.unsaved_bytes < SAVE_VOLUME);
        Some(waits.map_or_else(Instant::now, |at| at + SAVE_INTERVAL))
    }

    fn save_if_due(&mut self) {
        if self.save_due().is_some_and(|due| due <= Instant::now()) {
            self.save();
        }
    }

    fn is_settled(&self) -> bool {
        self.out.is_empty() && self.replays.is_empty()
    }

    /// Writes what is converted, but for what the log holds already.
    fn flush(&mut self) -> Result<(), Error> {
        self.compare().and_then(|()| self.write()).map_err(|source| self.write_failed(source))
    }

    fn write_failed(&self, source: io::Error) -> Error {
        Error::Write { path: self.path.as_joined(), source }
    }

    fn compare(&mut self) -> io::Result<()> {
        while let Some(replay) = self.replays.front_mut() {
            let held = replay.take(&self.out)?;
            self.out.drain(..held);
            if replay.is_done() {
                let lost_touch = replay.has_lost_touch();
                self.replays.pop_front();
                // with a mark, the spool knows by itself what it has lost
                if lost_touch && self.replays.is_empty() && self.position.spool.is_none() {
                    self.spool.count_gap();
                }
            } else if self.out.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.count_lag();
        let (done, outcome) = self.output.append(&self.out);
        let lines = memchr_iter(b'\n', &self.out[..done]).count();
        self.counters.written(u64::try_from(lines).unwrap_or_default(), u64::try_from(done).unwrap_or_default());
        self.out.drain(..done);
        outcome
    }

    /// How long the first line of what is to be written has been on its way, by Docker's stamp and this machine's clock.
    fn count_lag(&self) {
        let stamp = self.out.split(|byte| *byte == b' ').next().unwrap_or_default();
        let stamp = u64::try_from(parse_ns(&String::from_utf8_lossy(stamp))).unwrap_or_default();
        let lag = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_nanos(stamp));
        self.counters.lagged(lag.unwrap_or_default());
    }

    /// Counts what was passed over, and tells of it once.
    fn count_losses(&mut self, damaged: u64) {
        let Losses { gaps, torn } = self.spool.take_losses();
        let damaged = damaged + torn;
        self.counters.lost(damaged, gaps);
        let spool = self.spool.path().display();
        if damaged > 0 && !std::mem::replace(&mut self.damage_told, true) {
            tracing::warn!(container = %self.id, %spool, "docker's log has damaged lines; they are passed over, also those to come");
        }
        if gaps > 0 && !std::mem::replace(&mut self.gap_told, true) {
            tracing::warn!(
                container = %self.id, %spool,
                "docker has removed lines before they were read: they are missing in the log (a larger --log-spool-size or \
                 more --log-spool-files would hold them longer)"
            );
        }
    }
}
