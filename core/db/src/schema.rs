//! The tables as diesel sees them. A test checks that they match the migrations.
#![allow(missing_docs, clippy::wildcard_imports, unreachable_pub)]

/// Postgres enum types.
pub mod sql_types {
    #[derive(diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "user_role"))]
    pub struct UserRole;
    #[derive(diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "object_state"))]
    pub struct ObjectState;
    #[derive(diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "replica_state"))]
    pub struct ReplicaState;
    #[derive(diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "copy_reason"))]
    pub struct CopyReason;
    #[derive(diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "evict_reason"))]
    pub struct EvictReason;
    #[derive(diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "run_trigger"))]
    pub struct RunTrigger;
    #[derive(diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "run_status"))]
    pub struct RunStatus;
    #[derive(diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "restore_state"))]
    pub struct RestoreState;
    #[derive(diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "audit_actor"))]
    pub struct AuditActor;
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::UserRole;

    users (id) {
        id -> Uuid,
        email -> Text,
        name -> Text,
        password_hash -> Text,
        role -> UserRole,
        disabled_at -> Nullable<Timestamptz>,
        quota_bytes -> Nullable<Int8>,
        used_bytes -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    refresh_tokens (id) {
        id -> Uuid,
        user_id -> Uuid,
        family -> Uuid,
        token_hash -> Bytea,
        user_agent -> Text,
        ip -> Text,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        rotated_at -> Nullable<Timestamptz>,
        revoked_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    sessions (id) {
        id -> Uuid,
        user_id -> Uuid,
        ip -> Text,
        user_agent -> Text,
        created_at -> Timestamptz,
        last_used_at -> Timestamptz,
        expires_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    personal_tokens (id) {
        id -> Uuid,
        user_id -> Uuid,
        name -> Text,
        token_hash -> Bytea,
        scopes -> Text,
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        last_used_at -> Nullable<Timestamptz>,
        revoked_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    signing_keys (id) {
        id -> Text,
        algorithm -> Text,
        sealed -> Bytea,
        created_at -> Timestamptz,
        signs_from -> Timestamptz,
        verifies_until -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    identities (issuer, subject) {
        issuer -> Text,
        subject -> Text,
        user_id -> Uuid,
        email -> Text,
        created_at -> Timestamptz,
        last_used_at -> Timestamptz,
    }
}

diesel::table! {
    revoked_tokens (jti) {
        jti -> Uuid,
        user_id -> Uuid,
        revoked_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    folders (id) {
        id -> Uuid,
        owner_id -> Uuid,
        parent_id -> Nullable<Uuid>,
        name -> Text,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::ObjectState;

    objects (id) {
        id -> Uuid,
        owner_id -> Uuid,
        key -> Text,
        state -> ObjectState,
        content_type -> Text,
        size -> Nullable<Int8>,
        sha256 -> Nullable<Bytea>,
        crc64nvme -> Nullable<Bytea>,
        block_crcs -> Nullable<Bytea>,
        upload_store -> Text,
        upload_id -> Nullable<Text>,
        upload_expires_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        stored_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    files (id) {
        id -> Uuid,
        owner_id -> Uuid,
        folder_id -> Uuid,
        filename -> Text,
        original_filename -> Text,
        current_version -> Int4,
        file_size -> Int8,
        content_type -> Text,
        storage_location -> Text,
        synced_at -> Nullable<Timestamptz>,
        scan_status -> Text,
        pinned -> Bool,
        last_accessed_at -> Nullable<Timestamptz>,
        uploaded_at -> Timestamptz,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    file_versions (file_id, number) {
        file_id -> Uuid,
        number -> Int4,
        object_id -> Uuid,
        created_by -> Uuid,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    schedules (name) {
        name -> Text,
        last_tick -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::{RunStatus, RunTrigger};

    runs (id) {
        id -> Uuid,
        trigger -> RunTrigger,
        requested_by -> Nullable<Uuid>,
        schedule -> Nullable<Text>,
        tick -> Nullable<Timestamptz>,
        scope -> Jsonb,
        status -> RunStatus,
        files_total -> Int8,
        files_done -> Int8,
        files_failed -> Int8,
        bytes_total -> Int8,
        bytes_done -> Int8,
        error -> Nullable<Text>,
        created_at -> Timestamptz,
        started_at -> Nullable<Timestamptz>,
        cancel_requested_at -> Nullable<Timestamptz>,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    workers (id) {
        id -> Uuid,
        host -> Text,
        pid -> Int4,
        version -> Text,
        state -> Text,
        started_at -> Timestamptz,
        heartbeat_at -> Timestamptz,
        stores_down -> Jsonb,
        clock_ahead_ms -> Int8,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::{CopyReason, EvictReason, ReplicaState};

    replicas (object_id, store) {
        object_id -> Uuid,
        store -> Text,
        state -> ReplicaState,
        etag -> Nullable<Text>,
        storage_class -> Nullable<Text>,
        rule -> Nullable<Text>,
        run_id -> Nullable<Uuid>,
        priority -> Int2,
        attempts -> Int4,
        abandoned -> Int4,
        not_before -> Timestamptz,
        last_error -> Nullable<Text>,
        lease_token -> Nullable<Uuid>,
        lease_until -> Nullable<Timestamptz>,
        lease_worker -> Nullable<Uuid>,
        upload_id -> Nullable<Text>,
        part_size -> Nullable<Int8>,
        queued_at -> Timestamptz,
        verified_at -> Nullable<Timestamptz>,
        last_used_at -> Timestamptz,
        spare_since -> Nullable<Timestamptz>,
        object_size -> Nullable<Int8>,
        free_rule -> Text,
        keep_local -> Bool,
        key_id -> Nullable<Text>,
        envelope -> Nullable<Bytea>,
        moves_to -> Nullable<Text>,
        copy_reason -> Nullable<CopyReason>,
        evict_reason -> Nullable<EvictReason>,
        suspect_since -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::ReplicaState;

    replica_counts (store, state, is_verified, is_suspect) {
        store -> Text,
        state -> ReplicaState,
        is_verified -> Bool,
        is_suspect -> Bool,
        replicas -> Int8,
        bytes -> Int8,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::ReplicaState;

    replica_count_changes (id) {
        id -> Int8,
        store -> Text,
        state -> ReplicaState,
        is_verified -> Bool,
        is_suspect -> Bool,
        replicas -> Int8,
        bytes -> Int8,
    }
}

diesel::table! {
    replica_count_base (id) {
        id -> Int2,
        counted_at -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::RestoreState;

    restores (id) {
        id -> Uuid,
        object_id -> Uuid,
        store -> Text,
        state -> RestoreState,
        requested_by -> Nullable<Uuid>,
        requested_at -> Timestamptz,
        asked_at -> Nullable<Timestamptz>,
        ready_at -> Nullable<Timestamptz>,
        expires_at -> Nullable<Timestamptz>,
        next_look_at -> Timestamptz,
        attempts -> Int4,
        last_error -> Nullable<Text>,
    }
}

diesel::table! {
    transfer_parts (object_id, store, upload_id, number) {
        object_id -> Uuid,
        store -> Text,
        upload_id -> Text,
        number -> Int4,
        size -> Int8,
        etag -> Text,
        crc64nvme -> Bytea,
        created_at -> Timestamptz,
        sealed_crc64nvme -> Nullable<Bytea>,
    }
}

diesel::table! {
    run_failures (id) {
        id -> Uuid,
        run_id -> Uuid,
        object_id -> Uuid,
        store -> Text,
        attempts -> Int4,
        error -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::AuditActor;

    audit_events (id) {
        id -> Uuid,
        at -> Timestamptz,
        actor_id -> Nullable<Uuid>,
        action -> Text,
        target_type -> Text,
        target_id -> Text,
        ip -> Text,
        user_agent -> Text,
        detail -> Jsonb,
        actor_kind -> AuditActor,
    }
}

diesel::table! {
    sign_in_failures (account, network) {
        account -> Bytea,
        network -> Text,
        failures -> Int4,
        began_at -> Timestamptz,
        blocks -> Int2,
        blocked_until -> Nullable<Timestamptz>,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    known_networks (user_id, network) {
        user_id -> Uuid,
        network -> Text,
        last_at -> Timestamptz,
    }
}

diesel::table! {
    passes (name) {
        name -> Text,
        lease_token -> Nullable<Uuid>,
        lease_until -> Nullable<Timestamptz>,
        started_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
        report -> Jsonb,
    }
}

diesel::table! {
    leases (name) {
        name -> Text,
        token -> Uuid,
        until -> Timestamptz,
    }
}

diesel::table! {
    store_drains (store) {
        store -> Text,
        requested_by -> Nullable<Uuid>,
        requested_at -> Timestamptz,
        replicas_total -> Int8,
        bytes_total -> Int8,
        waits_for -> Nullable<Text>,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    rebalances (id) {
        id -> Int2,
        requested_by -> Nullable<Uuid>,
        requested_at -> Timestamptz,
        tolerance -> Int2,
        waits_for -> Nullable<Text>,
        stopped_at -> Nullable<Timestamptz>,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    rebalance_routes (from_store, to_store) {
        from_store -> Text,
        to_store -> Text,
        files_planned -> Int8,
        bytes_planned -> Int8,
        files_begun -> Int8,
        bytes_begun -> Int8,
        looked_until -> Uuid,
        all_begun -> Bool,
    }
}

diesel::table! {
    store_health (store, observer) {
        store -> Text,
        observer -> Uuid,
        program -> Text,
        up -> Bool,
        since -> Timestamptz,
        latency_ms -> Nullable<Int4>,
        last_error -> Nullable<Text>,
        checked_at -> Timestamptz,
        evidence -> Nullable<Text>,
    }
}

diesel::table! {
    store_identities (store) {
        store -> Text,
        identity -> Uuid,
        endpoint -> Text,
        bucket -> Text,
        recorded_at -> Timestamptz,
        marked_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    removed_objects (object_id) {
        object_id -> Uuid,
        removed_at -> Timestamptz,
    }
}

diesel::table! {
    eviction_places (store, ordering) {
        store -> Text,
        ordering -> Text,
        at -> Timestamptz,
        object_id -> Uuid,
    }
}

diesel::table! {
    postponed_removals (object_id) {
        object_id -> Uuid,
        tried_at -> Timestamptz,
    }
}

diesel::table! {
    plans (id) {
        id -> Uuid,
        requested_by -> Nullable<Uuid>,
        scope -> Jsonb,
        fingerprint -> Text,
        groups -> Jsonb,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    plan_items (plan_id, object_id, store) {
        plan_id -> Uuid,
        object_id -> Uuid,
        store -> Text,
        rule -> Text,
        storage_class -> Nullable<Text>,
        priority -> Int2,
        size -> Int8,
        file_id -> Nullable<Uuid>,
        filename -> Nullable<Text>,
        version -> Nullable<Int4>,
        current_version -> Nullable<Int4>,
    }
}

diesel::joinable!(personal_tokens -> users (user_id));
diesel::joinable!(file_versions -> objects (object_id));

diesel::allow_tables_to_appear_in_same_query!(
    users,
    revoked_tokens,
    objects,
    postponed_removals,
    files,
    file_versions,
    replicas,
    audit_events,
    sessions,
    personal_tokens,
);
