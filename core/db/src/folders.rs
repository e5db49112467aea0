//! The `folders` table. For now every account has exactly its root folder.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::folders;
use crate::error::Result;
use crate::ids::{FolderId, UserId};

/// Creates the root folder of a new account.
pub async fn insert_root(conn: &mut AsyncPgConnection, owner: UserId) -> Result<FolderId> {
    let id = FolderId::new();
    diesel::insert_into(folders::table)
        .values((folders::id.eq(id), folders::owner_id.eq(owner), folders::name.eq("")))
        .execute(conn)
        .await?;
    Ok(id)
}

/// The root folder of an account.
pub async fn root_of(conn: &mut AsyncPgConnection, owner: UserId) -> Result<FolderId> {
    Ok(folders::table
        .filter(folders::owner_id.eq(owner))
        .filter(folders::parent_id.is_null())
        .select(folders::id)
        .first(conn)
        .await?)
}

/// Whether the live folder belongs to the account.
pub async fn is_owned_by(conn: &mut AsyncPgConnection, id: FolderId, owner: UserId) -> Result<bool> {
    Ok(diesel::select(diesel::dsl::exists(
        folders::table.find(id).filter(folders::owner_id.eq(owner)).filter(folders::deleted_at.is_null()),
    ))
    .get_result(conn)
    .await?)
}
