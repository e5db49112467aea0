//! Rows as uploads, runs and evictions leave them, in few statements: for databases of a size that is not practical to
//! upload. Everything about a file follows from its number, so that databases of different sizes have the same shape.

use nightferry_core::ids::{RunId, UserId};

/// Files inserted by one statement.
const PIECE: i64 = 250_000;
/// Numbers that share a small account. A fifth of each block belongs to the largest account instead.
const BLOCK: i64 = 2_000;
/// Copies in trouble, leases and uploads in progress only exist among the first files: their number does not grow with
/// that of all files.
const FIRST: i64 = 2_000;

/// The email of an account that has at most 2,000 files.
pub const SMALL_ACCOUNT: &str = "user-0@example.net";
/// The name of one of its files: of number 1.
pub const IN_SMALL_ACCOUNT: &str = "photo-1.jpg";
/// The name of a file of the largest account: of number 5.
pub const IN_LARGEST_ACCOUNT: &str = "photo-5.jpg";

/// Which rows files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Synced some time ago. Six of ten are still in the local store, the others were evicted; some are pinned, in the
    /// trash, or have an older version. A run has nothing to do for them: failed copies are not due, and lost ones are
    /// suspect.
    Settled,
    /// Uploaded just now.
    New,
    /// Uploaded just now, and queued in this run.
    Queued(RunId),
}

/// Statements that insert the files with these numbers. `largest` is an account with a root folder, which gets every fifth
/// file; other accounts are inserted as well.
pub fn files(largest: UserId, kind: Kind, first: i64, last: i64) -> Vec<String> {
    let mut statements = Vec::new();
    let mut from = first;
    while from <= last {
        let to = last.min(from + PIECE - 1);
        statements.extend(piece(&Piece { largest, kind, first: from, last: to }));
        from = to + 1;
    }
    statements
}

/// Wraps statements that insert many rows: foreign keys, which are valid by construction, are not checked, and secondary
/// indexes are created again at the end. All other triggers fire. To be executed on one connection, outside of a
/// transaction, while nobody else uses the database.
pub fn in_bulk(statements: Vec<String>) -> Vec<String> {
    let mut all: Vec<String> = BEGIN.iter().map(|sql| (*sql).to_owned()).collect();
    all.extend(statements);
    all.extend(END.iter().map(|sql| (*sql).to_owned()));
    all
}

/// Does the work of autovacuum, and records the used bytes of all accounts.
pub fn settle() -> Vec<String> {
    let used = "UPDATE users u SET used_bytes = s.bytes FROM ( \
                    SELECT owner_id, sum(size)::bigint AS bytes FROM objects WHERE state = 'stored' GROUP BY owner_id \
                ) s WHERE s.owner_id = u.id AND u.used_bytes <> s.bytes";
    [used, "VACUUM ANALYZE", "CHECKPOINT"].map(str::to_owned).to_vec()
}

/// Puts everything that is queued for the cloud into a run, and starts it, as planning the run would.
pub fn queue_again(run: RunId) -> Vec<String> {
    vec![
        format!("UPDATE replicas SET run_id = '{run}' WHERE store = 's3' AND state = 'queued'"),
        start(run),
        "VACUUM ANALYZE replicas".to_owned(),
    ]
}

/// Starts a run whose copies were inserted.
pub fn start(run: RunId) -> String {
    format!(
        "UPDATE runs SET status = 'running', started_at = now(), files_total = q.files, bytes_total = q.bytes \
         FROM (SELECT count(*) AS files, coalesce(sum(o.size), 0)::bigint AS bytes \
               FROM replicas r JOIN objects o ON o.id = r.object_id WHERE r.run_id = '{run}' AND r.state = 'queued') q \
         WHERE id = '{run}'"
    )
}

