//! Conditional requests (RFC 9110 section 13).

use std::time::{Duration, SystemTime};

use actix_web::http::header::{self, HeaderMap, HeaderName, HttpDate};

/// The result of evaluating the conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Proceed; `ranges` is whether a `Range` header applies.
    Proceed {
        /// Whether the client's partial content, if any, is from this version of the file.
        ranges: bool,
    },
    /// The client already has the content: 304.
    NotModified,
    /// A precondition failed: 412.
    Failed,
}

/// Evaluates the conditions of a GET or HEAD in the order of section 13.2.2. `etag` is strong, with quotes.
pub(crate) fn evaluate(headers: &HeaderMap, etag: &str, modified: SystemTime) -> Verdict {
    let modified = whole_seconds(modified);
    if headers.contains_key(header::IF_MATCH) {
        if !any_tag(headers, header::IF_MATCH, |tag| tag == etag) {
            return Verdict::Failed;
        }
    } else if date(headers, header::IF_UNMODIFIED_SINCE).is_some_and(|since| modified > since) {
        return Verdict::Failed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if any_tag(headers, header::IF_NONE_MATCH, |tag| tag.strip_prefix("W/").unwrap_or(tag) == etag) {
            return Verdict::NotModified;
        }
    } else if date(headers, header::IF_MODIFIED_SINCE).is_some_and(|since| modified <= since) {
        return Verdict::NotModified;
    }
    Verdict::Proceed { ranges: range_applies(headers, etag, modified) }
}

/// `If-Range` (section 13.1.5): an ETag compared strongly, or an exact date.
fn range_applies(headers: &HeaderMap, etag: &str, modified: SystemTime) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else { return true };
    let Ok(value) = value.to_str() else { return false };
    let value = value.trim();
    if value.starts_with('"') || value.starts_with("W/") {
        return value == etag;
    }
    value.parse::<HttpDate>().is_ok_and(|date| SystemTime::from(date) == modified)
}

/// Whether a list of ETags, possibly in several fields, has one that `matches`, or is `*`.
fn any_tag(headers: &HeaderMap, name: HeaderName, matches: impl Fn(&str) -> bool) -> bool {
    headers
        .get_all(name)
        .filter_map(|value| value.to_str().ok())
        .any(|list| list.trim() == "*" || tags(list).any(&matches))
}

/// The ETags of a list. A comma within quotes belongs to the ETag.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let opening = rest.find('"')?;
        let after = rest.get(opening.saturating_add(1)..)?;
        let end = opening.saturating_add(2).saturating_add(after.find('"')?);
        let (tag, remaining) = rest.split_at_checked(end)?;
        rest = remaining;
        Some(tag)
    })
}

/// A date of the request; an invalid one is ignored (sections 13.1.3 and 13.1.4).
fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    Some(headers.get(name)?.to_str().ok()?.parse::<HttpDate>().ok()?.into())
}

/// HTTP dates have no smaller unit.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since.as_secs())).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const ETAG: &str = "\"abc\"";
    const PROCEED: Verdict = Verdict::Proceed { ranges: true };

    fn verdict(given: &[(HeaderName, &str)]) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        // Sun, 06 Nov 1994 08:49:37 GMT and a bit
        evaluate(&headers, ETAG, SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_600))
    }

    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    #[test]
    fn without_conditions_everything_proceeds() {
        assert_eq!(verdict(&[]), PROCEED);
    }

    #[test]
    fn if_match_compares_strongly() {
        let with = |value| verdict(&[(header::IF_MATCH, value)]);
        assert_eq!(with("*"), PROCEED);
        assert_eq!(with("\"abc\""), PROCEED);
        assert_eq!(with("\"x,y\", \"abc\""), PROCEED);
        assert_eq!(with("W/\"abc\""), Verdict::Failed);
        assert_eq!(with("\"x\""), Verdict::Failed);
        assert_eq!(with("abc"), Verdict::Failed);
        assert_eq!(verdict(&[(header::IF_MATCH, "\"x\""), (header::IF_MATCH, "\"abc\"")]), PROCEED);
    }

    #[test]
    fn if_none_match_compares_weakly_and_wins_over_dates() {
        let with = |value| verdict(&[(header::IF_NONE_MATCH, value)]);
        assert_eq!(with("*"), Verdict::NotModified);
        assert_eq!(with("\"abc\""), Verdict::NotModified);
        assert_eq!(with("W/\"abc\""), Verdict::NotModified);
        assert_eq!(with("\"x\",W/\"abc\""), Verdict::NotModified);
        assert_eq!(with("\"x\""), PROCEED);
        assert_eq!(verdict(&[(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, AFTER)]), PROCEED);
    }

    #[test]
    fn dates_are_compared_by_whole_seconds() {
        assert_eq!(verdict(&[(header::IF_MODIFIED_SINCE, SAME)]), Verdict::NotModified);
        assert_eq!(verdict(&[(header::IF_MODIFIED_SINCE, AFTER)]), Verdict::NotModified);
        assert_eq!(verdict(&[(header::IF_MODIFIED_SINCE, BEFORE)]), PROCEED);
        assert_eq!(verdict(&[(header::IF_MODIFIED_SINCE, "yesterday")]), PROCEED);
        assert_eq!(verdict(&[(header::IF_UNMODIFIED_SINCE, SAME)]), PROCEED);
        assert_eq!(verdict(&[(header::IF_UNMODIFIED_SINCE, BEFORE)]), Verdict::Failed);
        assert_eq!(verdict(&[(header::IF_UNMODIFIED_SINCE, BEFORE), (header::IF_MATCH, ETAG)]), PROCEED);
    }

    #[test]
    fn if_range_only_continues_the_same_file() {
        let with = |value| verdict(&[(header::IF_RANGE, value)]);
        assert_eq!(with(ETAG), PROCEED);
        assert_eq!(with(SAME), PROCEED);
        for other in ["\"x\"", "W/\"abc\"", BEFORE, AFTER, "abc"] {
            assert_eq!(with(other), Verdict::Proceed { ranges: false }, "{other}");
        }
    }
}
