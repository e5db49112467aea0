//! The position after a page of a list, as an opaque string. Cursors are validated like any other input, because
//! clients can forge them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Datelike as _, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error_response::{ApiError, Result};
use crate::extract::{holds_nul, page_size};

/// Maximum length of a cursor in bytes: fits one with the longest file name, escaped.
const MAX_LENGTH: usize = 4096;

/// The error for a string that is not a cursor of this list.
pub(crate) fn refused() -> ApiError {
    ApiError::field("cursor", "is not a valid cursor of this list; start again without a cursor")
}

pub(crate) fn write<T: Serialize>(position: &T) -> Result<String> {
    let json = serde_json::to_vec(position).map_err(|error| {
        nightferry_core::error::Error::Internal(format!("cannot encode a cursor: {error}"))
    })?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

/// The cursor of the next page: after the last of `rows`, if there are `more`.
pub(crate) fn next<R, T: Serialize>(
    rows: &[R],
    more: bool,
    position: impl FnOnce(&R) -> T,
) -> Result<Option<String>> {
    rows.last().filter(|_| more).map(|last| write(&position(last))).transpose()
}

/// Parses the page parameters of a list that is ordered by the ids of its `noun`s: the page size, and the id after
/// which the page starts.
///
/// # Errors
/// [`refused`], also for the cursor of another list.
pub(crate) fn page<I: DeserializeOwned>(
    noun: &str,
    limit: Option<&str>,
    cursor: Option<&str>,
) -> Result<(i64, Option<I>)> {
    let limit = page_size(limit)?;
    let Some(text) = cursor else { return Ok((limit, None)) };
    let mut position: BTreeMap<String, I> = read(text)?;
    let id = position.remove(noun).filter(|_| position.is_empty());
    Ok((limit, Some(id.ok_or_else(refused)?)))
}

/// The position in that list.
pub(crate) fn at<I>(noun: &'static str, id: I) -> BTreeMap<&'static str, I> {
    BTreeMap::from([(noun, id)])
}

/// Decodes a cursor made by [`write`].
///
/// # Errors
/// [`refused`].
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
    if text.len() > MAX_LENGTH {
        return Err(refused());
    }
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| refused())?;
    if holds_nul(&json) {
        return Err(refused());
    }
    serde_json::from_slice(&json).map_err(|_| refused())
}

/// The time, if every component of the service can represent it.
pub(crate) fn storable(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    Some(time).filter(|time| (1970..10_000).contains(&time.year()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip() {
        let text = write(&("name", 7)).unwrap();
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        assert_eq!(read::<(String, i64)>(&text).unwrap(), ("name".to_owned(), 7));
    }

    #[test]
    fn a_cursor_is_only_valid_for_its_own_list() {
        let text = write(&at("run", 7)).unwrap();
        assert_eq!(page::<i64>("run", Some("5"), Some(&text)).unwrap(), (5, Some(7)));
        assert_eq!(page::<i64>("run", None, None).unwrap(), (50, None));
        assert!(page::<i64>("user", None, Some(&text)).is_err());
        assert!(page::<i64>("run", None, Some(&write(&[("run", 7)]).unwrap())).is_err());
    }

    #[test]
    fn invalid_cursors_are_rejected() {
        let with_nul = write(&("a\0b", 7)).unwrap();
        for text in ["", "%", "AAAA", "e30=", &"A".repeat(5000), &write(&"other").unwrap(), &with_nul] {
            assert!(read::<(String, i64)>(text).is_err(), "{text:?}");
        }
    }
}
