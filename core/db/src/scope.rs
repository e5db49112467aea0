//! Checks whether the elements of a scope exist.

use diesel::prelude::*;
use diesel::sql_types::{Array, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::runs::RunScope;
use super::schema::{folders, users};
use crate::error::{Noun, Result};
use crate::ids::FileId;

#[derive(QueryableByName)]
struct Missing {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// The first element of a scope that does not exist, or is in the trash: its kind and its id.
pub async fn first_missing(conn: &mut AsyncPgConnection, scope: &RunScope) -> Result<Option<(Noun, Uuid)>> {
    if let Some(id) = scope.user_id {
        let there: bool = diesel::select(diesel::dsl::exists(users::table.find(id))).get_result(conn).await?;
        if !there {
            return Ok(Some((Noun::User, id.0)));
        }
    }
    if let Some(id) = scope.folder_id {
        let live = folders::table.find(id).filter(folders::deleted_at.is_null());
        let there: bool = diesel::select(diesel::dsl::exists(live)).get_result(conn).await?;
        if !there {
            return Ok(Some((Noun::Folder, id.0)));
        }
    }
    match &scope.file_ids {
        Some(ids) => Ok(first_missing_file(conn, ids).await?.map(|id| (Noun::File, id))),
        None => Ok(None),
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
