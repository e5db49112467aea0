//! Amounts as people type them: `500MiB`, `2TiB`, `90m`, `8h`. Sizes are counted in binary units whatever they are called.

use std::time::Duration;

/// So many bytes, or so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    Bytes(u64),
    Time(Duration),
}

/// Bytes: a whole number and one of B, K, M, G, T, also as KB or KiB.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "write it as a size such as 500MiB or 2GiB".to_owned();
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let power = match unit {
        "B" => 0,
        "K" | "KB" | "KiB" => 1,
        "M" | "MB" | "MiB" => 2,
        "G" | "GB" | "GiB" => 3,
        "T" | "TB" | "TiB" => 4,
        _ => return Err(wrong()),
    };
    let bytes = 1024_u64.pow(power).checked_mul(number).ok_or_else(wrong)?;
    if bytes == 0 { Err("it must be more than nothing".to_owned()) } else { Ok(bytes) }
}

/// A size, or a length of time: a whole number and one of s, m, h, d.
pub(crate) fn either(text: &str) -> Result<Amount, String> {
    let wrong = || "write it as a size such as 500MiB, or a time such as 90m or 8h".to_owned();
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return size(text).map(Amount::Bytes).map_err(|_| wrong()),
    };
    let time = number.checked_mul(seconds).ok_or_else(wrong)?;
    if time == 0 {
        Err("it must be more than nothing".to_owned())
    } else {
        Ok(Amount::Time(Duration::from_secs(time)))
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    Some((number.parse().ok()?, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_told_apart_by_their_units() {
        assert_eq!(size("20MiB"), Ok(20 * 1024 * 1024));
        assert_eq!(size("2 GB"), Ok(2 * 1024 * 1024 * 1024));
        assert_eq!(either("500M"), Ok(Amount::Bytes(500 * 1024 * 1024)));
        assert_eq!(either("90m"), Ok(Amount::Time(Duration::from_secs(5_400))));
        assert_eq!(either("2d"), Ok(Amount::Time(Duration::from_secs(172_800))));
        for wrong in ["", "20", "MiB", "-1G", "1.5G", "0B", "0s", "5 parsecs", "99999999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
            assert!(either(wrong).is_err(), "{wrong}");
        }
    }
}
