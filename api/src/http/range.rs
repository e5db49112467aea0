//! The byte range requested by a `Range` header (RFC 9110 section 14).

use std::ops::RangeInclusive;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything: there is no range, or it is ignored.
    Whole,
    /// These bytes, inclusive.
    Part(RangeInclusive<u64>),
    /// The range is not satisfiable.
    Unsatisfiable,
}

/// Parses a `Range` header for a file of `size` bytes. Other units, malformed ranges and multiple ranges are ignored,
/// as section 14.2 allows.
pub(crate) fn wanted(header: &str, size: u64) -> Wanted {
    let Some((unit, ranges)) = header.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = ranges.trim().split_once('-') else { return Wanted::Whole };
    match (first, last) {
        ("", "") => Wanted::Whole,
        ("", suffix) => match number(suffix) {
            None => Wanted::Whole,
            Some(0) => Wanted::Unsatisfiable,
            Some(_) if size == 0 => Wanted::Whole,
            Some(length) => Wanted::Part(size.saturating_sub(length)..=size.saturating_sub(1)),
        },
        (first, last) => {
            let Some(first) = number(first) else { return Wanted::Whole };
            let last = match last {
                "" => u64::MAX,
                last => match number(last) {
                    Some(last) if last >= first => last,
                    _ => return Wanted::Whole,
                },
            };
            if first >= size {
                return Wanted::Unsatisfiable;
            }
            Wanted::Part(first..=last.min(size.saturating_sub(1)))
        }
    }
}

/// `1*DIGIT`; numbers that are too large are clamped.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_ranges_are_limited_to_the_file() {
        assert_eq!(wanted("bytes=0-0", 10), Wanted::Part(0..=0));
        assert_eq!(wanted("bytes=2-5", 10), Wanted::Part(2..=5));
        assert_eq!(wanted("bytes=2-", 10), Wanted::Part(2..=9));
        assert_eq!(wanted("bytes=2-99", 10), Wanted::Part(2..=9));
        assert_eq!(wanted("bytes=9-99999999999999999999999", 10), Wanted::Part(9..=9));
        assert_eq!(wanted("Bytes=9-9", 10), Wanted::Part(9..=9));
    }

    #[test]
    fn suffixes_count_from_the_end() {
        assert_eq!(wanted("bytes=-1", 10), Wanted::Part(9..=9));
        assert_eq!(wanted("bytes=-10", 10), Wanted::Part(0..=9));
        assert_eq!(wanted("bytes=-99", 10), Wanted::Part(0..=9));
        assert_eq!(wanted("bytes=-0", 10), Wanted::Unsatisfiable);
    }

    #[test]
    fn ranges_outside_of_the_file_cannot_be_satisfied() {
        assert_eq!(wanted("bytes=10-", 10), Wanted::Unsatisfiable);
        assert_eq!(wanted("bytes=10-20", 10), Wanted::Unsatisfiable);
        assert_eq!(wanted("bytes=99999999999999999999999-", 10), Wanted::Unsatisfiable);
        assert_eq!(wanted("bytes=0-", 0), Wanted::Unsatisfiable);
        assert_eq!(wanted("bytes=-5", 0), Wanted::Whole);
    }

    #[test]
    fn malformed_and_multiple_ranges_are_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=1-b",
            "bytes=+1-2",
            "bytes=1 - 2",
            "bytes=--1",
            "items=0-1",
            "bytes=0-1,3-4",
            "bytes=0-1,",
            "bytes=0x1-2",
            "0-1",
        ] {
            assert_eq!(wanted(header, 10), Wanted::Whole, "{header:?}");
        }
    }
}
