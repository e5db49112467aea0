//! The metadata of a copy: see [`Label`].

use crate::db::labels::About;
use crate::db::replicas::Claim;
use crate::object::verify::Expected;
use crate::store::{Label, Shared};

/// The metadata of a claimed copy.
pub(in crate::tiering) fn of_copy(claim: &Claim, expected: &Expected) -> Label {
    // The text comes from the database; if it were ever unreadable, the object's own properties would still be
    // included.
    let about: About =
        claim.about.clone().and_then(|about| serde_json::from_value(about).ok()).unwrap_or_default();
    let mut versions = about.versions.into_iter();
    let first = versions.next();
    let also = versions.map(|version| Shared {
        file: version.file,
        version: version.number,
        name: version.name,
        folder: version.folder,
    });
    Label {
        object: Some(claim.object_id.0),
        owner: Some(claim.owner_id.0),
        email: about.email,
        file: first.as_ref().map(|version| version.file),
        version: first.as_ref().map(|version| version.number),
        name: first.as_ref().map(|version| version.name.clone()),
        original: first
            .as_ref()
            .filter(|version| version.name != version.original)
            .map(|version| version.original.clone()),
        folder: first.map(|version| version.folder).unwrap_or_default(),
        time: Some(claim.stored_at),
        sha256: Some(expected.sha256),
        crc64nvme: Some(expected.crc64nvme),
        also: also.collect(),
    }
}
