//! The files of one cgroup that are more than a number or `key value` lines: pressure and block devices, read from text.
//! Pure, as `parse.rs` is.

use super::parse::number;
use super::usage::{DeviceIo, Pressure, Stall};

/// Reads a pressure file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`. What isn't in it is None.
pub fn pressure(text: &str) -> Pressure {
    let line = |name: &str| text.lines().find_map(|line| stall(line.strip_prefix(name)?.strip_prefix(' ')?));
    Pressure { some: line("some"), full: line("full") }
}

fn stall(line: &str) -> Option<Stall> {
    let share = |key: &str| field(line, key)?.parse().ok().filter(|share: &f64| share.is_finite());
    Some(Stall {
        total_us: number(field(line, "total")?)?,
        avg10: share("avg10")?,
        avg60: share("avg60")?,
        avg300: share("avg300")?,
    })
}

/// One `key=value` of a line.
fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_ascii_whitespace().find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
}

/// Reads v2's `io.stat`: `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`. A device that has done nothing stands there
/// without figures, and is left out.
pub fn io_stat(text: &str) -> Vec<DeviceIo> {
    let device = |line: &str| {
        let (device, figures) = line.split_once(' ')?;
        let (major, minor) = numbers(device)?;
        let figure = |key: &str| number(field(figures, key)?);
        Some(DeviceIo {
            major,
            minor,
            read_bytes: figure("rbytes")?,
            write_bytes: figure("wbytes")?,
            reads: figure("rios")?,
            writes: figure("wios")?,
        })
    };
    text.lines().filter_map(device).collect()
}

/// Reads v1's two files of `8:0 Read 4096` lines, which tell bytes and requests.
pub fn blkio(bytes: &str, requests: &str) -> Vec<DeviceIo> {
    let mut all: Vec<DeviceIo> = Vec::new();
    let lines = bytes.lines().map(|line| (line, true)).chain(requests.lines().map(|line| (line, false)));
    for (line, is_bytes) in lines {
        let mut fields = line.split_ascii_whitespace();
        let (Some(device), Some(operation), Some(value)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (Some((major, minor)), Some(value)) = (numbers(device), number(value)) else { continue };
        let at = all.iter().position(|known| (known.major, known.minor) == (major, minor)).unwrap_or_else(|| {
            all.push(DeviceIo { major, minor, ..DeviceIo::default() });
            all.len() - 1
        });
        let known = &mut all[at];
        match (operation, is_bytes) {
            ("Read", true) => known.read_bytes = value,
            ("Write", true) => known.write_bytes = value,
            ("Read", false) => known.reads = value,
            ("Write", false) => known.writes = value,
            _ => {}
        }
    }
    all
}

/// `8:0`.
fn numbers(device: &str) -> Option<(u32, u32)> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pressure_is_read_line_by_line() {
        let text =
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=123456\nfull avg10=0.00 avg60=0.00 avg300=100.00 total=7\n";
        let read = pressure(text);
        assert_eq!(read.some, Some(Stall { total_us: 123_456, avg10: 1.5, avg60: 0.25, avg300: 0.0 }));
        assert_eq!(read.full.unwrap().avg300, 100.0);
    }

    #[test]
    fn older_kernels_tell_only_some_of_cpu_and_garbage_tells_nothing() {
        let read = pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n");
        assert!(read.some.is_some() && read.full.is_none());
        for text in ["", "some\n", "some avg10=x avg60=0 avg300=0 total=1", "some avg10=NaN avg60=0 avg300=0 total=1"] {
            assert_eq!(pressure(text), Pressure::default(), "{text:?}");
        }
        let largest = pressure("full avg10=0 avg60=0 avg300=0 total=18446744073709551615");
        assert_eq!(largest.full.unwrap().total_us, u64::MAX);
    }

    #[test]
    fn v2_devices_without_figures_are_left_out() {
        let text =
            "254:0 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n7:3 \n8:16\nx:0 rbytes=1\n";
        let read = io_stat(text);
        let wanted =
            DeviceIo { major: 254, minor: 0, read_bytes: 1_459_200, write_bytes: 314_773_504, reads: 192, writes: 353 };
        assert_eq!(read, [wanted]);
    }

    #[test]
    fn v1_files_are_joined_by_device() {
        let bytes = "254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 1\n254:0 Total 12288\n7:0 Read 1\nTotal 12289\n";
        let requests = "254:0 Read 1\n254:0 Write 2\n254:0 Discard 9\nTotal 3\n8:0 Write x\n";
        let wanted = [
            DeviceIo { major: 254, minor: 0, read_bytes: 4096, write_bytes: 8192, reads: 1, writes: 2 },
            DeviceIo { major: 7, minor: 0, read_bytes: 1, ..DeviceIo::default() },
        ];
        assert_eq!(blkio(bytes, requests), wanted);
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_percent_is_a_number(text in "(?s)((some|full|8:0|254:1) )?.{0,120}", other in "(?s).{0,80}") {
            let read = pressure(&text);
            prop_assert!(read.some.is_none_or(|stall| stall.avg10.is_finite()));
            io_stat(&text);
            prop_assert!(blkio(&text, &other).len() <= text.lines().count() + other.lines().count());
        }
    }
}
