//! The Postgres enums as Rust enums: one text for each value, the same in the database, the API and the logs.

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::Pg;
use diesel::serialize::{self, IsNull, Output, ToSql};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Write;

use super::schema::sql_types;

macro_rules! pg_enum {
    ($(#[$doc:meta])* $name:ident: $sql:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, AsExpression, FromSqlRow)]
        #[diesel(sql_type = sql_types::$sql)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text of this value outside of the code.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ToSql<sql_types::$sql, Pg> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                out.write_all(self.as_str().as_bytes())?;
                Ok(IsNull::No)
            }
        }

        impl FromSql<sql_types::$sql, Pg> for $name {
            fn from_sql(bytes: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
                match bytes.as_bytes() {
                    $(value if value == $text.as_bytes() => Ok(Self::$variant),)+
                    other => Err(format!("unknown {}: {}", stringify!($name), String::from_utf8_lossy(other)).into()),
                }
            }
        }
    };
}

pg_enum!(
    /// The state of the restore of an archived copy.
    RestoreState: RestoreState {
        /// Requested; not sent to the store yet.
        Wanted = "wanted",
        /// The store is restoring the copy.
        Restoring = "restoring",
        /// Readable until it expires.
        Ready = "ready",
        /// Failed permanently.
        Failed = "failed",
    }
);
pg_enum!(
    /// The kind of an actor in the audit log.
    AuditActor: AuditActor {
        /// A signed-in user.
        User = "user",
        /// An operator using the admin CLI.
        Cli = "cli",
        /// The service itself: a schedule, a worker.
        System = "system",
        /// A client that is not signed in.
        Anonymous = "anonymous",
    }
);
pg_enum!(
    /// The role of an account.
    UserRole: UserRole {
        /// Access to own files only.
        User = "user",
        /// Full access, including the accounts of others and the stores.
        Admin = "admin",
    }
);

pg_enum!(
    /// The state of an object.
    ObjectState: ObjectState {
        /// The upload is in progress; not acknowledged.
        Uploading = "uploading",
        /// Acknowledged: it must not be lost from now on.
        Stored = "stored",
        /// No longer referenced; its data is being deleted.
        Removing = "removing",
    }
);

pg_enum!(
    /// The state of a replica.
    ReplicaState: ReplicaState {
        /// Waiting for a worker.
        Queued = "queued",
        /// A worker holds the lease and is copying.
        Copying = "copying",
        /// In the store, and verified.
        Present = "present",
        /// Being deleted from the store; another verified replica exists.
        Evicting = "evicting",
        /// Failed after a permanent error or too many attempts.
        Failed = "failed",
        /// Was present, but is missing or corrupt.
        Lost = "lost",
    }
);

pg_enum!(
    /// Why a copy is being made, or was last made.
    CopyReason: CopyReason {
        /// A rule or the default policy requires it; a run makes it.
        Policy = "policy",
        /// A verified copy was lost.
        Repair = "repair",
        /// A store that holds a copy is being drained; the copy is made outside of runs.
        Drain = "drain",
        /// The local stores are being rebalanced.
        Rebalance = "rebalance",
        /// The local stores keep several copies of each object.
        Replication = "replication",
        /// The copy was requested.
        Prefetch = "prefetch",
        /// The file was read from the cloud store.
        CacheOnRead = "cache-on-read",
    }
);

pg_enum!(
    /// Why a replica is being deleted from its store.
    EvictReason: EvictReason {
        /// The rule of the copy allows eviction after some time.
        Policy = "policy",
        /// The store is above its high watermark.
        Watermark = "watermark",
        /// The store is being drained.
        Drain = "drain",
        /// The copy was moved to the store in `moves_to`.
        Rebalance = "rebalance",
        /// The copy was started, never verified, and is no longer required.
        Leftover = "leftover",
        /// The object was found in the store without a row.
        Surplus = "surplus",
    }
);

pg_enum!(
    /// The trigger of a run.
    RunTrigger: RunTrigger {
        /// The cron schedule.
        Schedule = "schedule",
        /// The admin CLI.
        Cli = "cli",
        /// The HTTP API or the web UI.
        Api = "api",
    }
);

pg_enum!(
    /// The status of a run.
    RunStatus: RunStatus {
        /// Waiting for a worker to plan it.
        Queued = "queued",
        /// Planned; batches are being claimed.
        Running = "running",
        /// All copies were made.
        Succeeded = "succeeded",
        /// Some copies were made, some failed.
        Partial = "partial",
        /// No copy was made, although there was something to copy.
        Failed = "failed",
        /// Cancelled on request; copies that were made are kept.
        Cancelled = "cancelled",
    }
);

impl RunStatus {
    /// Whether the run is the active run.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}