/// Before rows are inserted in bulk. Constraints keep their indexes.
const BEGIN: [&str; 7] = [
    "SET synchronous_commit = off",
    "SET maintenance_work_mem = '512MB'",
    "CREATE TEMP TABLE held_indexes AS \
     SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition FROM pg_index i \
     WHERE i.indrelid IN ('objects'::regclass, 'files'::regclass, 'file_versions'::regclass, 'replicas'::regclass) \
       AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid)",
    "CREATE TEMP TABLE held_triggers AS \
     SELECT t.tgrelid::regclass::text AS name, t.tgname AS called FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
     WHERE NOT t.tgisinternal AND t.tgenabled = 'O' AND c.relnamespace = 'public'::regnamespace",
    "DO $$ DECLARE held record; BEGIN \
         FOR held IN SELECT * FROM held_indexes LOOP EXECUTE format('DROP INDEX %s', held.name); END LOOP; \
     END $$",
    "DO $$ DECLARE held record; BEGIN \
         FOR held IN SELECT * FROM held_triggers LOOP \
             EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', held.name, held.called); \
         END LOOP; \
     END $$",
    // Only triggers that are enabled always fire: those of foreign keys do not.
    "SET session_replication_role = replica",
];

/// Afterwards.
const END: [&str; 6] = [
    "RESET session_replication_role",
    "DO $$ DECLARE held record; BEGIN \
         FOR held IN SELECT * FROM held_triggers LOOP \
             EXECUTE format('ALTER TABLE %s ENABLE TRIGGER %I', held.name, held.called); \
         END LOOP; \
     END $$",
    "DO $$ DECLARE held record; BEGIN \
         FOR held IN SELECT * FROM held_indexes LOOP EXECUTE held.definition; END LOOP; \
     END $$",
    "DROP TABLE held_indexes, held_triggers",
    "RESET maintenance_work_mem",
    "RESET synchronous_commit",
];

struct Piece {
    largest: UserId,
    kind: Kind,
    first: i64,
    last: i64,
}

/// An id that increases with the number, like ids in production do with time, and is older than all that are generated by
/// the application. `salt` distinguishes the tables.
fn id(salt: &str, number: &str) -> String {
    format!(
        "(lpad(to_hex(1600000000000 + {number}), 12, '0') || '70008000' || left(md5('{salt}' || {number}), 12))::uuid"
    )
}

impl Piece {
    /// The facts about each file, as `g`.
    fn base(&self) -> String {
        let largest = self.largest;
        let block = format!("((n - 1) / {BLOCK})");
        let since = match self.kind {
            Kind::Settled => "now() - interval '60 days' - interval '1 second' * (n % 2592000)",
            Kind::New | Kind::Queued(_) => "now()",
        };
        let among_first = |which: &str| format!("(n <= {FIRST} AND {which})");
        format!(
            "(SELECT n, {object} AS object, {file} AS file, {previous} AS previous, {since} AS since, \
                     CASE WHEN n % 5 = 0 THEN '{largest}'::uuid ELSE {user} END AS owner, \
                     CASE WHEN n % 5 = 0 THEN (SELECT id FROM folders WHERE owner_id = '{largest}' AND parent_id IS NULL) \
                          WHEN n % 2 = 1 THEN {folder} ELSE {root} END AS folder, \
                     (ARRAY['report', 'photo', 'invoice', 'video'])[(1 + n % 4)::int] || '-' || n || '.' \
                         || (ARRAY['pdf', 'jpg', 'pdf', 'mp4'])[(1 + n % 4)::int] AS name, \
                     (ARRAY['application/pdf', 'image/jpeg', 'application/pdf', 'video/mp4'])[(1 + n % 4)::int] AS type, \
                     4096 + n * 7919 % 1048576 AS size, \
                     n % 20 = 0 AS has_previous, n % 200 = 3 AS is_pinned, n % 10 < 6 AS is_local, \
                     {failed} AS has_failed, {lost} AS is_lost, {evicting} AS is_evicting, {copying} AS is_copying \
              FROM generate_series({first}::bigint, {last}::bigint) n) g",
            object = id("o", "n"),
            file = id("f", "n"),
            previous = id("p", "n"),
            user = id("u", &block),
            root = id("d", &block),
            folder = id("e", &block),
            failed = among_first("n % 20 = 5"),
            lost = among_first("n % 20 = 15"),
            evicting = among_first("n % 200 = 11"),
            copying = among_first("n % 200 = 16"),
            first = self.first,
            last = self.last,
        )
    }
}

