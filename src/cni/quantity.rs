//! Quantities as Kubernetes writes them in annotations (`10M`, `1.5Gi`, `2e6`). Pure.

/// Longest text taken: more digits than any bandwidth has, and no arithmetic below overflows.
const LONGEST: usize = 20;
/// Powers of ten that still fit with [`LONGEST`] digits beside them.
const POWERS: std::ops::RangeInclusive<i32> = -28..=18;

/// The quantity as a whole number, rounded up; None for what is no quantity, or negative, or far too large.
pub(super) fn parse(text: &str) -> Option<u128> {
    if text.len() > LONGEST {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (binary, power) = scale(suffix)?;
    let power = power.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    if !POWERS.contains(&power) {
        return None;
    }
    let scaled = digits.checked_mul(1 << binary)?;
    let tens = 10_u128.checked_pow(power.unsigned_abs())?;
    if power < 0 { Some(scaled.div_ceil(tens)) } else { scaled.checked_mul(tens) }
}

/// A suffix as a power of two and a power of ten.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => (0, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let cases = [
            ("0", 0),
            ("10M", 10_000_000),
            ("+1k", 1000),
            ("1Ki", 1024),
            ("1.5Gi", 3 << 29),
            (".5k", 500),
            ("5.k", 5000),
            ("2e6", 2_000_000),
            ("2E6", 2_000_000),
            ("15e-1", 2),
            ("1P", 1_000_000_000_000_000),
            ("1E", 1_000_000_000_000_000_000),
            ("1500m", 2),
            ("1n", 1),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in
            ["", "-1M", "M", ".", "1.2.3", "10Mb", "10 M", " 10M", "1K", "ten", "1e", "1e99", "1e-99", "1e99999999999"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_quantity_or_refused(text in "[0-9.+eEkKMi-]{0,24}|.{0,24}") {
            let _ = parse(&text);
        }

        #[test]
        fn whole_numbers_are_themselves(n: u64) {
            prop_assert_eq!(parse(&n.to_string()), Some(u128::from(n)));
        }
    }
}
