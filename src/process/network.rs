//! The network interfaces that a process sees: `/proc/<pid>/net/dev` shows those of its namespace to everyone.

use super::{Error, read};

/// What went through one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// `eth0`.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Of them, damaged.
    pub rx_errors: u64,
    /// Of them, dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets that were dropped before they were sent.
    pub tx_dropped: u64,
}

/// Reads all interfaces but the loopback, in the kernel's order.
pub fn interfaces(pid: i32) -> Result<Vec<Interface>, Error> {
    Ok(interfaces_of(&read(pid, "net/dev")?))
}

/// Reads them from the file's text. Lines of another form, as the two of the heading, are passed over.
pub fn interfaces_of(text: &str) -> Vec<Interface> {
    text.lines().filter_map(interface).filter(|interface| interface.name != "lo").collect()
}

/// `eth0: ` and eight figures of what was received, then eight of what was sent (`net/core/net-procfs.c`).
fn interface(line: &str) -> Option<Interface> {
    let (name, figures) = line.rsplit_once(": ").or_else(|| line.rsplit_once(':'))?;
    let figures: Option<Vec<u64>> = figures.split_ascii_whitespace().map(|figure| figure.parse().ok()).collect();
    let figures = figures?;
    let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
        figures[..]
    else {
        return None;
    };
    let name = name.trim_ascii().to_owned();
    Some(Interface { name, rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = concat!(
        "Inter-|   Receive                                                |  Transmit\n",
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n",
        "    lo:     840      10    0    0    0     0          0         0      840      10    0    0    0     0       0          0\n",
        "  eth0: 10485760    7301    1    2    0     0          0         3      944      12    4    5    0     0       0          0\n",
        "a:b:  1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
    );

    #[test]
    fn all_interfaces_but_the_loopback_are_read() {
        let all = interfaces_of(TEXT);
        let wanted = Interface {
            name: "eth0".to_owned(),
            rx_bytes: 10_485_760,
            rx_packets: 7301,
            rx_errors: 1,
            rx_dropped: 2,
            tx_bytes: 944,
            tx_packets: 12,
            tx_errors: 4,
            tx_dropped: 5,
        };
        assert_eq!(all[0], wanted);
        assert_eq!((all.len(), all[1].name.as_str(), all[1].tx_bytes), (2, "a:b", 9));
    }

    /// Of a container on Docker's bridge that has fetched 1 MiB over HTTP.
    #[test]
    fn what_a_kernel_has_shown_is_read() {
        let all = interfaces_of(include_str!("../../tests/fixtures/docker-26.1-cgroup-v2/net-dev"));
        let wanted = Interface {
            name: "eth0".to_owned(),
            rx_bytes: 1_053_149,
            rx_packets: 62,
            tx_bytes: 3210,
            tx_packets: 48,
            ..Interface::default()
        };
        assert_eq!(all, [wanted]);
        assert!(all[0].rx_bytes.abs_diff(1 << 20) <= (1 << 20) / 100);
    }

    #[test]
    fn a_figure_too_large_or_too_few_of_them_leave_the_line_out() {
        for line in ["eth0: 1 2 3", "eth0:", "", "eth0: 18446744073709551616 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"] {
            assert_eq!(interfaces_of(line), [], "{line}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "(?s).{0,200}") {
            prop_assert!(interfaces_of(&text).len() <= text.lines().count());
        }
    }
}
