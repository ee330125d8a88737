//! Sizes as Docker's options have them (`16m`, `4MiB`, `65536`): powers of 1024 whatever the unit is called. Pure.

/// Reads a size in bytes; fractions and negative ones are refused.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size such as 16m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        let cases = [("0", 0), ("65536", 65_536), ("100b", 100), ("64k", 65_536), ("16m", 16 << 20), ("4MiB", 4 << 20)];
        for (text, bytes) in cases.into_iter().chain([("1GB", 1 << 30), ("2gib", 2 << 30), ("3Kb", 3 << 10)]) {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "m", "-1", "1.5m", "16 m", "1t", "m16", "99999999999999999999", "18446744073709551615k"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
