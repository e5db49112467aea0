//! The query string. Its fields are strings; the functions here parse them and name the invalid field.

use std::future::{Ready, ready};
use std::ops::RangeInclusive;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use serde::de::DeserializeOwned;

use crate::error_response::{ApiError, Result};

const PAGE: i64 = 50;
const PAGES: RangeInclusive<i64> = 1..=200;

/// The fields of the query string, all strings.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parse(request.query_string()).map(Self))
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<T> {
    // Postgres cannot store NUL in a string.
    if query.contains("%00") {
        return Err(ApiError::bad_request("The query string must not contain the character NUL."));
    }
    serde_urlencoded::from_str(query)
        .map_err(|error| ApiError::bad_request(format!("The query string is invalid: {error}.")))
}

pub(crate) fn whole_number(
    field: &str,
    text: Option<&str>,
    allowed: RangeInclusive<i64>,
) -> Result<Option<i64>> {
    let Some(text) = text else { return Ok(None) };
    text.parse().ok().filter(|number| allowed.contains(number)).map(Some).ok_or_else(|| {
        ApiError::field(
            field,
            format!("must be a whole number from {} to {}", allowed.start(), allowed.end()),
        )
    })
}

/// Parses the `limit` of a page.
pub(crate) fn page_size(text: Option<&str>) -> Result<i64> {
    Ok(whole_number("limit", text, PAGES)?.unwrap_or(PAGE))
}

/// Parses a boolean; false if absent.
pub(crate) fn flag(field: &str, text: Option<&str>) -> Result<bool> {
    choice(field, text, &[("true", true), ("false", false)]).map(Option::unwrap_or_default)
}

pub(crate) fn choice<T: Copy>(field: &str, text: Option<&str>, words: &[(&str, T)]) -> Result<Option<T>> {
    let Some(text) = text else { return Ok(None) };
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| Some(*value)).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        ApiError::field(field, format!("must be one of: {}", words.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Fields {
        q: Option<String>,
    }

    #[test]
    fn unknown_repeated_and_unstorable_fields_are_refused() {
        assert_eq!(parse::<Fields>("q=a%20b").unwrap(), Fields { q: Some("a b".to_owned()) });
        assert_eq!(parse::<Fields>("").unwrap(), Fields { q: None });
        for query in ["x=1", "q=a&q=b", "q=a%00b", "q=1&y"] {
            assert!(parse::<Fields>(query).is_err(), "{query}");
        }
    }

    #[test]
    fn page_sizes_have_bounds() {
        assert_eq!(page_size(None).unwrap(), 50);
        assert_eq!(page_size(Some("200")).unwrap(), 200);
        for wrong in ["0", "-1", "201", "", "x", "1.5", "99999999999999999999"] {
            assert!(page_size(Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keywords_are_case_sensitive() {
        assert!(flag("x", Some("true")).unwrap());
        assert!(!flag("x", None).unwrap());
        for wrong in ["1", "TRUE", ""] {
            assert!(flag("x", Some(wrong)).is_err(), "{wrong}");
        }
    }
}
