//! Uploads that end at the same time are recorded in one transaction, and each has its own result.

use futures_util::future::join_all;
use nightferry_core::error::ErrorCode;
use nightferry_core::file::list::FolderRef;
use nightferry_core::file::upload::{self, OnConflict, UploadRequest};
use nightferry_core::ids::UserId;
use nightferry_tests::harness::database::{execute, execute_on, texts};
use nightferry_tests::harness::fault_proxy::Match;
use nightferry_tests::harness::{World, assert_invariants, eventually, pattern};
use reqwest::Method;
use tokio::task::JoinHandle;

const SIZE: u64 = 100;

/// The result of an upload: the name of the file, or the code of the error.
type Outcome = Result<String, ErrorCode>;

fn start(world: &World, owner: UserId, name: &str, on_conflict: OnConflict) -> JoinHandle<Outcome> {
    let files = world.services.files.clone();
    let request = UploadRequest {
        owner,
        folder: FolderRef::Root,
        filename: name.to_owned(),
        content_type: None,
        on_conflict,
        sha256: None,
    };
    tokio::spawn(async move {
        let received = upload::receive(&files, request, &mut pattern(1, SIZE)).await;
        received.map(|file| file.row.filename).map_err(|error| error.code())
    })
}

/// Ends uploads at the same time: their content is stored while the row of the account, which the first batch needs, is
/// locked.
async fn end_together(world: &World, owner: UserId, uploads: Vec<JoinHandle<Outcome>>) -> Vec<Outcome> {
    let mut holder = world.context.db.conn().await.unwrap();
    execute_on(&mut holder, "BEGIN").await;
    execute_on(&mut holder, &format!("UPDATE users SET name = name WHERE id = '{owner}'")).await;
    let puts = Match::method(Method::PUT).key_contains("user-");
    let stored = || world.local.requests().iter().filter(|put| put.done && puts.holds(put)).count();
    eventually("all content is stored", || async { (stored() >= uploads.len()).then_some(()) }).await;
    execute_on(&mut holder, "COMMIT").await;
    join_all(uploads).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_end_together_share_a_transaction() {
    const UPLOADS: usize = 30;
    let world = World::new().await;
    let owner = world.user().await;
    let uploads =
        (0..UPLOADS).map(|number| start(&world, owner, &format!("{number}"), OnConflict::Fail)).collect();

    let ended = end_together(&world, owner, uploads).await;

    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    let transactions = texts(&world.context.db, "SELECT count(DISTINCT xmin::text) FROM files").await;
    let transactions: usize = transactions[0].parse().unwrap();
    assert!(transactions <= UPLOADS / 2, "{transactions} transactions for {UPLOADS} files");
    let used = texts(&world.context.db, "SELECT used_bytes FROM users").await;
    assert_eq!(used, [(SIZE * UPLOADS as u64).to_string()]);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_upload_of_a_batch_has_its_own_result() {
    let world = World::new().await;
    let owner = world.user().await;
    world.upload(owner, "there", pattern(2, SIZE)).await;
    world.local.forget_requests();
    let uploads = [
        ("new", OnConflict::Fail),
        ("there", OnConflict::Fail),
        ("there", OnConflict::Rename),
        ("there", OnConflict::Version),
        ("other", OnConflict::Version),
    ];
    let uploads = uploads.map(|(name, on_conflict)| start(&world, owner, name, on_conflict)).into();

    let ended = end_together(&world, owner, uploads).await;

    let name = |name: &str| Ok(name.to_owned());
    let expected = [name("new"), Err(ErrorCode::NameTaken), name("there (1)"), name("there"), name("other")];
    assert_eq!(ended, expected);
    let used = texts(&world.context.db, "SELECT used_bytes FROM users").await;
    assert_eq!(used, [(SIZE * 5).to_string()]);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_exceeds_a_quota_fills_it_and_charges_nothing_else() {
    let world = World::new().await;
    let owner = world.user().await;
    execute(&world.context.db, &format!("UPDATE users SET quota_bytes = {}", SIZE * 7)).await.unwrap();
    let uploads =
        (0..20).map(|number| start(&world, owner, &format!("{number}"), OnConflict::Fail)).collect();

    let ended = end_together(&world, owner, uploads).await;

    let rejected = ended.iter().filter(|outcome| **outcome == Err(ErrorCode::QuotaExceeded)).count();
    assert_eq!((ended.iter().filter(|outcome| outcome.is_ok()).count(), rejected), (7, 13), "{ended:?}");
    let used = texts(&world.context.db, "SELECT used_bytes FROM users").await;
    assert_eq!(used, [(SIZE * 7).to_string()]);
    assert_invariants(&world).await;
}
