//! The CRI log file being written, and the comparing of what it holds already.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::error::Error;
use super::path::LogPath;
use super::position::{FileId, Position, Written};

/// An open log file.
pub(super) struct Output {
    file: File,
    id: FileId,
}

/// The part of a log file that was written after the last saved position. It holds what the spool's next lines convert to, the
/// last one possibly torn; so these lines are compared with it instead of being written again.
pub(super) struct Replay {
    file: File,
    /// Compared up to here.
    at: u64,
    end: u64,
    /// It ended with lines that docker's file doesn't have, and the next line isn't among them.
    lost_touch: bool,
}

impl Output {
    /// Opens the file, made when it isn't there.
    pub(super) fn open(path: &LogPath) -> Result<Self, Error> {
        let file = path.open()?;
        let metadata = file.metadata().map_err(|source| Error::Open { path: path.as_joined(), source })?;
        Ok(Output { id: FileId::from(&metadata), file })
    }

    /// Appends whole lines. Also when it fails it says how many bytes are in the file, which then ends with a whole line.
    pub(super) fn append(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        let (mut done, mut outcome) = (0, Ok(()));
        while done < lines.len() && outcome.is_ok() {
            match self.file.write(&lines[done..]) {
                Ok(0) => outcome = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => outcome = Err(error),
            }
        }
        let whole = end_of_lines(&lines[..done]);
        // if the torn line can't be cut it stays, and goes on where it was torn
        let cut = whole < done && cut_end(&self.file, done - whole).is_ok();
        (if cut { whole } else { done }, outcome)
    }

    /// What the file is and how long.
    pub(super) fn written(&self) -> io::Result<Written> {
        Ok(Written { file: self.id, length: self.file.metadata()?.len() })
    }

    /// Waits until the file's content is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// What was written after a position was saved, from the files that it names; one that isn't there any more is dropped from
    /// it (the kubelet renames the older file back over it when ReopenContainerLog fails).
    /// None when one is shorter than it was: a power loss has taken its end, and the position says nothing.
    pub(super) fn since(&self, position: &mut Position, path: &LogPath) -> Result<Option<Vec<Replay>>, Error> {
        let mut replays = Vec::new();
        let mut there: Vec<Written> = Vec::new();
        for written in std::mem::take(&mut position.outputs) {
            if there.iter().any(|earlier| earlier.file == written.file) {
                continue;
            }
            let file =
                if written.file == self.id { self.duplicate(path).map(Some) } else { path.find_beside(written.file) };
            let Some(file) = file? else { continue };
            match Replay::new(file, written.length).map_err(|source| Error::Open { path: path.as_joined(), source })? {
                Some(replay) => replays.push(replay),
                None => return Ok(None),
            }
            there.push(written);
        }
        position.outputs = there;
        Ok(Some(replays))
    }

    /// The position before the oldest line, for when nothing is known; what the file holds may be these lines.
    pub(super) fn start_over(&self, path: &LogPath) -> Result<(Position, Vec<Replay>), Error> {
        let mut position = Position { spool: None, outputs: vec![Written { file: self.id, length: 0 }] };
        let replays = self.since(&mut position, path)?.unwrap_or_default();
        Ok((position, replays))
    }

    fn duplicate(&self, path: &LogPath) -> Result<File, Error> {
        self.file.try_clone().map_err(|source| Error::Open { path: path.as_joined(), source })
    }
}

impl Replay {
    /// What a file holds from an offset on; None when it ends before.
    fn new(file: File, from: u64) -> io::Result<Option<Self>> {
        let end = file.metadata()?.len();
        Ok((from <= end).then_some(Replay { file, at: from, end, lost_touch: false }))
    }

    /// Takes whole lines that are to be in the file; says how many bytes of them are. Fewer than all: it holds no more of them, and
    /// ends with a whole line, or the next one is further on in it.
    pub(super) fn take(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.end = self.end.min(self.file.metadata()?.len());
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let mut held = vec![0; left.min(lines.len())];
        self.file.read_exact_at(&mut held, self.at)?;
        let equal = held.iter().zip(lines).take_while(|(held, line)| held == line).count();
        self.at += u64::try_from(equal).unwrap_or(u64::MAX);
        if equal == lines.len() {
            return Ok(equal);
        }
        let whole = end_of_lines(&lines[..equal]);
        if equal < held.len() {
            self.at -= u64::try_from(equal - whole).unwrap_or_default();
            let next = lines[whole..].split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
            self.pass_over_foreign(next)?;
            return Ok(whole);
        }
        if whole < equal {
            cut_end(&self.file, equal - whole)?;
        }
        self.at = self.end;
        Ok(whole)
    }

