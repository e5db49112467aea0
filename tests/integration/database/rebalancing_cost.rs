//! Choosing what moves to another store costs the size of the batch, however much the stores hold; and so does a look at what
//! is on its way.

use std::time::Duration;

use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use nightferry_core::db::replicas;
use nightferry_core::error::Error;
use nightferry_core::ids::ObjectId;
use nightferry_tests::harness::{World, database};

const OBJECTS: u32 = 30_000;
const BATCH: i64 = 100;
const ROWS_READ: &str = "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint AS rows \
     FROM pg_stat_xact_user_tables";

#[derive(diesel::QueryableByName)]
struct Read {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    rows: i64,
}

async fn rows_read(conn: &mut AsyncPgConnection) -> i64 {
    let read: Read = diesel::sql_query(ROWS_READ).get_result(conn).await.unwrap();
    read.rows
}

#[tokio::test(flavor = "multi_thread")]
async fn choosing_beginning_and_looking_at_moves_reads_a_batch_of_rows_and_no_more() {
    let world = World::with("database.statement_timeout", "120s").build().await;
    let user = world.user().await;
    let sql = format!(
        "WITH made AS ( \
             INSERT INTO objects (id, owner_id, key, state, content_type, size, sha256, crc64nvme, upload_store, stored_at) \
             SELECT gen_random_uuid(), '{user}', 'k' || n, 'stored', 'text/plain', 1, decode(repeat('00', 32), 'hex'), \
                    decode(repeat('00', 8), 'hex'), 'minio', now() FROM generate_series(1, {OBJECTS}) n RETURNING id) \
         INSERT INTO replicas (object_id, store, state, verified_at) \
         SELECT id, store, 'present', now() FROM made, unnest(ARRAY['minio', 's3']) AS store"
    );
    database::execute(&world.context.db, &sql).await.unwrap();
    database::execute(&world.context.db, "ANALYZE").await.unwrap();
    let mut conn = world.context.db.conn().await.unwrap();
    let middle = ObjectId(uuid::Uuid::from_u128(1 << 126));

    for (to, may_move) in [("nas", BATCH), ("s3", 0)] {
        let (rows, found) = conn
            .transaction(async move |conn| {
                let before = rows_read(conn).await;
                let found = replicas::movable(conn, "minio", to, middle, BATCH).await?;
                Ok::<_, Error>((rows_read(conn).await - before, found))
            })
            .await
            .unwrap();
        assert_eq!(found.len() as i64, BATCH);
        assert_eq!(found.iter().filter(|replica| replica.may_move).count() as i64, may_move);
        assert!(rows <= BATCH * 20, "towards {to}: read {rows} rows");
    }

    let ids: Vec<ObjectId> = replicas::movable(&mut conn, "minio", "nas", middle, BATCH)
        .await
        .unwrap()
        .into_iter()
        .map(|replica| replica.object_id)
        .collect();
    let (begun, looked_at, stayed) = conn
        .transaction(async move |conn| {
            let start = rows_read(conn).await;
            let begun = replicas::begin_moves(conn, "minio", "nas", &ids).await?;
            let after_begin = rows_read(conn).await;
            let moving = replicas::moving(conn, Duration::from_secs(300), 10_000).await?;
            let after_look = rows_read(conn).await;
            assert_eq!((begun.files, moving.len() as i64), (BATCH, BATCH));
            assert_eq!(replicas::move_only_among(conn, &["minio", "nas"]).await?, 0);
            assert_eq!(replicas::forget_begun(conn).await? as i64, BATCH);
            let end = rows_read(conn).await;
            Ok::<_, Error>((after_begin - start, after_look - after_begin, end - after_look))
        })
        .await
        .unwrap();
    for (what, rows) in [("begin", begun), ("look", looked_at), ("call off", stayed)] {
        assert!(rows <= BATCH * 40, "{what}: read {rows} rows");
    }
}
