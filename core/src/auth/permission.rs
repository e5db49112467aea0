//! Permissions: depend on the kind of credential, and on the role. Contains no HTTP.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

use super::token::Claims;
use crate::db::enums::UserRole;
use crate::db::users::User;
use crate::error::{Error, Result};
use crate::ids::PersonalTokenId;

/// A scope of a personal access token. A session has all scopes that the account's role allows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Scope {
    /// List, show and download files.
    #[serde(rename = "files:read")]
    #[strum(serialize = "files:read")]
    FilesRead,
    /// Upload, change and delete files.
    #[serde(rename = "files:write")]
    #[strum(serialize = "files:write")]
    FilesWrite,
    /// Request syncs.
    Sync,
    /// Administration, while the account is an administrator's.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::FilesRead, Self::FilesWrite, Self::Sync, Self::Admin];

    /// The scope's name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// An unknown scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of: files:read, files:write, sync, admin")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

/// The permission that an action requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Any credential.
    SignedIn,
    /// A session, not a personal access token.
    Session,
    /// An administrator's session: for creating accounts and granting rights.
    AdminSession,
    /// This scope; [`Scope::Admin`] also requires the role.
    Scope(Scope),
}

/// The credential of a caller.
#[derive(Debug, Clone)]
pub enum Proof {
    /// An access token of a session.
    Session(Claims),
    /// A personal access token.
    PersonalToken {
        /// Id of the token.
        id: PersonalTokenId,
        /// Scopes.
        scopes: Vec<Scope>,
    },
}

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The account, in its current state.
    pub user: User,
    /// The credential.
    pub proof: Proof,
}

impl Caller {
    /// Whether the caller has administrator rights: by role, and by the scopes of the token.
    pub fn is_admin(&self) -> bool {
        self.user.role == UserRole::Admin && self.has(Scope::Admin)
    }

    /// The claims of the session's access token; `None` for a personal access token.
    pub fn claims(&self) -> Option<&Claims> {
        match &self.proof {
            Proof::Session(claims) => Some(claims),
            Proof::PersonalToken { .. } => None,
        }
    }

    /// Checks whether the caller has the permission `need`.
    ///
    /// # Errors
    /// [`Error::Forbidden`] with the reason.
    pub fn may(&self, need: Need) -> Result<()> {
        let is_session = self.claims().is_some();
        let refusal = match need {
            Need::Session | Need::AdminSession if !is_session => {
                "A personal access token cannot be used for this. Sign in instead."
            }
            Need::Scope(scope) if !self.has(scope) => match scope {
                Scope::FilesRead => "This personal access token lacks the scope files:read.",
                Scope::FilesWrite => "This personal access token lacks the scope files:write.",
                Scope::Sync => "This personal access token lacks the scope sync.",
                Scope::Admin => "This personal access token lacks the scope admin.",
            },
            Need::AdminSession | Need::Scope(Scope::Admin) if self.user.role != UserRole::Admin => {
                "Only administrators may do this."
            }
            Need::SignedIn | Need::Session | Need::AdminSession | Need::Scope(_) => return Ok(()),
        };
        Err(Error::Forbidden(refusal))
    }

    fn has(&self, wanted: Scope) -> bool {
        match &self.proof {
            Proof::Session(_) => true,
            Proof::PersonalToken { scopes, .. } => scopes.contains(&wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{SessionId, UserId};

    fn caller(role: UserRole, scopes: Option<&[Scope]>) -> Caller {
        let id = UserId::new();
        let now = chrono::Utc::now();
        let user = User {
            id,
            email: String::new(),
            name: String::new(),
            password_hash: String::new(),
            role,
            disabled_at: None,
            quota_bytes: None,
            used_bytes: 0,
            created_at: now,
            updated_at: now,
        };
        let proof = match scopes {
            Some(scopes) => Proof::PersonalToken { id: PersonalTokenId::new(), scopes: scopes.to_vec() },
            None => Proof::Session(Claims {
                sub: id,
                jti: uuid::Uuid::now_v7(),
                sid: SessionId::new(),
                iss: String::new(),
                iat: 0,
                exp: 0,
            }),
        };
        Caller { user, proof }
    }

    #[test]
    fn a_session_has_the_permissions_of_the_role() {
        let user = caller(UserRole::User, None);
        let admin = caller(UserRole::Admin, None);
        for need in [Need::SignedIn, Need::Session, Need::Scope(Scope::FilesWrite), Need::Scope(Scope::Sync)]
        {
            assert!(user.may(need).is_ok() && admin.may(need).is_ok(), "{need:?}");
        }
        assert!(user.may(Need::Scope(Scope::Admin)).is_err() && !user.is_admin());
        assert!(admin.may(Need::Scope(Scope::Admin)).is_ok() && admin.is_admin());
        assert!(user.may(Need::AdminSession).is_err() && admin.may(Need::AdminSession).is_ok());
    }

    #[test]
    fn a_token_is_limited_to_its_scopes_and_excluded_from_session_routes() {
        for scope in Scope::ALL {
            let token = caller(UserRole::Admin, Some(&[scope]));
            assert!(token.may(Need::SignedIn).is_ok());
            assert!(token.may(Need::Session).is_err() && token.may(Need::AdminSession).is_err());
            for other in Scope::ALL {
                assert_eq!(token.may(Need::Scope(other)).is_ok(), other == scope, "{scope} {other}");
            }
            assert_eq!(token.is_admin(), scope == Scope::Admin);
        }
        let demoted = caller(UserRole::User, Some(&Scope::ALL));
        assert!(demoted.may(Need::Scope(Scope::Admin)).is_err() && !demoted.is_admin());
    }

    #[test]
    fn scope_names_round_trip() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
        }
        assert_eq!("files".parse::<Scope>(), Err(UnknownScope));
    }
}
