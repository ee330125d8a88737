//! Docker's json-file with its rotated generations, read as one stream of whole lines.
//!
//! ```text
//!   rotation:   X.2 ─▶ X.3     X.1 ─▶ X.2     X ─▶ X.1     then a new X, and the first line in it
//!   read:       X.3, X.2, X.1, X
//! ```
//!
//! The generation being read is held open, which keeps its inode from being given out again, so its place among the names is
//! found by inode alone. When it is at its end and has become X.n, X.n-1 is next. Only a position from an earlier run needs the
//! fingerprint. Never writes.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::io::{read, retry_on_intr};
use sha2::{Digest, Sha256};

use super::position::{FileId, Mark};

/// How much is read at once, about.
const CHUNK: usize = 64 * 1024;
/// A line longer than this is not held in memory; it counts as damaged. Docker cuts lines at 16 KiB of text.
pub(super) const LINE_LIMIT: usize = 128 * 1024 * 1024;
/// How much of a first line goes into a fingerprint: any line of Docker's whole, with its timestamp at the end.
const FINGERPRINT_LIMIT: u64 = 128 * 1024;
/// How often a rotation may happen under our eyes before the next event is waited for.
const ATTEMPTS: usize = 16;

/// The spool of one container.
pub(super) struct Spool {
    path: PathBuf,
    /// Where to begin, and later what has been taken.
    mark: Option<Mark>,
    generation: Option<Generation>,
    /// Read and not taken yet; begins at the start of a line.
    pending: Vec<u8>,
    /// How much of it is whole lines.
    whole: usize,
    /// The last read of this round came to the end: another one would only say so.
    at_end: bool,
    losses: Losses,
}

/// What had to be passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Times that Docker had removed what came next, or may have.
    pub(super) gaps: u64,
    /// Lines without an end.
    pub(super) torn: u64,
}

/// One file of the spool.
struct Generation {
    file: File,
    id: FileId,
    /// None until its first line is whole.
    fingerprint: Option<String>,
    /// Up to where it has been read.
    read: u64,
}

impl Spool {
    /// The spool at `path`, from a mark on; without one from the oldest line that is there. Nothing is opened yet: the file may
    /// come later.
    pub(super) fn new(path: PathBuf, mark: Option<Mark>) -> Self {
        Spool { path, mark, generation: None, pending: Vec::new(), whole: 0, at_end: false, losses: Losses::default() }
    }

    /// The current generation's name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a round, and lends it a buffer to read into, until [`Self::give_back`].
    pub(super) fn lend(&mut self, buffer: &mut Vec<u8>) {
        self.at_end = false;
        if self.pending.is_empty() {
            buffer.clear();
            std::mem::swap(&mut self.pending, buffer);
        }
    }

    /// Gives the buffer back, unless the beginning of a line is in it: a quiet container holds none.
    pub(super) fn give_back(&mut self, buffer: &mut Vec<u8>) {
        if self.pending.is_empty() {
            std::mem::swap(&mut self.pending, buffer);
            self.pending = Vec::new();
        } else {
            self.pending.shrink_to_fit();
        }
    }

