//! Every handwritten statement is valid for the migrated schema. A text that is complete in `sql_query("…")` is
//! prepared; a composed statement is sent by calling the function that sends it. Each piece of SQL in the sources must
//! be part of a text that was prepared or sent, so a new statement that this test does not reach makes it fail.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::connection::InstrumentationEvent;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use nightferry_core::checksum::UploadHasher;
use nightferry_core::db::enums::{ObjectState, RunTrigger};
use nightferry_core::db::file_changes::{self, Access};
use nightferry_core::db::files::NewVersion;
use nightferry_core::db::objects::NewUpload;
use nightferry_core::db::plans::{self, Parts};
use nightferry_core::db::policy::Policy;
use nightferry_core::db::replicas::{
    self, BrokenOff, ClaimTerms, Departing, Departure, EvictionCheck, EvictionClaim, Failure, FetchReason,
    Finished, FoundCopy, OnDemand, Order, ToRead, Until,
};
use nightferry_core::db::runs::{self, NewRun, RunScope};
use nightferry_core::db::uploads::{self, StoredUpload};
use nightferry_core::db::{catalog, drains, labels, objects, restores, run_failures};
use nightferry_core::error::Result as CoreResult;
use nightferry_core::ids::{FileId, FolderId, LeaseToken, ObjectId, UserId, WorkerId};
use nightferry_core::store::StoreRole;
use nightferry_core::tiering::policy;
use nightferry_tests::harness::World;

/// The statements sent, and the errors of the database.
#[derive(Debug, Default)]
struct Log {
    sent: Vec<String>,
    refused: Vec<String>,
}

impl Log {
    fn watch(conn: &mut AsyncPgConnection) -> Arc<Mutex<Self>> {
        let log = Arc::new(Mutex::new(Self::default()));
        let note = log.clone();
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::FinishQuery { query, error, .. } = event {
                let mut log = note.lock().unwrap();
                log.sent.push(squeeze(&query.to_string()));
                if let Some(error) = error.filter(|error| is_about_the_text(error)) {
                    log.refused.push(format!("{error}: {query}"));
                }
            }
        });
        log
    }
}

/// Whether the error means that the statement is invalid for the schema. A violated constraint does not.
fn is_about_the_text(error: &Error) -> bool {
    match error {
        Error::DatabaseError(kind, _) => !matches!(
            kind,
            DatabaseErrorKind::ForeignKeyViolation
                | DatabaseErrorKind::CheckViolation
                | DatabaseErrorKind::NotNullViolation
                | DatabaseErrorKind::UniqueViolation
        ),
        Error::NotFound => false,
        _ => true,
    }
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Sends each statement and rolls it back.
macro_rules! send {
    ($conn:ident: $($call:expr;)+) => {$(
        $conn.batch_execute("SAVEPOINT before").await.unwrap();
        let _ = $call.await;
        $conn.batch_execute("ROLLBACK TO before").await.unwrap();
    )+};
}

/// A string literal in the sources.
#[derive(Debug)]
struct Literal {
    file: PathBuf,
    text: String,
    /// Whether it is the whole argument of a `sql_query`.
    stands_alone: bool,
}

impl Literal {
    /// Whether it looks like SQL.
    fn is_sql(&self) -> bool {
        const WORDS: [&str; 12] = [
            "SELECT",
            "FROM",
            "WHERE",
            "UPDATE",
            "INSERT",
            "DELETE",
            "SET",
            "EXISTS",
            "CASE",
            "RETURNING",
            "AND",
            "NULL",
        ];
        self.text.split(|sign: char| !sign.is_ascii_alphabetic()).any(|word| WORDS.contains(&word))
    }

    /// The fixed parts between placeholders, which every text made from it contains.
    fn pieces(&self) -> Vec<String> {
        let mut pieces = vec![String::new()];
        let mut depth = 0;
        for sign in self.text.chars() {
            match sign {
                '{' => {
                    depth += 1;
                    pieces.push(String::new());
                }
                '}' => depth -= 1,
                _ if depth == 0 => pieces.last_mut().unwrap().push(sign),
                _ => {}
            }
        }
        pieces.iter().map(|piece| squeeze(piece)).filter(|piece| piece.len() >= 12).collect()
    }
}

/// The string literals of a source file, without comments.
fn literals(file: &Path) -> Vec<Literal> {
    let source = std::fs::read_to_string(file).unwrap();
    let mut found = Vec::new();
    let mut rest = source.as_str();
    let mut before = String::new();
    while let Some(sign) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("'\"'") {
            rest = &rest[3..];
        } else if sign == '"' {
            let (text, after) = literal(&rest[1..]);
            let stands_alone =
                before.trim_end().ends_with("sql_query(") && after.trim_start().starts_with([',', ')']);
            found.push(Literal { file: file.to_owned(), text, stands_alone });
            before.clear();
            rest = after;
        } else {
            before.push(sign);
            rest = &rest[sign.len_utf8()..];
        }
    }
    found
}

