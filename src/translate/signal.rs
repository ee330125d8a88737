//! Stop signals: CRI's enumeration and Docker's text (`SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`). Pure.

use crate::cri::Signal;
use crate::error::{Error, Result};

/// Docker's text for a requested stop signal; None for the image's own.
pub(super) fn to_docker(signal: i32) -> Result<Option<String>> {
    let unknown = |_| Error::invalid("config.stop_signal", format!("{signal} is unknown"));
    let signal = Signal::try_from(signal).map_err(unknown)?;
    if signal == Signal::RuntimeDefault {
        return Ok(None);
    }
    Ok(Some(signal.as_str_name().replace("PLUS", "+").replace("MINUS", "-")))
}

/// The signal that a text of Docker's stands for; SIGTERM for none, as Docker's `stop` takes it.
pub(super) fn from_docker(text: &str) -> Signal {
    if text.is_empty() {
        return Signal::Sigterm;
    }
    if let Ok(number) = text.parse::<i32>() {
        return numbered(number);
    }
    let upper = text.to_ascii_uppercase().replace('+', "PLUS").replace('-', "MINUS");
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    Signal::from_str_name(&name).unwrap_or(Signal::RuntimeDefault)
}

/// By its number on Linux (x86 and arm agree).
fn numbered(number: i32) -> Signal {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    let name = match number {
        1..=31 => usize::try_from(number - 1).ok().and_then(|index| NAMES.get(index)).map(|name| format!("SIG{name}")),
        34 => Some("SIGRTMIN".to_owned()),
        35..=49 => Some(format!("SIGRTMINPLUS{}", number - 34)),
        50..=63 => Some(format!("SIGRTMAXMINUS{}", 64 - number)),
        64 => Some("SIGRTMAX".to_owned()),
        _ => None,
    };
    name.and_then(|name| Signal::from_str_name(&name)).unwrap_or(Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_reads_back() {
        for number in 1..=65 {
            let signal = Signal::try_from(number).unwrap();
            assert_eq!(from_docker(&to_docker(number).unwrap().unwrap()), signal);
        }
        assert_eq!(to_docker(0).unwrap(), None);
        assert!(to_docker(66).is_err());
    }

    #[test]
    fn dockers_other_forms_are_read() {
        for (text, signal) in [
            ("", Signal::Sigterm),
            ("15", Signal::Sigterm),
            ("quit", Signal::Sigquit),
            ("SIGRTMIN+3", Signal::Sigrtminplus3),
            ("37", Signal::Sigrtminplus3),
            ("64", Signal::Sigrtmax),
            ("nonsense", Signal::RuntimeDefault),
            ("-1", Signal::RuntimeDefault),
        ] {
            assert_eq!(from_docker(text), signal, "{text}");
        }
    }
}
