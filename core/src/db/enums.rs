//! The Postgres enums as Rust enums: one text for each value, the same in database, API and logs.

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
            /// Every value, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text that stands for this value everywhere outside of the code.
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
    /// How far the restore of an archived copy is.
    RestoreState: RestoreState {
        /// Somebody asked for it; the store has not been told yet.
        Wanted = "wanted",
        /// The store makes the copy.
        Restoring = "restoring",
        /// It can be read, until it expires.
        Ready = "ready",
        /// Given up.
        Failed = "failed",
    }
);
pg_enum!(
    /// Who does something that the audit log keeps.
    AuditActor: AuditActor {
        /// Somebody with an account.
        User = "user",
        /// An operator at the machine, with the admin CLI.
        Cli = "cli",
        /// The service itself: a schedule, a worker.
        System = "system",
        /// Somebody who has not signed in.
        Anonymous = "anonymous",
    }
);
pg_enum!(
    /// What an account may do.
    UserRole: UserRole {
        /// Own files only.
        User = "user",
        /// Everything, including other people's accounts and the stores.
        Admin = "admin",
    }
);

pg_enum!(
    /// How far an object has come.
    ObjectState: ObjectState {
        /// Bytes are on their way in; nothing was acknowledged.
        Uploading = "uploading",
        /// Acknowledged: from here on it must not be lost.
        Stored = "stored",
        /// Nothing refers to it any more; its bytes are being taken away.
        Removing = "removing",
    }
);

pg_enum!(
    /// How far "this object should exist in this store" is true.
    ReplicaState: ReplicaState {
        /// Waits for a worker.
        Queued = "queued",
        /// A worker holds the lease and moves the bytes.
        Copying = "copying",
        /// In the store, and proved.
        Present = "present",
        /// Being deleted from the store; another verified replica exists.
        Evicting = "evicting",
        /// Given up after a permanent error or too many attempts.
        Failed = "failed",
        /// Was present, is missing or corrupt.
        Lost = "lost",
    }
);

pg_enum!(
    /// Why a copy is made, or was made last.
    CopyReason: CopyReason {
        /// A rule wants it, or the default does: a run makes it.
        Policy = "policy",
        /// It was there, verified, and was lost.
        Repair = "repair",
        /// A store that has one is being emptied: it is made outside of runs.
        Drain = "drain",
        /// The local stores are being evened out.
        Rebalance = "rebalance",
        /// The local stores hold several copies of each object.
        Replication = "replication",
        /// Somebody asked for it.
        Prefetch = "prefetch",
        /// It was read from afar.
        CacheOnRead = "cache-on-read",
    }
);

pg_enum!(
    /// Why a replica is being deleted from its store.
    EvictReason: EvictReason {
        /// Its rule lets local copies go after a while.
        Policy = "policy",
        /// The store is over its high watermark.
        Watermark = "watermark",
        /// The store is being emptied.
        Drain = "drain",
        /// It was moved to the store `moves_to`.
        Rebalance = "rebalance",
        /// It was begun and never proved, and is not wanted any more.
        Leftover = "leftover",
        /// It lay in the store without a row.
        Surplus = "surplus",
    }
);

pg_enum!(
    /// Who asked for a run.
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
    /// Where a run stands.
    RunStatus: RunStatus {
        /// Waits for a worker to plan it.
        Queued = "queued",
        /// Planned; batches are being claimed.
        Running = "running",
        /// Everything crossed.
        Succeeded = "succeeded",
        /// Something crossed, something failed.
        Partial = "partial",
        /// Nothing crossed although something should have.
        Failed = "failed",
        /// Stopped on request; what had crossed stays.
        Cancelled = "cancelled",
    }
);

impl RunStatus {
    /// Whether the run still holds the one place of the active run.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}
