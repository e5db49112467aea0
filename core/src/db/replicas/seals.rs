//! How copies are encrypted, and with which keys.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::replicas;
use crate::encryption::Seal;
use crate::error::Result;
use crate::ids::ObjectId;

/// How the copy of an object in `store` is encrypted; none for one that lies there as it is, or is not there.
pub async fn seal_of(conn: &mut AsyncPgConnection, object: ObjectId, store: &str) -> Result<Option<Seal>> {
    let columns: Option<(Option<String>, Option<Vec<u8>>)> = replicas::table
        .find((object, store))
        .select((replicas::key_id, replicas::envelope))
        .first(conn)
        .await
        .optional()?;
    Ok(columns.and_then(|(key_id, envelope)| Seal::from_columns(key_id, envelope)))
}

/// A key that copies in a store need.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct KeyUse {
    /// Store.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// Name of the key.
    #[diesel(sql_type = Text)]
    pub key_id: String,
    /// How many copies need it.
    #[diesel(sql_type = BigInt)]
    pub copies: i64,
}

/// Which keys are needed. Reads an index entry for each encrypted copy.
pub async fn keys_in_use(conn: &mut AsyncPgConnection) -> Result<Vec<KeyUse>> {
    Ok(diesel::sql_query(
        "SELECT store, key_id, count(*) AS copies FROM replicas WHERE key_id IS NOT NULL \
         GROUP BY store, key_id ORDER BY store, key_id",
    )
    .load(conn)
    .await?)
}
