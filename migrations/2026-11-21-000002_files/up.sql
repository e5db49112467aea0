-- What users see: folders, files and their versions; and the immutable objects below them.

CREATE TABLE folders (
    id         uuid PRIMARY KEY,
    owner_id   uuid NOT NULL REFERENCES users (id) ON DELETE RESTRICT,
    parent_id  uuid REFERENCES folders (id) ON DELETE RESTRICT,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT folders_name_only_below_root CHECK ((parent_id IS NULL) = (name = ''))
);
CREATE UNIQUE INDEX folders_one_root_per_owner ON folders (owner_id) WHERE parent_id IS NULL;
CREATE UNIQUE INDEX folders_live_name_key ON folders (parent_id, name) WHERE deleted_at IS NULL;
CREATE INDEX folders_owner_id_idx ON folders (owner_id);
CREATE INDEX folders_parent_id_idx ON folders (parent_id);

-- `uploading`: bytes are on their way to `upload_store`; size and checksums are not known yet.
-- `stored`: acknowledged. `removing`: nothing refers to it any more; the reaper takes the bytes away, then the row.
CREATE TYPE object_state AS ENUM ('uploading', 'stored', 'removing');

CREATE TABLE objects (
    id                uuid PRIMARY KEY,
    owner_id          uuid NOT NULL REFERENCES users (id) ON DELETE RESTRICT,
    key               text NOT NULL UNIQUE,
    state             object_state NOT NULL,
    content_type      text NOT NULL,
    size              bigint CHECK (size >= 0),
    sha256            bytea CHECK (octet_length(sha256) = 32),
    crc64nvme         bytea CHECK (octet_length(crc64nvme) = 8),
    -- One CRC-64/NVME per 8 MiB block, big-endian, so that the checksum of every part is known before it is sent.
    block_crcs        bytea CHECK (octet_length(block_crcs) % 8 = 0),
    upload_store      text NOT NULL,
    upload_id         text,
    upload_expires_at timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    stored_at         timestamptz,
    CONSTRAINT objects_stored_is_complete CHECK (
        state <> 'stored' OR (size IS NOT NULL AND sha256 IS NOT NULL AND crc64nvme IS NOT NULL AND stored_at IS NOT NULL)
    ),
    CONSTRAINT objects_uploading_expires CHECK (state <> 'uploading' OR upload_expires_at IS NOT NULL)
);
CREATE INDEX objects_owner_id_idx ON objects (owner_id);
CREATE INDEX objects_stored_at_idx ON objects (stored_at, id) WHERE state = 'stored';
CREATE INDEX objects_uploading_idx ON objects (upload_expires_at) WHERE state = 'uploading';
CREATE INDEX objects_removing_idx ON objects (id) WHERE state = 'removing';

CREATE TABLE files (
    id                uuid PRIMARY KEY,
    owner_id          uuid NOT NULL REFERENCES users (id) ON DELETE RESTRICT,
    folder_id         uuid NOT NULL REFERENCES folders (id) ON DELETE RESTRICT,
    filename          text NOT NULL CHECK (filename <> '' AND octet_length(filename) <= 255),
    original_filename text NOT NULL,
    current_version   integer NOT NULL CHECK (current_version >= 1),
    -- Of the current version, kept here because lists sort and filter by them.
    file_size         bigint NOT NULL CHECK (file_size >= 0),
    content_type      text NOT NULL,
    storage_location  text NOT NULL,
    synced_at         timestamptz,
    scan_status       text NOT NULL DEFAULT 'unscanned' CHECK (scan_status IN ('unscanned', 'clean', 'infected')),
    pinned            boolean NOT NULL DEFAULT false,
    last_accessed_at  timestamptz,
    uploaded_at       timestamptz NOT NULL DEFAULT now(),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    deleted_at        timestamptz
);
CREATE UNIQUE INDEX files_live_name_key ON files (folder_id, filename) WHERE deleted_at IS NULL;
CREATE INDEX files_folder_id_idx ON files (folder_id);
-- One keyset per sort order of the list; the trash is its own, small list.
CREATE INDEX files_by_name_idx ON files (owner_id, filename, id) WHERE deleted_at IS NULL;
CREATE INDEX files_by_size_idx ON files (owner_id, file_size, id) WHERE deleted_at IS NULL;
-- Not partial: it also finds the files of an owner for the foreign key.
CREATE INDEX files_by_uploaded_at_idx ON files (owner_id, uploaded_at, id);
CREATE INDEX files_trashed_idx ON files (owner_id, uploaded_at, id) WHERE deleted_at IS NOT NULL;

CREATE TABLE file_versions (
    file_id    uuid NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    number     integer NOT NULL CHECK (number >= 1),
    object_id  uuid NOT NULL REFERENCES objects (id) ON DELETE RESTRICT,
    created_by uuid NOT NULL REFERENCES users (id) ON DELETE RESTRICT,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (file_id, number)
);
CREATE INDEX file_versions_object_id_idx ON file_versions (object_id);
CREATE INDEX file_versions_created_by_idx ON file_versions (created_by);

-- A file always has its current version. Deferred: both rows are written in one transaction.
ALTER TABLE files
    ADD CONSTRAINT files_current_version_exists FOREIGN KEY (id, current_version)
    REFERENCES file_versions (file_id, number) DEFERRABLE INITIALLY DEFERRED;
