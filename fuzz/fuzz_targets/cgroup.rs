//! What the kernel writes about cgroups and processes, as any text: no panic, and nothing that the text doesn't have.
#![no_main]

use dockershim::cgroup::{figures, parse};
use dockershim::process;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().count();
    let pressure = figures::pressure(&text);
    for stall in [pressure.some, pressure.full].into_iter().flatten() {
        assert!(stall.avg10.is_finite() && stall.avg60.is_finite() && stall.avg300.is_finite());
    }
    assert!(figures::io_stat(&text).len() <= lines);
    let (one, other) = text.split_once('\0').unwrap_or((&text, ""));
    assert!(figures::blkio(one, other).len() <= lines + 1);
    for line in parse::memberships(one) {
        assert!(line.path.starts_with(line.container_path()));
    }
    for mount in parse::mounts(one) {
        mount.directory(other);
    }
    parse::number(&text);
    parse::value(one, other);
    assert!(process::interfaces_of(&text).iter().all(|interface| interface.name != "lo"));
    process::upper_of(&text);
});
