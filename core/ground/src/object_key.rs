//! The key of an object, the same in every store. The only place where keys are built or parsed, so that user input
//! never reaches the path of a store unchecked.

use std::fmt;

use chrono::{DateTime, NaiveDateTime, Utc};
use uuid::Uuid;

/// Maximum length of the sanitised file name in a key, in bytes.
pub const NAME_LIMIT: usize = 80;

/// The prefix of the keys of catalogue snapshots. No object of a user can have such a key.
pub const SNAPSHOT_PREFIX: &str = "_nightferry/catalog/";
/// The key of the marker with the identity of a store. No object of a user and no snapshot can have it.
pub const IDENTITY_KEY: &str = "_nightferry/identity";
/// The prefix of the keys of canaries. No object of a user and no snapshot can have such a key.
pub const CANARY_PREFIX: &str = "_nightferry/canary/";
const SNAPSHOT_SUFFIX: &str = ".jsonl.zst";
/// Sorts by time; without colons, which are problematic in file names.
const SNAPSHOT_TIME: &str = "%Y%m%dT%H%M%S%.6fZ";

/// `user-{user id}/{object id}-{sanitised name}`: the same in every store, and safe in any path or URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(String);

/// A text that is not an object key of Nightferry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an object key: expected user-{{uuid}}/{{uuid}}-{{name}}")]
pub struct ParseKeyError;

impl ObjectKey {
    /// The key of object `object`, owned by `user`, uploaded as `name`.
    pub fn new(user: Uuid, object: Uuid, name: &str) -> Self {
        Self(format!("user-{user}/{object}-{}", sanitise(name)))
    }

    /// Parses a key from the database or a listing; rejects everything that [`ObjectKey::new`] cannot have built.
    pub fn parse(text: &str) -> Result<Self, ParseKeyError> {
        let (user, rest) =
            text.strip_prefix("user-").and_then(|rest| rest.split_once('/')).ok_or(ParseKeyError)?;
        let (object, name) = rest.split_at_checked(36).ok_or(ParseKeyError)?;
        let name = name.strip_prefix('-').ok_or(ParseKeyError)?;
        let well_formed = is_plain_uuid(user) && is_plain_uuid(object) && is_sanitised(name);
        if well_formed { Ok(Self(text.to_owned())) } else { Err(ParseKeyError) }
    }

    /// The key of the catalogue snapshot `id`, taken at `taken_at`: `_nightferry/catalog/{time}-{id}.jsonl.zst`.
    pub fn of_snapshot(taken_at: DateTime<Utc>, id: Uuid) -> Self {
        Self(format!("{SNAPSHOT_PREFIX}{}-{id}{SNAPSHOT_SUFFIX}", taken_at.format(SNAPSHOT_TIME)))
    }

    /// Parses a key built by [`ObjectKey::of_snapshot`], and returns the time and id of the snapshot.
    pub fn parse_snapshot(text: &str) -> Result<(Self, DateTime<Utc>, Uuid), ParseKeyError> {
        let name = text
            .strip_prefix(SNAPSHOT_PREFIX)
            .and_then(|rest| rest.strip_suffix(SNAPSHOT_SUFFIX))
            .ok_or(ParseKeyError)?;
        let (time, id) = name.split_once('-').ok_or(ParseKeyError)?;
        let taken_at =
            NaiveDateTime::parse_from_str(time, SNAPSHOT_TIME).map_err(|_| ParseKeyError)?.and_utc();
        let id = Uuid::try_parse(id).map_err(|_| ParseKeyError)?;
        let key = Self::of_snapshot(taken_at, id);
        if key.0 == text { Ok((key, taken_at, id)) } else { Err(ParseKeyError) }
    }

    /// The key of the marker with the identity of a store: [`IDENTITY_KEY`].
    pub fn of_identity() -> Self {
        Self(IDENTITY_KEY.to_owned())
    }

    /// The key of a canary, an object of a few bytes that shows what a store verifies: `_nightferry/canary/{id}`.
    pub fn of_canary(id: Uuid) -> Self {
        Self(format!("{CANARY_PREFIX}{id}"))
    }

    /// The key as used in S3.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The owner of the object.
    pub fn user(&self) -> Option<Uuid> {
        self.0.get(5..41).and_then(|id| Uuid::try_parse(id).ok())
    }

    /// The object's id.
    pub fn object(&self) -> Option<Uuid> {
        self.0.get(42..78).and_then(|id| Uuid::try_parse(id).ok())
    }
}

/// Hyphenated and in lower case, so that the key of an object is unique.
fn is_plain_uuid(text: &str) -> bool {
    Uuid::try_parse(text).is_ok_and(|id| {
        let mut buffer = Uuid::encode_buffer();
        text == id.hyphenated().encode_lower(&mut buffer)
    })
}

