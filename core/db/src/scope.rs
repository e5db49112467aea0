//! Whether the elements of a scope exist.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::runs::RunScope;
use super::schema::{files, folders, users};
use crate::error::{Error, Noun, Result};
use crate::ids::FileId;

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
    let live = files::table.filter(files::id.eq_any(ids)).filter(files::deleted_at.is_null());
    let live: Vec<FileId> = live.select(files::id).load(conn).await?;
    let live: HashSet<FileId> = live.into_iter().collect();
    match ids.iter().find(|id| !live.contains(id)) {
        Some(id) => Err(Error::NoSuch { noun: Noun::File, id: id.0 }),
        None => Ok(()),
    }
}