    /// The file holds something else than we would have written, as when Docker has removed lines that were read before. It
    /// stays, and the comparing goes on at the line that comes next; when that isn't there, behind all, which is then a line.
    fn pass_over_foreign(&mut self, next: &[u8]) -> io::Result<()> {
        tracing::warn!(offset = self.at, "the log holds lines that docker's file doesn't; they are kept");
        let mut held = BufReader::new(&self.file);
        held.seek(SeekFrom::Start(self.at))?;
        let mut line = Vec::new();
        while self.at < self.end && held.read_until(b'\n', &mut line)? > 0 {
            if line == next {
                return Ok(());
            }
            self.at += u64::try_from(line.len()).unwrap_or_default();
            match line.ends_with(b"\n") {
                true => line.clear(),
                false if next.starts_with(&line) => return cut_end(&self.file, line.len()),
                false => {
                    self.lost_touch = true;
                    return (&self.file).write_all(b"\n");
                }
            }
        }
        (self.at, self.lost_touch) = (self.end, true);
        Ok(())
    }

    /// Whether lines may be missing between what the file holds and what comes next.
    pub(super) fn has_lost_touch(&self) -> bool {
        self.lost_touch
    }

    /// Everything has been compared.
    pub(super) fn is_done(&self) -> bool {
        self.at >= self.end
    }
}

/// Where the last whole line ends.
fn end_of_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

fn cut_end(file: &File, count: usize) -> io::Result<()> {
    let length = file.metadata()?.len();
    file.set_len(length.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::log::tests::Temp;

    fn log(temp: &Temp) -> LogPath {
        LogPath::new(temp.path().to_str().unwrap(), "0.log").unwrap()
    }

    fn content(temp: &Temp) -> String {
        fs::read_to_string(temp.path().join("0.log")).unwrap()
    }

    /// What happens after a crash: batches are compared with what the file holds, and what it doesn't is written. Nothing but a torn
    /// last line may be cut: a shipper has read the others.
    fn resume(temp: &Temp, from: u64, batches: &[&str]) {
        let path = log(temp);
        let whole = end_of_lines(content(temp).as_bytes());
        let mut output = Output::open(&path).unwrap();
        let mut replay = Replay::new(path.open().unwrap(), from).unwrap().unwrap();
        for batch in batches {
            let mut taken = 0;
            while !replay.is_done() && taken < batch.len() {
                taken += replay.take(&batch.as_bytes()[taken..]).unwrap();
                assert!(content(temp).len() >= whole, "a whole line has been cut");
            }
            assert_eq!(output.append(&batch.as_bytes()[taken..]).1.map_err(|error| error.to_string()), Ok(()));
        }
    }

    #[test]
    fn a_torn_last_line_is_cut_and_written_again() {
        let temp = Temp::new();
        fs::write(temp.path().join("0.log"), "one\ntwo\nthr").unwrap();
        resume(&temp, 4, &["two\nthree\n", "four\n"]);
        assert_eq!(content(&temp), "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn foreign_lines_are_kept_and_ended() {
        let temp = Temp::new();
        fs::write(temp.path().join("0.log"), "one\nother").unwrap();
        resume(&temp, 0, &["one\ntwo\n"]);
        assert_eq!(content(&temp), "one\nother\ntwo\n");
    }

    #[test]
    fn after_lines_that_docker_no_longer_has_the_rest_is_compared() {
        let temp = Temp::new();
        fs::write(temp.path().join("0.log"), "one\ntwo\nthree\nfour\nfi").unwrap();
        resume(&temp, 0, &["three\nfour\n", "five\n"]);
        assert_eq!(content(&temp), "one\ntwo\nthree\nfour\nfive\n");
        resume(&temp, 0, &["two\nfour\n", "five\nsix\n"]);
        assert_eq!(content(&temp), "one\ntwo\nthree\nfour\nfive\nsix\n");
        fs::write(temp.path().join("0.log"), "one\ntwo\nthr").unwrap();
        resume(&temp, 0, &["three\n"]);
        assert_eq!(content(&temp), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_file_shorter_than_its_position_is_known() {
        let temp = Temp::new();
        fs::write(temp.path().join("0.log"), "one\n").unwrap();
        let replay = |from| Replay::new(log(&temp).open().unwrap(), from).unwrap();
        assert!(replay(5).is_none());
        assert!(replay(4).unwrap().is_done());
    }

    #[test]
    fn a_full_disk_leaves_whole_lines() {
        // a device that takes nothing stands for a disk that takes no more
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut output = Output { file: full, id: FileId { device: 0, inode: 0 } };
        let (done, outcome) = output.append(b"one\n");
        assert_eq!((done, outcome.unwrap_err().kind()), (0, io::ErrorKind::StorageFull));
        assert!(output.append(b"").1.is_ok());
    }

    proptest! {
        #[test]
        fn a_crash_at_any_byte_leaves_every_line_once(
            lines in prop::collection::vec("[ab]{0,3}\n", 1..12), crash in any::<prop::sample::Index>(),
            saved in any::<prop::sample::Index>(), size in 1_usize..5,
        ) {
            let whole = lines.concat();
            let crash = crash.index(whole.len() + 1);
            let written_lines = whole[..crash].matches('\n').count();
            let saved = saved.index(written_lines + 1);
            let from = lines[..saved].concat().len();
            let temp = Temp::new();
            fs::write(temp.path().join("0.log"), &whole[..crash]).unwrap();
            let batches: Vec<String> = lines[saved..].chunks(size).map(<[String]>::concat).collect();
            resume(&temp, from.try_into().unwrap(), &batches.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(content(&temp), whole);
        }
    }
}
