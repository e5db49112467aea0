//! Leases: one holder at a time, takeover after a crash, and cancellation of the work when the lease was lost.

use std::time::Duration;

use nightferry_core::db::leases;
use nightferry_core::error::Result;
use nightferry_core::ids::LeaseToken;
use nightferry_core::tiering::lease::{once_every, with_lease};
use nightferry_tests::harness::World;
use nightferry_tests::harness::database::{execute, texts};
use tokio_util::sync::CancellationToken;

const LIFE: Duration = Duration::from_secs(600);

async fn take(world: &World, name: &str) -> bool {
    let mut conn = world.context.db.conn().await.unwrap();
    leases::take(&mut conn, name, LeaseToken::new(), LIFE).await.unwrap()
}

async fn names(world: &World) -> Vec<String> {
    texts(&world.context.db, "SELECT name FROM leases ORDER BY name").await
}

async fn expire(world: &World) {
    execute(&world.context.db, "UPDATE leases SET until = now() - interval '1s'").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_has_one_holder_until_it_is_released_or_expires() {
    let world = World::new().await;
    let (db, first, second) = (&world.context.db, LeaseToken::new(), LeaseToken::new());
    let mut conn = db.conn().await.unwrap();
    let tries = (0..6).map(|_| take(&world, "contended"));
    let taken = futures_util::future::join_all(tries).await;
    assert_eq!(taken.into_iter().filter(|taken| *taken).count(), 1);

    assert!(leases::take(&mut conn, "a", first, LIFE).await.unwrap());
    assert!(!leases::take(&mut conn, "a", second, LIFE).await.unwrap());
    assert!(take(&world, "b").await, "another name is a separate lease");
    expire(&world).await;
    assert!(leases::renew(&mut conn, "a", first, LIFE).await.unwrap(), "it has expired and was not acquired");
    expire(&world).await;
    assert!(leases::take(&mut conn, "a", second, LIFE).await.unwrap());
    assert!(!leases::renew(&mut conn, "a", first, LIFE).await.unwrap());
    leases::release(&mut conn, "a", first).await.unwrap();
    assert!(!take(&world, "a").await, "only its holder releases it");
    leases::release(&mut conn, "a", second).await.unwrap();
    assert!(take(&world, "a").await);

    execute(db, "UPDATE leases SET until = now() - interval '25h' WHERE name = 'b'").await.unwrap();
    assert_eq!(leases::purge(&mut conn).await.unwrap(), 1);
    assert_eq!(names(&world).await, ["a", "contended"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_the_previous_version_shares_the_leases() {
    let world = World::new().await;
    // The statements of that version.
    let old = |token: u32| {
        format!(
            "INSERT INTO chores (name, lease_token, lease_until) \
             VALUES ('drain s3', '00000000-0000-0000-0000-{token:012}', now() + make_interval(secs => 600)) \
             ON CONFLICT (name) DO UPDATE SET lease_token = EXCLUDED.lease_token, lease_until = EXCLUDED.lease_until \
             WHERE chores.lease_token = EXCLUDED.lease_token OR chores.lease_until < now()"
        )
    };
    let holder = async || texts(&world.context.db, "SELECT right(token::text, 1) FROM leases").await;
    execute(&world.context.db, &old(1)).await.unwrap();
    execute(&world.context.db, &old(2)).await.unwrap();
    assert_eq!(holder().await, ["1"]);
    assert!(!take(&world, "drain s3").await);
    execute(&world.context.db, "DELETE FROM chores WHERE name = 'drain s3'").await.unwrap();
    assert!(take(&world, "drain s3").await);
    let ours = holder().await;
    execute(&world.context.db, &old(3)).await.unwrap();
    assert_eq!(holder().await, ours);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_renews_its_lease_and_is_dropped_when_another_process_acquires_it() {
    let world = World::with("tiering.lease", "500ms").set("tiering.heartbeat", "100ms").build().await;
    let context = &world.context;
    let lasting = async {
        tokio::time::timeout(Duration::from_millis(1500), std::future::pending::<()>()).await.unwrap_err();
        Ok(take(&world, "work").await)
    };
    assert_eq!(with_lease(context, "work", lasting).await.unwrap(), Some(false), "it was renewed");
    assert!(names(&world).await.is_empty(), "it was released");

    let stolen = async {
        execute(&context.db, "UPDATE leases SET token = gen_random_uuid()").await.unwrap();
        std::future::pending::<Result<()>>().await
    };
    assert_eq!(with_lease(context, "work", stolen).await.unwrap(), None);
    expire(&world).await;
    let failing =
        async { Err::<(), _>(nightferry_core::error::Error::NotFound(nightferry_core::error::Noun::Store)) };
    with_lease(context, "work", failing).await.unwrap_err();
    assert!(names(&world).await.is_empty(), "work that fails releases it too");
}

#[tokio::test(flavor = "multi_thread")]
async fn periodic_work_is_done_again_only_when_it_is_due_or_was_interrupted() {
    let world = World::new().await;
    let stop = CancellationToken::new();
    let work = async || once_every(&world.context, "review", LIFE, &stop, async { Ok(()) }).await.unwrap();
    assert_eq!(work().await, Some(()));
    assert_eq!(work().await, None);
    expire(&world).await;
    stop.cancel();
    assert_eq!(work().await, Some(()));
    assert_eq!(work().await, Some(()), "interrupted work is not finished");
}
