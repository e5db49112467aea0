//! The work of the database for an operation depends on the size of the operation, not on the number of files. Measured as
//! pages of tables and indexes, with 20,000 and with 200,000 files: unlike time, they do not depend on the machine.

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use nightferry_core::db::migrate::{NameSearch, ensure_name_search};
use nightferry_core::ids::{UserId, WorkerId};
use nightferry_core::services::Services;
use nightferry_scale::api::Api;
use nightferry_scale::operations;
use nightferry_scale::rows::{self, Kind};
use nightferry_tests::harness::{World, database, eventually};

const FEW: i64 = 20_000;
const MANY: i64 = 200_000;
/// New files to plan.
const NEW: i64 = 200;
/// With ten times as many files, work that depends on them is ten times as much. An index can be one level higher, which
/// is half as much again.
const MAX_RATIO: i64 = 2;
/// Differences that are not judged: a row on another page, or an entry of an index that is no longer valid.
const FLOOR: i64 = 300;

/// An installation with files, and the account that has a fifth of them.
struct Installation {
    world: World,
    largest: UserId,
    files: i64,
    is_name_search_indexed: bool,
}

impl Installation {
    async fn with_files(files: i64) -> Self {
        // With one connection, its statistics are those of all statements.
        let world = World::with("database.pool_size", 1)
            .set("database.statement_timeout", "120s")
            .in_memory()
            .build()
            .await;
        let largest = world.user().await;
        let mut made = Self { world, largest, files, is_name_search_indexed: false };
        made.execute(rows::in_bulk(rows::files(largest, Kind::Settled, 1, files))).await;
        let indexed = ensure_name_search(&made.world.context.db).await.unwrap();
        made.is_name_search_indexed = indexed == NameSearch::Indexed;
        if !made.is_name_search_indexed {
            println!("skipped: the search of the largest account, {indexed:?}");
        }
        made.execute(rows::settle()).await;
        made
    }

    async fn execute(&self, statements: Vec<String>) {
        let mut conn = self.world.context.db.conn().await.unwrap();
        let conn: &mut AsyncPgConnection = &mut conn;
        for statement in statements {
            conn.batch_execute(&statement).await.unwrap();
        }
    }

    /// The number of pages of tables and indexes that were touched so far.
    async fn pages(&self) -> i64 {
        let db = &self.world.context.db;
        // Otherwise a connection publishes its statistics once per second at most.
        database::execute(db, "SELECT pg_stat_force_next_flush()").await.unwrap();
        let sql = "SELECT sum(coalesce(heap_blks_read, 0) + coalesce(heap_blks_hit, 0) \
                              + coalesce(idx_blks_read, 0) + coalesce(idx_blks_hit, 0))::bigint \
                   FROM pg_statio_user_tables";
        database::texts(db, sql).await[0].parse().unwrap()
    }

    /// The number of pages that an operation touches, and its result.
    async fn cost<T>(&self, act: impl Future<Output = T>) -> (i64, T) {
        let before = self.pages().await;
        let result = act.await;
        (self.pages().await - before, result)
    }

    /// The same for `/metrics`, of an API of its own, because counts are reused for a while.
    async fn cost_of_metrics(&self) -> i64 {
        let services = Services::of(self.world.context_with(&[])).unwrap();
        let (pages, text) = self
            .cost(async {
                let api = Api::start(services).unwrap();
                let text = api.get("/metrics").await.unwrap();
                api.stop().await.unwrap();
                // Connections publish the rest of their statistics before they are closed.
                let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                                  AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
                eventually("the connections of the API are closed", || async {
                    let count = database::texts(&self.world.context.db, others).await;
                    (count[0] == "0").then_some(())
                })
                .await;
                text
            })
            .await;
        assert!(text.contains("nightferry_database_up 1"), "{text}");
        pages
    }

    /// The number of pages that each operation touches.
    async fn costs(&self) -> Vec<(&'static str, i64)> {
        let (context, first) = (&self.world.context, self.files + 1);
        let mut costs = Vec::new();

        self.execute(rows::files(self.largest, Kind::New, first, first + NEW - 1)).await;
        operations::request(context).await.unwrap();
        let (pages, run) = self.cost(async { operations::plan(context).await.unwrap().unwrap() }).await;
        assert_eq!(run.files_total, NEW);
        costs.push(("plan", pages));
        operations::make_all_copies(context, run.id).await.unwrap();

        let run = operations::request(context).await.unwrap().id;
        let first = first + NEW;
        self.execute(rows::files(self.largest, Kind::Queued(run), first, first + self.files / 10 - 1)).await;
        self.execute(vec![rows::start(run)]).await;
        self.execute(rows::settle()).await;
        let claim = async { operations::claim(context, run, WorkerId::new(), 10).await.unwrap() };
        let (pages, claims) = self.cost(claim).await;
        assert_eq!(claims.len(), 10);
        costs.push(("claim", pages));
        let copies = operations::finished(claims);
        let (pages, committed) =
            self.cost(async { operations::commit(context, &copies).await.unwrap() }).await;
        assert_eq!(committed, 10);
        costs.push(("commit", pages));

        let page = async { operations::first_page(context, self.largest, None).await.unwrap() };
        let (pages, found) = self.cost(page).await;
        assert_eq!(found, 50);
        costs.push(("first page", pages));
        let part = Some(rows::IN_LARGEST_ACCOUNT);
        let page = async { operations::first_page(context, self.largest, part).await.unwrap() };
        let (pages, found) = self.cost(page).await;
        assert_eq!(found, 1);
        // Without the extension for its index, a search reads all names of the account.
        if self.is_name_search_indexed {
            costs.push(("search", pages));
        }
        let (pages, shown) = self.cost(async { operations::sync_status(context).await.unwrap() }).await;
        assert!(shown > 0);
        costs.push(("sync status", pages));
        costs.push(("metrics", self.cost_of_metrics().await));
        for (name, least_used) in [("evict by rule", false), ("evict by watermark", true)] {
            let select = async { operations::evict_candidates(context, least_used).await.unwrap() };
            let (pages, examined) = self.cost(select).await;
            assert!(examined > 0);
            costs.push((name, pages));
        }
        let (pages, _) = self.cost(async { operations::cancel(context, run).await.unwrap() }).await;
        costs.push(("cancel", pages));
        operations::begin_drain(context).await.unwrap();
        let (pages, left) = self.cost(async { operations::drain_progress(context).await.unwrap() }).await;
        assert!(left >= self.files / 2);
        costs.push(("drain progress", pages));
        costs
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cost_of_operations_does_not_depend_on_the_number_of_files() {
    let costs = async |files| Installation::with_files(files).await.costs().await;

    let (few, many) = tokio::join!(costs(FEW), costs(MANY));

    let growing: Vec<String> = few
        .iter()
        .zip(&many)
        .filter(|((_, few), (_, many))| *many > few * MAX_RATIO + FLOOR)
        .map(|((name, few), (_, many))| format!("{name}: {few} pages with {FEW} files, {many} with {MANY}"))
        .collect();
    assert!(growing.is_empty(), "{growing:#?}");
}