/// The text up to the closing quote, and the rest.
fn literal(source: &str) -> (String, &str) {
    let mut text = String::new();
    let mut rest = source;
    loop {
        let sign = rest.chars().next().unwrap();
        rest = &rest[sign.len_utf8()..];
        match sign {
            '"' => return (text, rest),
            '\\' if rest.starts_with('\n') => rest = rest.trim_start(),
            '\\' => {
                let escaped = rest.chars().next().unwrap();
                rest = &rest[escaped.len_utf8()..];
                text.push(if escaped == 'n' { '\n' } else { escaped });
            }
            _ => text.push(sign),
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // Running migrations and opening connections sends no statement that depends on the schema.
        if path.is_dir() {
            if name != "migrate" {
                sources(&path, found);
            }
        } else if !["tests.rs", "page.rs", "listen.rs", "tls.rs"].contains(&name.as_str()) {
            found.push(path);
        }
    }
}

/// Prepares a statement, or executes it if it is of a kind that cannot be prepared.
async fn prepare(conn: &mut AsyncPgConnection, text: &str) -> Result<(), String> {
    let first = text.split_whitespace().next().unwrap_or_default();
    let sql = match first {
        "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "WITH" => format!("PREPARE statement AS {text}"),
        _ => text.to_owned(),
    };
    conn.batch_execute("SAVEPOINT before").await.unwrap();
    let outcome = conn.batch_execute(&sql).await.map_err(|error| format!("{error}: {text}"));
    let _ = conn.batch_execute("ROLLBACK TO before").await;
    let _ = conn.batch_execute("DEALLOCATE ALL").await;
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_fits_the_schema() {
    let mut settings = World::with("policy.rules.1.name", "one");
    for (key, value) in [
        ("older_than", "1d"),
        ("newer_than", "9d"),
        ("unused_for", "1d"),
        ("used_within", "9d"),
        ("min_size", "1B"),
        ("max_size", "9B"),
        ("content_type", "video/*"),
        ("path", "/projects/**"),
        ("owner", "person@*"),
        ("location", "minio"),
        ("versions_behind", "1"),
    ] {
        settings = settings.set(&format!("policy.rules.1.{key}"), value);
    }
    let settings = settings.set("policy.rules.2.name", "two").set("policy.rules.2.location", "s3");
    let world = settings.build().await;
    let policy = policy::of(&world.context).unwrap();
    let no_rules = std::collections::BTreeMap::new();
    let plain = Policy { rules: &no_rules, ..policy.clone() };
    let mut conn = world.context.db.conn().await.unwrap();
    let conn: &mut AsyncPgConnection = &mut conn;
    let log = Log::watch(conn);
    conn.batch_execute("BEGIN").await.unwrap();

    catalogue(conn, &world).await;
    replicas_of_runs(conn, &policy, &plain).await;
    ends_of_copies(conn).await;
    evictions_and_moves(conn, &policy).await;
    others(conn, &policy).await;

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/db/src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let literals: Vec<Literal> =
        files.iter().flat_map(|file| literals(file)).filter(Literal::is_sql).collect();
    assert!(literals.len() > 200, "{}", literals.len());
    let mut wrong = Vec::new();
    let mut known = String::new();
    for literal in literals.iter().filter(|literal| literal.stands_alone) {
        known += &squeeze(&literal.text);
        known.push('\n');
        if let Err(error) = prepare(conn, &literal.text).await {
            wrong.push(error);
        }
    }
    let log = std::mem::take(&mut *log.lock().unwrap());
    wrong.extend(log.refused);
    known += &log.sent.join("\n");
    for literal in &literals {
        for piece in literal.pieces().into_iter().filter(|piece| !known.contains(piece.as_str())) {
            wrong.push(format!("not sent by this test, from {}: {piece}", literal.file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The account created by the rebuild.
const OWNER: UserId = UserId(uuid::Uuid::from_u128(7));

/// Runs first and is not rolled back: the statements of a rebuild need its temporary tables.
async fn catalogue(conn: &mut AsyncPgConnection, world: &World) {
    let now = Utc::now();
    let stores = (world.context.stores.names_with(StoreRole::Local), ["s3"]);
    catalog::take_over(conn).await.unwrap();
    catalog::make_tables(conn, catalog::Lifetime::Transaction).await.unwrap();
    let seen = |key: &str| catalog::Seen {
        key: key.to_owned(),
        store: "s3".to_owned(),
        ordinal: 0,
        size: 1,
        etag: "e".to_owned(),
        storage_class: None,
        content_type: "text/plain".to_owned(),
        sha256: "00".repeat(32),
        crc64nvme: "00".repeat(8),
        certainty: catalog::Certainty::Proved,
        is_labelled: true,
        block_crcs: None,
        key_id: None,
        envelope: None,
        verified_at: Some(now),
        at: now,
        object_id: uuid::Uuid::now_v7(),
        owner_id: OWNER.0,
        email: None,
        file_id: Some(uuid::Uuid::now_v7()),
        version: Some(1),
        name: "same".to_owned(),
        original: "same".to_owned(),
        folder: vec!["folder".to_owned()],
    };
    catalog::record_observed(conn, &[seen("a"), seen("b")]).await.unwrap();
    catalog::index_listed(conn).await.unwrap();
    catalog::candidates(conn, None, None, 1).await.unwrap();
    catalog::import_rows(conn, "x", |name, number| format!("{name} {number}")).await.unwrap();
    catalog::align(conn, &stores.0, "s3", &stores.1).await.unwrap();
    catalog::finish(conn).await.unwrap();
    for table in catalog::Table::ALL {
        let columns = [if table == catalog::Table::Replicas { "store" } else { "created_at" }.to_owned()];
        let statement = catalog::insert_statement(conn, table, &columns).await.unwrap();
        send!(conn: catalog::insert(conn, &statement, "[]"););
    }
    let (mut reader, _) = {
        conn.batch_execute("COMMIT; BEGIN").await.unwrap();
        catalog::Reader::begin(conn).await.unwrap()
    };
    for table in catalog::Table::ALL {
        reader.start(table).await.unwrap();
        while !reader.page().await.unwrap().is_empty() {}
    }
    conn.batch_execute("COMMIT; BEGIN").await.unwrap();
    // Created again for the statements prepared later.
    catalog::make_tables(conn, catalog::Lifetime::Connection).await.unwrap();
    catalog::unknown(conn, None, 1).await.unwrap();
    catalog::clear_observed(conn).await.unwrap();
    catalog::import_rows(conn, "x", |name, number| format!("{name} {number}")).await.unwrap();
    catalog::record_adopted(conn, &stores.0, "s3", &stores.1).await.unwrap();
}

async fn replicas_of_runs(conn: &mut AsyncPgConnection, policy: &Policy<'_>, no_rules: &Policy<'_>) {
    let (object, down) = (ObjectId::new(), ["nas".to_owned()]);
    let (worker, lease) = (WorkerId::new(), Duration::from_secs(9));
    let terms = ClaimTerms { worker, limit: 1, lease, down: &[], full: &[] };
    let limited = ClaimTerms { down: &down, full: &down, ..terms };
    let everything = RunScope::default();
    let scope = RunScope {
        user_id: Some(UserId::new()),
        folder_id: Some(FolderId::new()),
        file_ids: Some(vec![FileId::new()]),
        retry_failed: true,
        plan_id: None,
    };
    let parts = Parts { threshold: 1, size: 1, block: 1, most: 1, small: 1 };
    let new_run =
        NewRun { trigger: RunTrigger::Cli, requested_by: None, tick: None, scope: RunScope::default() };
    let run = runs::insert(conn, &new_run).await.unwrap().id;
    let plan = plans::insert(conn, None, &everything, "x", Utc::now()).await.unwrap().id;
    send!(conn:
        replicas::claim(conn, run, terms);
        replicas::claim(conn, run, limited);
        replicas::claim_by_size(conn, true, run, terms);
        replicas::claim_by_size(conn, false, run, limited);
        replicas::claim_on_demand(conn, "s3", OnDemand::Drained, terms);
        replicas::claim_on_demand(conn, "minio", OnDemand::Everything, limited);
        replicas::record_sizes(conn, run, &[object]);
        replicas::renew_leases(conn, terms.worker, &[LeaseToken::new()], terms.lease);
        replicas::confirm_lease(conn, object, "s3", LeaseToken::new(), Some("x"), terms.lease);
        replicas::reclaim_expired(conn);
        replicas::plan_until(conn, run, policy, &everything, Until::RunRequested(run));
        replicas::plan_until(conn, run, policy, &scope, Until::Now);
        replicas::plan_until(conn, run, no_rules, &everything, Until::Now);
        replicas::plan_until(conn, run, no_rules, &scope, Until::Now);
        replicas::queue_by_policy(conn, "minio", policy, &[object]);
        replicas::queued_in(conn, run);
        replicas::next_due(conn, run);
        replicas::release_queued(conn, run, 1);
        replicas::any_in_flight(conn, run);
        replicas::queue_repairs(conn, &["minio"], Some(run), true);
        replicas::can_repair(conn);
        replicas::objects_lost(conn);
        plans::fill(conn, plan, policy, &everything, parts);
        plans::fill(conn, plan, no_rules, &scope, parts);
        plans::fill(conn, plan, no_rules, &RunScope { retry_failed: true, ..RunScope::default() }, parts);
        plans::Execution::new(plan, run).step(conn);
        plans::changes(conn, plan, 1);
        plans::purge(conn, 1);
        runs::settle(conn, run);
        run_failures::page(conn, run, None, 1, policy.patience);
    );
}

async fn upload(conn: &mut AsyncPgConnection, id: ObjectId) -> CoreResult<()> {
    let new = NewUpload {
        id,
        owner_id: OWNER,
        key: "key",
        state: ObjectState::Uploading,
        content_type: "text/plain",
        upload_store: "minio",
        upload_expires_at: Utc::now(),
    };
    objects::begin_upload(conn, &new).await?;
    let digest = UploadHasher::new().finish();
    let version = NewVersion {
        owner_id: OWNER,
        created_by: OWNER,
        folder_id: FolderId::new(),
        filename: "a",
        original_filename: "a",
        object_id: id,
        size: 0,
        content_type: "text/plain",
        store: "minio",
    };
    let stored = StoredUpload { file: FileId::new(), version, digest: &digest, etag: "e" };
    objects::finish_upload(conn, id, &digest, "minio", "e").await?;
    uploads::create_files(conn, &[stored]).await.map(drop)
}

async fn ends_of_copies(conn: &mut AsyncPgConnection) {
    let (object, token) = (ObjectId::new(), LeaseToken::new());
    let envelope =
        nightferry_core::encryption::EncryptionEnvelope { key_id: "k".to_owned(), wrapped_key: vec![1] };
    let copy = Finished {
        object_id: object,
        store: "s3".to_owned(),
        token,
        etag: "e".to_owned(),
        envelope: Some(envelope.clone()),
        size: 1,
    };
    let failure = Failure { error: "x", give_up: false, max_attempts: 3, delay: Duration::from_secs(1) };
    let read = ToRead {
        object_id: object,
        store: "s3".to_owned(),
        verified_at: Some(Utc::now()),
        key: "k".to_owned(),
        size: 1,
        sha256: Vec::new(),
        key_id: None,
        envelope: None,
        suspect: false,
    };
    let found = FoundCopy {
        object_id: object,
        store: "s3",
        etag: "e",
        storage_class: None,
        envelope: Some(&envelope),
    };
    let broken = BrokenOff { object_id: object, key: "k".to_owned(), upload_id: "u".to_owned() };
    send!(conn:
        replicas::finish(conn, &["minio"], &["s3"], &[], std::slice::from_ref(&copy));
        replicas::fail(conn, object, "s3", token, &failure);
        replicas::release(conn, token, object, "s3", None, Duration::ZERO);
        replicas::begin_multipart(conn, object, "s3", token, Some("u"), Some(1), Some(&envelope));
        replicas::delete_multipart(conn, object, "s3");
        replicas::delete_interrupted(conn, "s3", &broken);
        replicas::mark_lost(conn, object, "s3", &["s3"], "x", None);
        replicas::mark_suspect(conn, object, "s3", &["s3"], "x", None);
        replicas::condemn(conn, object, "s3", "x", None);
        replicas::mark_verified(conn, &read, Some(&envelope));
        replicas::mark_found_again(conn, &read, None, &["s3"]);
        replicas::adopt(conn, &found, &["minio"], &["s3"]);
        restores::record_class(conn, object, "s3", Some("GLACIER"));
        upload(conn, object);
        objects::remove_unreferenced(conn, &[object]);
        objects::postpone_removals(conn, &[object]);
        objects::delete(conn, object);
    );
}

async fn evictions_and_moves(conn: &mut AsyncPgConnection, policy: &Policy<'_>) {
    let (object, token, worker) = (ObjectId::new(), LeaseToken::new(), WorkerId::new());
    let lease = Duration::from_secs(9);
    let claim = EvictionClaim {
        local: "minio",
        clouds: &["s3"],
        keeping: &["two"],
        grace: Duration::ZERO,
        worker,
        token,
        lease,
    };
    let spare = Order::ByRule { rule: "one", after: Duration::ZERO };
    let from = Departure { store: "minio", to: &["nas"], primary_stores: &["s3"], worker, token, lease };
    let check =
        EvictionCheck { store: "minio", moving_to: &["nas"], token, least: lease, max_age: Some(lease) };
    send!(conn:
        replicas::next_in_order(conn, &claim, spare, None, 1);
        replicas::next_in_order(conn, &claim, Order::LeastUsed, Some((DateTime::UNIX_EPOCH, object)), 1);
        replicas::lock_evictable(conn, &claim, spare, &[object]);
        replicas::lock_evictable(conn, &claim, Order::LeastUsed, &[object]);
        replicas::claim_evictions(conn, &claim, spare.reason(), &[object]);
        replicas::check_evictions(conn, check, &[object]);
        replicas::cancel_evictions(conn, "minio", &["s3"], token, &[object], true);
        replicas::cancel_evictions(conn, "minio", &["s3"], token, &[object], false);
        replicas::reclaim_evictions(conn, &claim, 1);
        replicas::renew_evictions(conn, "minio", token, &[object], lease);
        replicas::release_evictions(conn, "minio", token, &[object]);
        replicas::finish_evictions(conn, "minio", &["s3"], token, &[object]);
        replicas::mark_surplus(conn, object, "minio", worker, token, lease);
        replicas::leaving(conn, "minio", &["nas"], lease, object, 1);
        replicas::queue_moves(conn, "minio", "nas", None, 0, &[object]);
        replicas::without_place(conn, &[object], &["nas"]);
        replicas::retry_moves(conn, "minio", &["nas"]);
        replicas::cancel_queued_moves(conn);
        replicas::delete_queued(conn, "minio");
        replicas::leave_runs(conn, "minio");
        replicas::claim_leftovers(conn, from, 1);
        replicas::claim_unverified(conn, "nas", from, &[object]);
        replicas::claim_departures(conn, from, Departing::Doubtful, &[object]);
        replicas::movable(conn, "minio", "nas", object, 1);
        replicas::begin_moves(conn, "minio", "nas", &[object]);
        replicas::retry_failed(conn, "nas", &[object]);
        replicas::retry_all_failed(conn);
        replicas::cancel_moves(conn, "minio", &[object]);
        replicas::move_only_among(conn, &["minio"]);
        replicas::review(conn, policy, object, 1);
        replicas::decide(conn, policy, object);
    );
    // A running copy, so that there is something to delete.
    let on_its_way = "INSERT INTO replicas (object_id, store, state, verified_at, moves_to) \
                      SELECT id, 'minio', 'present', now(), 'nas' FROM objects LIMIT 1";
    conn.batch_execute(on_its_way).await.unwrap();
    send!(conn: replicas::delete_queued_moves(conn););
}

async fn others(conn: &mut AsyncPgConnection, policy: &Policy<'_>) {
    let (object, file, now) = (ObjectId::new(), FileId::new(), Utc::now());
    send!(conn:
        replicas::count_by_state(conn);
        replicas::fold_counts(conn);
        drains::begin(conn, "minio", None);
        drains::left_in(conn, "minio");
        replicas::queue_fetches(conn, "minio", &["minio"], FetchReason::Prefetch, &[object], None);
        replicas::queue_fetches(conn, "minio", &["minio"], FetchReason::CacheOnRead, &[object], Some(1));
        replicas::local_places(conn, &["minio"], &["one"], object, 1);
        replicas::queue_local_copies(conn, &[(object, "nas")]);
        replicas::mark_evictable(conn, &policy.locals, &policy.clouds, &[object]);
        replicas::correct_evictable(conn, &policy.locals, &policy.clouds);
        labels::place(conn, OWNER, FolderId::new());
        file_changes::record_accesses(conn, &["minio"], &[Access { file, object, at: now }]);
    );
    // As in a database that is older than the counts.
    conn.batch_execute("DELETE FROM replica_count_base").await.unwrap();
    send!(conn:
        replicas::count_by_state(conn);
        replicas::complete_counts(conn);
    );
}
