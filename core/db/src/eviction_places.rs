//! The `eviction_places` table: where passes of evictions continue.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::replicas::Order;
use super::schema::eviction_places;
use crate::error::Result;
use crate::ids::ObjectId;

/// The last examined copy in an order.
pub type Place = (DateTime<Utc>, ObjectId);

/// The name of an order.
fn name(order: Order<'_>) -> String {
    match order {
        Order::ByRule { rule, .. } => format!("rule {rule}"),
        Order::LeastUsed => "least used".to_owned(),
    }
}

/// Where the last pass stopped; `None` if the next one starts at the beginning.
pub async fn find(conn: &mut AsyncPgConnection, store: &str, order: Order<'_>) -> Result<Option<Place>> {
    Ok(eviction_places::table
        .find((store, name(order)))
        .select((eviction_places::at, eviction_places::object_id))
        .first(conn)
        .await
        .optional()?)
}

/// Records where the next pass continues.
pub async fn set(
    conn: &mut AsyncPgConnection,
    store: &str,
    order: Order<'_>,
    place: Option<Place>,
) -> Result<()> {
    let Some((at, object)) = place else {
        diesel::delete(eviction_places::table.find((store, name(order)))).execute(conn).await?;
        return Ok(());
    };
    let position = (eviction_places::at.eq(at), eviction_places::object_id.eq(object));
    diesel::insert_into(eviction_places::table)
        .values((
            eviction_places::store.eq(store),
            eviction_places::ordering.eq(name(order)),
            eviction_places::at.eq(at),
            eviction_places::object_id.eq(object),
        ))
        .on_conflict((eviction_places::store, eviction_places::ordering))
        .do_update()
        .set(position)
        .execute(conn)
        .await?;
    Ok(())
}
