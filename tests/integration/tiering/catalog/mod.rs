//! The catalogue lost and rebuilt: from snapshots, from the objects alone, and with all kinds of damage.

mod crashes;
mod encrypted;
mod large;
mod objects;
mod refusals;
mod snapshots;
mod verify;

use std::collections::BTreeMap;

use bytes::Bytes;
use nightferry_core::auth::Accounts;
use nightferry_core::catalog::{self, CatalogError, Options, Rebuilt, Snapshot, Source};
use nightferry_core::context::Context;
use nightferry_core::db::Database;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::RunStatus;
use nightferry_core::store::{Body, ObjectKey, PutOptions};
use nightferry_tests::harness::World;
use nightferry_tests::harness::database::texts;
use tokio_util::sync::CancellationToken;

/// Everything contained in a snapshot, row by row and column by column, as sorted text.
async fn dump(db: &Database) -> BTreeMap<&'static str, Vec<String>> {
    let elsewhere =
        "ARRAY['run_id', 'attempts', 'abandoned', 'object_size', 'upload_id', 'upload_expires_at']";
    let mut tables = BTreeMap::new();
    for table in ["users", "folders", "objects", "files", "file_versions", "replicas"] {
        let sql = format!("SELECT (to_jsonb(t) - {elsewhere})::text FROM {table} t ORDER BY 1");
        tables.insert(table, texts(db, &sql).await);
    }
    tables
}

async fn export(context: &Context) -> Result<Snapshot, CatalogError> {
    catalog::export(context, |_| (), &CancellationToken::new()).await
}

async fn rebuild_from(context: &Context, source: Source) -> Result<Rebuilt, CatalogError> {
    let options = Options { source, trial: false, origin: &Origin::default() };
    let accounts = Accounts::new(context.clone()).unwrap();
    catalog::rebuild(&accounts, &options, |_| (), &CancellationToken::new()).await
}

/// Syncs everything that has no cloud copy yet.
async fn cross(world: &World) {
    let worker = world.start_worker();
    assert_eq!(world.sync().await.status, RunStatus::Succeeded);
    worker.stop().await;
}

/// The content of the cloud store under a key.
async fn stored(world: &World, key: &str) -> Vec<u8> {
    use futures_util::StreamExt;
    let (key, ..) = ObjectKey::parse_snapshot(key).unwrap();
    let mut body = world.direct.cloud().unwrap().get(&key, None).await.unwrap().body;
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    bytes
}

async fn put(world: &World, key: &ObjectKey, bytes: Vec<u8>) {
    let body = Body::Bytes(Bytes::from(bytes));
    world.direct.cloud().unwrap().put(key, body, &PutOptions::default()).await.unwrap();
}