fn is_kept(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

fn is_sanitised(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_LIMIT && !name.starts_with('.') && name.chars().all(is_kept)
}

/// Keeps the end of a name that is too long, because it contains the extension.
fn sanitise(name: &str) -> String {
    let safe: String = name.chars().map(|c| if is_kept(c) { c } else { '_' }).collect();
    // Every character is one byte here, so any index is a character boundary.
    let tail = safe.get(safe.len().saturating_sub(NAME_LIMIT)..).unwrap_or_default();
    match tail.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if tail.is_empty() => "_".to_owned(),
        None => tail.to_owned(),
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const USER: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
    const OBJECT: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0002);

    fn name_in(key: &ObjectKey) -> &str {
        key.as_str().get(79..).unwrap()
    }

    #[test]
    fn a_key_names_user_object_and_file() {
        let key = ObjectKey::new(USER, OBJECT, "Holiday photo (1).jpg");
        assert_eq!(
            key.as_str(),
            "user-01900000-0000-7000-8000-000000000001/01900000-0000-7000-8000-000000000002-Holiday_photo__1_.jpg"
        );
        assert_eq!((key.user(), key.object()), (Some(USER), Some(OBJECT)));
        assert!(key.as_str().starts_with(&format!("user-{USER}/")));
    }

    #[test]
    fn dangerous_names_become_harmless() {
        for (name, safe) in [
            ("", "_"),
            (".", "_"),
            ("..", "_."),
            ("../../etc/passwd", "_._.._etc_passwd"),
            (".bashrc", "_bashrc"),
            ("a\0b\r\nc", "a_b__c"),
            ("schön.txt", "sch_n.txt"),
        ] {
            assert_eq!(name_in(&ObjectKey::new(USER, OBJECT, name)), safe, "{name:?}");
        }
    }

    #[test]
    fn a_long_name_keeps_its_extension() {
        let key = ObjectKey::new(USER, OBJECT, &format!("{}.tar.gz", "x".repeat(300)));
        assert_eq!(name_in(&key).len(), NAME_LIMIT);
        assert!(key.as_str().ends_with("x.tar.gz"));
    }

    #[test]
    fn foreign_keys_are_rejected() {
        let good = ObjectKey::new(USER, OBJECT, "a").as_str().to_owned();
        assert_eq!(ObjectKey::parse(&good).unwrap().as_str(), good);
        for wrong in [
            String::new(),
            "backup/x".to_owned(),
            "user-/".to_owned(),
            format!("/{good}"),
            format!("{good}/b"),
            format!("{good}/../x"),
            format!("{good}\n"),
            good.to_uppercase(),
            good.replace("-a", "-"),
            good.replace("-a", "-..a"),
            good.replace("0190", "{190"),
            format!("{good}{}", "a".repeat(NAME_LIMIT)),
            good.replacen("0000-", "0000", 1),
        ] {
            assert_eq!(ObjectKey::parse(&wrong), Err(ParseKeyError), "{wrong:?}");
        }
    }

    #[test]
    fn snapshot_keys_sort_by_time_and_are_not_object_keys() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let (early, late) = (at("2026-11-21T00:00:03.000120Z"), at("2026-11-21T00:00:03.1Z"));
        let key = ObjectKey::of_snapshot(early, OBJECT);
        assert_eq!(
            key.as_str(),
            "_nightferry/catalog/20261121T000003.000120Z-01900000-0000-7000-8000-000000000002.jsonl.zst"
        );
        assert!(key < ObjectKey::of_snapshot(late, USER));
        assert_eq!(ObjectKey::parse_snapshot(key.as_str()), Ok((key.clone(), early, OBJECT)));
        assert_eq!((key.user(), key.object()), (None, None));
        assert!(ObjectKey::parse(key.as_str()).is_err());
        for wrong in ["_nightferry/catalog/", "_nightferry/catalog/x.jsonl.zst", &key.as_str().to_uppercase()]
        {
            assert_eq!(ObjectKey::parse_snapshot(wrong), Err(ParseKeyError), "{wrong}");
        }
    }

    #[test]
    fn the_key_of_a_canary_is_neither_an_object_nor_a_snapshot() {
        let key = ObjectKey::of_canary(OBJECT);
        assert!(ObjectKey::parse(key.as_str()).is_err() && ObjectKey::parse_snapshot(key.as_str()).is_err());
        assert!(!key.as_str().starts_with(SNAPSHOT_PREFIX) && key.as_str() != IDENTITY_KEY);
        assert_eq!((key.user(), key.object()), (None, None));
    }

    #[test]
    fn the_key_of_the_identity_is_neither_an_object_nor_a_snapshot() {
        let key = ObjectKey::of_identity();
        assert!(ObjectKey::parse(key.as_str()).is_err() && ObjectKey::parse_snapshot(key.as_str()).is_err());
        assert!(!key.as_str().starts_with(SNAPSHOT_PREFIX));
        assert_eq!((key.user(), key.object()), (None, None));
    }

    proptest! {
        #[test]
        fn every_name_results_in_a_valid_key(name in any::<String>(), user in any::<u128>(), object in any::<u128>()) {
            let key = ObjectKey::new(Uuid::from_u128(user), Uuid::from_u128(object), &name);
            prop_assert_eq!(ObjectKey::parse(key.as_str()), Ok(key.clone()));
            prop_assert!(key.as_str().split('/').count() == 2);
            prop_assert!(name_in(&key).len() <= NAME_LIMIT);
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = ObjectKey::parse(&text);
            let _ = ObjectKey::parse(&format!("user-{text}"));
        }
    }
}