    /// Reads until there is a whole line or nothing more. False when nothing more is there now.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        while self.whole == 0 {
            if self.generation.is_none() {
                self.generation = self.locate()?;
            }
            if self.generation.is_none() {
                return Ok(false);
            }
            let at_end = std::mem::take(&mut self.at_end) || self.read()? == 0;
            if at_end && !self.advance()? {
                return Ok(false);
            }
        }
        if let Some(generation) = &mut self.generation
            && generation.fingerprint.is_none()
        {
            generation.fingerprint = fingerprint(&generation.file)?;
        }
        Ok(true)
    }

    /// The whole lines that have been read.
    pub(super) fn lines(&self) -> &[u8] {
        &self.pending[..self.whole]
    }

    /// Those lines have been taken.
    pub(super) fn take(&mut self) {
        self.pending.drain(..self.whole);
        self.whole = 0;
        if let Some(Generation { id, fingerprint: Some(fingerprint), read, .. }) = &self.generation {
            let offset = read - length(&self.pending);
            self.mark = Some(Mark { file: *id, fingerprint: fingerprint.clone(), offset });
        }
    }

    /// Up to where lines have been taken; None when none has been.
    pub(super) fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// Counts lines that are missing before what has been read.
    pub(super) fn count_gap(&mut self) {
        self.losses.gaps += 1;
    }

    /// What has been passed over since this was asked last.
    pub(super) fn take_losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    /// Reads a piece of the generation; says how much.
    fn read(&mut self) -> io::Result<usize> {
        let Some(generation) = &mut self.generation else { return Ok(0) };
        let before = self.pending.len();
        self.pending.reserve(CHUNK);
        let room = self.pending.capacity() - before;
        let count = retry_on_intr(|| read(&generation.file, spare_capacity(&mut self.pending)))?;
        self.at_end = (1..room).contains(&count);
        let new = &self.pending[before..];
        generation.read += length(new);
        let is_end = |byte: &u8| *byte == b'\n';
        let mut from = before;
        if self.pending.len() > LINE_LIMIT {
            let end = new.iter().position(is_end).map_or(self.pending.len(), |at| before + at + 1);
            if end > LINE_LIMIT {
                self.losses.torn += 1;
                self.pending.drain(..end);
                from = 0;
            }
        }
        if let Some(end) = self.pending[from..].iter().rposition(is_end) {
            self.whole = from + end + 1;
        }
        Ok(count)
    }

    /// At the end of the generation: goes on to what follows it. False when nothing does yet.
    fn advance(&mut self) -> io::Result<bool> {
        if self.is_current()? {
            return Ok(false);
        }
        if self.restart_truncated()? {
            return Ok(true);
        }
        let Some(next) = self.successor()? else { return Ok(false) };
        // what was written between the last read and the rotation
        if self.read()? > 0 {
            return Ok(true);
        }
        if !self.pending.is_empty() {
            self.losses.torn += 1;
            self.pending.clear();
        }
        (self.generation, self.at_end) = (Some(next), false);
        Ok(true)
    }

    /// Most often nothing has happened, and one look tells it: this file still has the current name, and wasn't emptied.
    fn is_current(&self) -> io::Result<bool> {
        let Some(held) = &self.generation else { return Ok(false) };
        let found = if_there(fs::metadata(&self.path))?;
        Ok(found.is_some_and(|found| FileId::from(&found) == held.id && found.len() >= held.read))
    }

    /// With `max-file` 1 Docker empties the file in place, and with it what may not have been read.
    fn restart_truncated(&mut self) -> io::Result<bool> {
        let Some(generation) = &mut self.generation else { return Ok(false) };
        if generation.file.metadata()?.len() >= generation.read {
            return Ok(false);
        }
        generation.file.seek(SeekFrom::Start(0))?;
        (generation.read, generation.fingerprint) = (0, None);
        self.pending.clear();
        (self.whole, self.at_end) = (0, false);
        self.count_gap();
        Ok(true)
    }

    /// The generation after the one held; None while that one is the current one.
    fn successor(&mut self) -> io::Result<Option<Generation>> {
        let Some(held) = self.generation.as_ref().map(|generation| generation.id) else { return Ok(None) };
        for _ in 0..ATTEMPTS {
            let Some(place) = self.place_of(held)? else { return self.oldest_after_a_gap() };
            let Some(before) = place.checked_sub(1) else { return Ok(None) };
            let next = open(&self.name(before))?;
            // Docker renames the oldest first: if ours hasn't moved, its neighbour hadn't when it was opened
            if identity(&self.name(place))? == Some(held) {
                return Ok(next);
            }
        }
        Ok(None)
    }

    /// Where to begin: at the mark, else at the oldest generation. None while there is no file.
    fn locate(&mut self) -> io::Result<Option<Generation>> {
        let Some(mark) = &self.mark else { return self.oldest() };
        for name in self.names() {
            let Some(mut generation) = open(&name?.0)? else { continue };
            if generation.id == mark.file && generation.fingerprint.as_ref() == Some(&mark.fingerprint) {
                generation.read = mark.offset;
                generation.file.seek(SeekFrom::Start(mark.offset))?;
                return Ok(Some(generation));
            }
        }
        self.oldest_after_a_gap()
    }

    /// Docker has rotated past what was read last.
    fn oldest_after_a_gap(&mut self) -> io::Result<Option<Generation>> {
        let oldest = self.oldest()?;
        self.losses.gaps += u64::from(oldest.is_some());
        Ok(oldest)
    }

    /// The generation that nothing precedes.
    fn oldest(&self) -> io::Result<Option<Generation>> {
        let mut oldest = None;
        for name in self.names() {
            oldest = open(&name?.0)?.or(oldest);
        }
        Ok(oldest)
    }

    /// Which number's name a file has: 0 for the current generation.
    fn place_of(&self, id: FileId) -> io::Result<Option<usize>> {
        for (place, name) in self.names().enumerate() {
            if name?.1 == Some(id) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// The names of all generations, and what was there, newest first: in this order a rotation can only bring the same file twice, never hide one.
    /// One name may be missing while a rotation is under way; two in a row end the list.
    fn names(&self) -> impl Iterator<Item = io::Result<(PathBuf, Option<FileId>)>> {
        let mut missing = 0;
        (0..).map_while(move |number| {
            let name = self.name(number);
            let id = match identity(&name) {
                Ok(id) => id,
                Err(error) => return Some(Err(error)),
            };
            missing = if id.is_some() { 0 } else { missing + 1 };
            (missing < 2).then_some(Ok((name, id)))
        })
    }

    fn name(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone();
        if number > 0 {
            name.as_mut_os_string().push(format!(".{number}"));
        }
        name
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// None when there is no such file.
fn if_there<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn identity(name: &Path) -> io::Result<Option<FileId>> {
    Ok(if_there(fs::metadata(name))?.map(|metadata| FileId::from(&metadata)))
}

fn open(name: &Path) -> io::Result<Option<Generation>> {
    let Some(file) = if_there(File::open(name))? else { return Ok(None) };
    let id = FileId::from(&file.metadata()?);
    let fingerprint = fingerprint(&file)?;
    Ok(Some(Generation { file, id, fingerprint, read: 0 }))
}

/// Of the first line; None while it isn't whole.
fn fingerprint(file: &File) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = file.read_at(&mut piece, length(&line))?;
        if let Some(end) = piece[..count].iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&piece[..end]);
            break;
        }
        line.extend_from_slice(&piece[..count]);
        if length(&line) >= FINGERPRINT_LIMIT {
            break;
        }
        if count == 0 {
            return Ok(None);
        }
    }
    Ok(Some(Sha256::digest(&line).iter().take(16).map(|byte| format!("{byte:02x}")).collect()))
}