fn piece(piece: &Piece) -> Vec<String> {
    let mut statements = accounts(piece);
    statements.extend(objects(piece));
    statements.push(files_with_versions(piece));
    statements.extend(match piece.kind {
        Kind::Settled => settled_copies(piece),
        Kind::New => vec![uploaded_copies(piece)],
        Kind::Queued(run) => vec![uploaded_copies(piece), queued_copies(piece, run)],
    });
    if piece.kind == Kind::Settled && piece.first == 1 {
        statements.push(ended_runs());
    }
    statements
}

fn accounts(piece: &Piece) -> Vec<String> {
    let blocks = format!(
        "FROM generate_series({}::bigint, {}::bigint) n ON CONFLICT DO NOTHING",
        (piece.first - 1) / BLOCK,
        (piece.last - 1) / BLOCK
    );
    let (user, root, folder) = (id("u", "n"), id("d", "n"), id("e", "n"));
    vec![
        format!(
            "INSERT INTO users (id, email, password_hash) SELECT {user}, 'user-' || n || '@example.net', 'none' {blocks}"
        ),
        format!(
            "INSERT INTO folders (id, owner_id, parent_id, name) SELECT {root}, {user}, NULL::uuid, '' {blocks}"
        ),
        format!(
            "INSERT INTO folders (id, owner_id, parent_id, name) SELECT {folder}, {user}, {root}, 'projects' {blocks}"
        ),
    ]
}

fn objects(piece: &Piece) -> Vec<String> {
    let base = piece.base();
    let stored = |object: &str, which: &str| {
        format!(
            "INSERT INTO objects (id, owner_id, key, state, content_type, size, sha256, crc64nvme, upload_store, created_at, \
                                  stored_at) \
             SELECT {object}, owner, 'user-' || owner || '/' || {object} || '-' || name, 'stored', type, size, \
                    sha256({object}::text::bytea), substring(sha256({object}::text::bytea) FOR 8), 'minio', since, since \
             FROM {base} WHERE {which}"
        )
    };
    let mut statements = vec![stored("object", "true")];
    if piece.kind != Kind::Settled {
        return statements;
    }
    statements.push(stored("previous", "has_previous"));
    // Uploads in progress, deletions in progress, and what is remembered of deleted objects.
    let unfinished = |salt: &str, state: &str, expires: &str, most: i64| {
        format!(
            "INSERT INTO objects (id, owner_id, key, state, content_type, upload_store, upload_expires_at) \
             SELECT {id}, owner, 'user-' || owner || '/' || {id} || '-' || name, '{state}', type, 'minio', {expires} \
             FROM {base} WHERE n <= {most}",
            id = id(salt, "n")
        )
    };
    statements.push(unfinished("w", "uploading", "now() + interval '1 day'", 50));
    statements.push(unfinished("x", "removing", "NULL::timestamptz", 20));
    statements.push(format!(
        "INSERT INTO removed_objects (object_id, removed_at) SELECT {}, since FROM {base} WHERE n % 50 = 0",
        id("r", "n")
    ));
    statements
}

fn files_with_versions(piece: &Piece) -> String {
    let base = piece.base();
    let is_settled = piece.kind == Kind::Settled;
    // The version is checked at the end of the transaction, so both are inserted by one statement.
    format!(
        "WITH inserted AS ( \
             INSERT INTO files (id, owner_id, folder_id, filename, original_filename, current_version, file_size, content_type, \
                                storage_location, synced_at, pinned, last_accessed_at, uploaded_at, created_at, updated_at, \
                                deleted_at) \
             SELECT file, owner, folder, name, name, CASE WHEN {is_settled} AND has_previous THEN 2 ELSE 1 END, size, type, \
                    CASE WHEN {is_settled} AND NOT has_failed AND NOT is_lost THEN 's3' ELSE 'minio' END, \
                    CASE WHEN {is_settled} AND NOT has_failed AND NOT is_lost THEN since END, {is_settled} AND is_pinned, \
                    CASE WHEN {is_settled} AND n % 10 = 4 THEN now() - interval '1 second' * (n * 104729 % 2592000) END, \
                    since, since, since, CASE WHEN {is_settled} AND n % 50 = 7 THEN now() - interval '10 days' END \
             FROM {base} \
         ) \
         INSERT INTO file_versions (file_id, number, object_id, created_by, created_at) \
         SELECT file, CASE WHEN {is_settled} AND has_previous THEN 2 ELSE 1 END, object, owner, since FROM {base} \
         UNION ALL \
         SELECT file, 1, previous, owner, since FROM {base} WHERE {is_settled} AND has_previous"
    )
}

