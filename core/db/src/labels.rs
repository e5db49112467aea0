//! The metadata of objects beyond their own row: owner, versions and folders by name.

use diesel::prelude::*;
use diesel::sql_types::{Jsonb, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Deserialize;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::ids::{FolderId, UserId};
use crate::prepared::Prepared;

/// The names of the folders from the root folder to `$folder`, as a JSON array.
macro_rules! path {
    ($folder:literal) => {
        concat!(
            "(WITH RECURSIVE up (parent_id, name, height) AS ( \
                 SELECT d.parent_id, d.name, 1 FROM folders d WHERE d.id = ",
            $folder,
            " UNION ALL \
                 SELECT d.parent_id, d.name, up.height + 1 FROM up JOIN folders d ON d.id = up.parent_id \
                 WHERE up.height < 256 \
             ) SELECT coalesce(jsonb_agg(up.name ORDER BY up.height DESC) FILTER (WHERE up.parent_id IS NOT NULL), \
                               '[]'::jsonb) FROM up)"
        )
    };
}

/// An expression for the object `o`: an [`About`], using only primary key lookups.
pub(super) const ABOUT_OBJECT: &str = concat!(
    "(SELECT jsonb_build_object('email', u.email, 'versions', ( \
         SELECT coalesce(jsonb_agg(jsonb_build_object('file', v.file_id, 'number', v.number, 'name', n.filename, \
                                       'original', n.original_filename, 'folder', ",
    path!("n.folder_id"),
    ") ORDER BY v.created_at, v.file_id, v.number), '[]'::jsonb) \
         FROM (SELECT * FROM file_versions x WHERE x.object_id = o.id \
               ORDER BY x.created_at, x.file_id, x.number LIMIT 20) v JOIN files n ON n.id = v.file_id \
     )) FROM users u WHERE u.id = o.owner_id)"
);

/// The metadata of an object beyond its own row.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct About {
    /// Email address of the owner's account.
    pub email: Option<String>,
    /// The versions of the object, oldest first.
    pub versions: Vec<AboutVersion>,
}

/// A version of an object.
#[derive(Debug, Clone, Deserialize)]
pub struct AboutVersion {
    /// File.
    pub file: Uuid,
    /// Version number.
    pub number: i32,
    /// The file's name.
    pub name: String,
    /// Name at upload.
    pub original: String,
    /// Names of the folders from the root to the file.
    pub folder: Vec<String>,
}

/// The destination of an upload.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Email address of the owner's account.
    pub email: Option<String>,
    /// Names of the folders from the root to the destination.
    pub folder: Vec<String>,
}

#[derive(QueryableByName)]
struct PlaceRow {
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Jsonb)]
    folder: serde_json::Value,
}

/// The owner and folders of an upload, by name.
pub async fn place(conn: &mut AsyncPgConnection, owner: UserId, folder: FolderId) -> Result<Place> {
    let sql = concat!("SELECT u.email, ", path!("$2"), " AS folder FROM users u WHERE u.id = $1");
    let query = diesel::sql_query(sql).bind::<SqlUuid, _>(owner).bind::<SqlUuid, _>(folder);
    let row: Option<PlaceRow> = Prepared(query).get_result(conn).await.optional()?;
    let Some(row) = row else { return Ok(Place::default()) };
    let folder = serde_json::from_value(row.folder)
        .map_err(|error| Error::Internal(format!("a folder's path cannot be read: {error}")))?;
    Ok(Place { email: Some(row.email), folder })
}
