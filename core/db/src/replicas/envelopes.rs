//! The encryption envelopes of copies, and their keys.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::encryption::EncryptionEnvelope;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::schema::replicas;

/// The encryption envelope of the copy of an object in `store`; `None` if it is unencrypted or does not exist.
pub async fn envelope_of(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
) -> Result<Option<EncryptionEnvelope>> {
    let columns: Option<(Option<String>, Option<Vec<u8>>)> = replicas::table
        .find((object, store))
        .select((replicas::key_id, replicas::envelope))
        .first(conn)
        .await
        .optional()?;
    Ok(columns.and_then(|(key_id, envelope)| EncryptionEnvelope::from_columns(key_id, envelope)))
}

/// A key that is needed by copies in a store.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct KeyUse {
    /// Store.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// Id of the key.
    #[diesel(sql_type = Text)]
    pub key_id: String,
    /// The number of copies that need it.
    #[diesel(sql_type = BigInt)]
    pub copies: i64,
}

/// The keys in use. Reads an index entry for each encrypted copy.
pub async fn keys_in_use(conn: &mut AsyncPgConnection) -> Result<Vec<KeyUse>> {
    Ok(diesel::sql_query(
        "SELECT store, key_id, count(*) AS copies FROM replicas WHERE key_id IS NOT NULL \
         GROUP BY store, key_id ORDER BY store, key_id",
    )
    .load(conn)
    .await?)
}