/// The local copies of files that were uploaded just now.
fn uploaded_copies(piece: &Piece) -> String {
    format!(
        "INSERT INTO replicas (object_id, store, state, etag, rule, verified_at) \
         SELECT object, 'minio', 'present', md5(object::text), 'upload', now() FROM {}",
        piece.base()
    )
}

fn queued_copies(piece: &Piece, run: RunId) -> String {
    format!(
        "INSERT INTO replicas (object_id, store, state, rule, run_id, copy_reason) \
         SELECT object, 's3', 'queued', 'default', '{run}'::uuid, 'policy' FROM {}",
        piece.base()
    )
}

fn settled_copies(piece: &Piece) -> Vec<String> {
    let base = piece.base();
    // Pinned copies stay the longest, so they are the first of those that could be evicted.
    let local = format!(
        "INSERT INTO replicas (object_id, store, state, etag, rule, copy_reason, evict_reason, lease_token, lease_until, \
                               lease_worker, verified_at, last_used_at, spare_since) \
         SELECT object, 'minio', \
                (CASE WHEN is_copying THEN 'copying' WHEN is_evicting THEN 'evicting' ELSE 'present' END)::replica_state, \
                md5(object::text), CASE WHEN is_copying THEN 'prefetch' ELSE 'upload' END, \
                CASE WHEN is_copying THEN 'prefetch'::copy_reason END, CASE WHEN is_evicting THEN 'policy'::evict_reason END, \
                CASE WHEN is_copying OR is_evicting THEN gen_random_uuid() END, \
                CASE WHEN is_copying OR is_evicting THEN now() + interval '1 day' END, \
                CASE WHEN is_copying OR is_evicting THEN gen_random_uuid() END, \
                CASE WHEN NOT is_copying THEN since END, \
                now() - CASE WHEN is_pinned THEN interval '400 days' ELSE interval '1 second' * (n * 104729 % 2592000) END, \
                CASE WHEN has_failed OR is_lost OR is_copying THEN NULL WHEN is_pinned THEN now() - interval '400 days' \
                     ELSE now() - interval '2 hours' - interval '1 second' * (n * 7919 % 2592000) END \
         FROM {base} WHERE is_local OR is_copying"
    );
    let cloud = format!(
        "INSERT INTO replicas (object_id, store, state, etag, rule, copy_reason, attempts, not_before, last_error, queued_at, \
                               verified_at, last_used_at, suspect_since) \
         SELECT object, 's3', \
                (CASE WHEN has_failed THEN 'failed' WHEN is_lost THEN 'lost' ELSE 'present' END)::replica_state, \
                CASE WHEN NOT has_failed THEN md5(object::text) END, 'default', 'policy', \
                CASE WHEN has_failed THEN 20 ELSE 0 END, CASE WHEN has_failed THEN now() ELSE since END, \
                CASE WHEN has_failed OR is_lost THEN 'made for a test' END, \
                CASE WHEN has_failed THEN now() - interval '1 hour' ELSE since END, CASE WHEN NOT has_failed THEN since END, \
                since, CASE WHEN is_lost THEN now() END \
         FROM {base}"
    );
    let previous = format!(
        "INSERT INTO replicas (object_id, store, state, etag, rule, copy_reason, verified_at, last_used_at) \
         SELECT previous, 's3', 'present', md5(previous::text), 'default', 'policy', since, since \
         FROM {base} WHERE has_previous"
    );
    vec![local, cloud, previous]
}

fn ended_runs() -> String {
    format!(
        "INSERT INTO runs (id, trigger, status, files_total, files_done, bytes_total, bytes_done, created_at, started_at, \
                           finished_at) \
         SELECT {}, 'schedule', 'succeeded', 1000, 1000, 1000000000, 1000000000, now() - interval '1 day' * n, \
                now() - interval '1 day' * n, now() - interval '1 day' * n + interval '10 minutes' \
         FROM generate_series(1::bigint, 300) n ON CONFLICT DO NOTHING",
        id("z", "n")
    )
}
