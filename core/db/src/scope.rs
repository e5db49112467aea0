//! Whether the elements of a scope exist.

use diesel::prelude::*;
use diesel::sql_types::{Array, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::runs::RunScope;
use super::schema::{folders, users};
use crate::error::{Error, Noun, Result};
use crate::ids::FileId;

#[derive(QueryableByName)]
struct Missing {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Checks that every element of the scope of a run or a plan exists and is not in the trash: otherwise the run would
/// succeed without copying anything.
///
/// # Errors
/// [`Error::NoSuch`] with the first element that does not.
pub async fn require(conn: &mut AsyncPgConnection, scope: &RunScope) -> Result<()> {
    if let Some(id) = scope.user_id {
        let there: bool = diesel::select(diesel::dsl::exists(users::table.find(id))).get_result(conn).await?;
        if !there {
            return Err(Error::NoSuch { noun: Noun::User, id: id.0 });
        }
    }
    if let Some(id) = scope.folder_id {
        let live = folders::table.find(id).filter(folders::deleted_at.is_null());
        let there: bool = diesel::select(diesel::dsl::exists(live)).get_result(conn).await?;
        if !there {
            return Err(Error::NoSuch { noun: Noun::Folder, id: id.0 });
        }
    }
    let Some(ids) = &scope.file_ids else { return Ok(()) };
    match first_missing_file(conn, ids).await? {
        Some(id) => Err(Error::NoSuch { noun: Noun::File, id }),
        None => Ok(()),
    }
}

async fn first_missing_file(conn: &mut AsyncPgConnection, ids: &[FileId]) -> Result<Option<Uuid>> {
    let missing: Option<Missing> = diesel::sql_query(
        "SELECT w.id FROM unnest($1::uuid[]) WITH ORDINALITY AS w (id, place) \
         WHERE NOT EXISTS (SELECT 1 FROM files f WHERE f.id = w.id AND f.deleted_at IS NULL) \
         ORDER BY w.place LIMIT 1",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .get_result(conn)
    .await
    .optional()?;
    Ok(missing.map(|missing| missing.id))
}
