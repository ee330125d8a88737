//! The container's line in its CRI log file: `2026-01-02T03:04:05.678901234Z stdout F text`. Pure.

/// Whether a log file's content is one whole line of standard output that says `text`; if not, what is wrong with it.
pub(super) fn expect(content: &str, text: &str) -> Result<(), String> {
    let line = content.strip_suffix('\n').ok_or_else(|| format!("the log's last line is not whole: {content:?}"))?;
    let parts: Vec<&str> = line.splitn(4, ' ').collect();
    match parts[..] {
        [time, "stdout", "F", said] if said == text && time.contains('T') => Ok(()),
        _ => Err(format!("the log has {line:?} instead of a line of standard output that says {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_itself_will_do() {
        assert_eq!(expect("2026-01-02T03:04:05.678901234Z stdout F hello from x\n", "hello from x"), Ok(()));
        let wrong = [
            "",
            "2026-01-02T03:04:05Z stdout F hello from x",
            "2026-01-02T03:04:05Z stderr F hello from x\n",
            "2026-01-02T03:04:05Z stdout P hello from x\n",
            "2026-01-02T03:04:05Z stdout F hello\n",
            "hello from x\n",
            "{\"log\":\"hello from x\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n",
            "2026-01-02T03:04:05Z stdout F hello from x\n2026-01-02T03:04:05Z stdout F hello from x\n",
        ];
        for content in wrong {
            assert!(expect(content, "hello from x").is_err(), "{content:?}");
        }
    }
}
