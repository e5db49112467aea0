//! Limits as written by users: a size such as `500MiB`, or a duration such as `90m`.

use std::time::Duration;

use nightferry_core::units::{parse_duration, parse_size};

/// A number of bytes, or a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    Bytes(u64),
    Time(Duration),
}

/// Size in bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    parse_size(text)
        .map(|size| size.0)
        .map_err(|wrong| format!("it {wrong}; write a size such as 500MiB (binary) or 500MB (decimal)"))
}

/// Parses a size or a duration, depending on the unit.
pub(crate) fn either(text: &str) -> Result<Amount, String> {
    if let Ok(size) = parse_size(text) {
        return Ok(Amount::Bytes(size.0));
    }
    // In durations, `M` means month, which is not useful here.
    let duration = if text.contains('M') { None } else { parse_duration(text).ok() };
    duration
        .filter(|duration| !duration.is_zero())
        .map(Amount::Time)
        .ok_or_else(|| "write a size such as 500MiB or 500MB, or a duration such as 90m or 8h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_distinguished_by_their_units() {
        assert_eq!(size("20MiB"), Ok(20 << 20));
        assert_eq!(size("20MB"), Ok(20_000_000));
        assert_eq!(either("500MB"), Ok(Amount::Bytes(500_000_000)));
        assert_eq!(either("90m"), Ok(Amount::Time(Duration::from_secs(5_400))));
        assert_eq!(either("1h 30m"), Ok(Amount::Time(Duration::from_secs(5_400))));
        assert_eq!(either("2d"), Ok(Amount::Time(Duration::from_secs(172_800))));
        for wrong in ["", "20", "MiB", "-1GB", "1.5GB", "0B", "0s", "500M", "5 parsecs", "99999999999999TB"] {
            assert!(size(wrong).is_err(), "{wrong}");
            assert!(either(wrong).is_err(), "{wrong}");
        }
    }
}
