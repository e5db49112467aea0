//! One newtype per kind of id, so that a file id cannot be passed as a user id. All are `UUIDv7` (RFC 9562): sortable
//! by creation time.

use std::fmt;
use std::str::FromStr;

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::Pg;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Uuid as SqlUuid;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, AsExpression, FromSqlRow,
        )]
        #[diesel(sql_type = SqlUuid)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Creates a new, time-ordered id.
            #[allow(clippy::new_without_default, reason = "a default id would be surprising")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Uuid {
                id.0
            }
        }

        impl FromSql<SqlUuid, Pg> for $name {
            fn from_sql(bytes: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
                <Uuid as FromSql<SqlUuid, Pg>>::from_sql(bytes).map(Self)
            }
        }

        impl ToSql<SqlUuid, Pg> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                <Uuid as ToSql<SqlUuid, Pg>>::to_sql(&self.0, out)
            }
        }
    )+};
}

ids! {
    /// A user account.
    UserId;
    /// A folder; every user has one root folder.
    FolderId;
    /// A file: a name in a folder, with one or more versions.
    FileId;
    /// An immutable object with the same key in every store.
    ObjectId;
    /// A sync run.
    RunId;
    /// A saved plan.
    PlanId;
    /// A worker process, from its start to its end.
    WorkerId;
    /// A fencing token: every finishing UPDATE of a claimed copy is guarded by it.
    LeaseToken;
    /// A refresh token row.
    RefreshTokenId;
    /// A personal access token.
    PersonalTokenId;
    /// A family of refresh tokens that originate from one sign-in; also the id of the session.
    SessionId;
}
