//! The multipart upload that a copy may be in the middle of.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bytea, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::enums::ReplicaState;
use crate::db::schema::replicas;
use crate::encryption::Seal;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId};

/// Remembers the multipart upload of a copy and how it is encrypted, so that whoever claims it next resumes it with the
/// same bytes; or that there is none any more. Answers whether the lease still holds.
pub async fn begin_multipart(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    token: LeaseToken,
    upload_id: Option<&str>,
    part_size: Option<i64>,
    seal: Option<&Seal>,
) -> Result<bool> {
    let changed = diesel::sql_query(
        // An upload that is forgotten leaves the seal of whatever object may be there.
        "UPDATE replicas SET upload_id = $4, part_size = $5, \
                key_id = CASE WHEN $4 IS NULL THEN key_id ELSE $6 END, \
                envelope = CASE WHEN $4 IS NULL THEN envelope ELSE $7 END \
         WHERE object_id = $1 AND store = $2 AND state = 'copying' AND lease_token = $3",
    )
    .bind::<SqlUuid, _>(object)
    .bind::<Text, _>(store)
    .bind::<SqlUuid, _>(token)
    .bind::<Nullable<Text>, _>(upload_id)
    .bind::<Nullable<BigInt>, _>(part_size)
    .bind::<Nullable<Text>, _>(seal.map(|seal| seal.key_id.as_str()))
    .bind::<Nullable<Bytea>, _>(seal.map(|seal| seal.envelope.as_slice()))
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Forgets the multipart upload of a copy that was given up.
pub async fn forget_multipart(conn: &mut AsyncPgConnection, object: ObjectId, store: &str) -> Result<()> {
    diesel::update(replicas::table.find((object, store)).filter(replicas::state.eq(ReplicaState::Failed)))
        .set((replicas::upload_id.eq(None::<String>), replicas::part_size.eq(None::<i64>)))
        .execute(conn)
        .await?;
    Ok(())
}

/// The multipart upload of a copy that was given up.
pub async fn given_up_multipart(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
) -> Result<Option<String>> {
    let upload: Option<Option<String>> = replicas::table
        .find((object, store))
        .filter(replicas::state.eq(ReplicaState::Failed))
        .select(replicas::upload_id)
        .first(conn)
        .await
        .optional()?;
    Ok(upload.flatten())
}

/// The multipart uploads of an object's unfinished copies: (store, upload id).
pub async fn open_multiparts(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
) -> Result<Vec<(String, String)>> {
    Ok(replicas::table
        .filter(replicas::object_id.eq(object))
        .filter(replicas::upload_id.is_not_null())
        .select((replicas::store, replicas::upload_id.assume_not_null()))
        .load(conn)
        .await?)
}
