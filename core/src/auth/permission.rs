//! What somebody may do: by how they proved who they are, and by their role. Knows no HTTP.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::token::Claims;
use crate::db::enums::UserRole;
use crate::db::users::User;
use crate::error::{Error, Result};
use crate::ids::PersonalTokenId;

/// What a personal access token was made for. Someone who signed in has all scopes that the account's role allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// List, show and download files.
    #[serde(rename = "files:read")]
    FilesRead,
    /// Upload, change and remove files.
    #[serde(rename = "files:write")]
    FilesWrite,
    /// Ask for files to be ferried now.
    #[serde(rename = "sync")]
    Sync,
    /// Administration, as long as the account is an administrator's.
    #[serde(rename = "admin")]
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::FilesRead, Self::FilesWrite, Self::Sync, Self::Admin];

    /// The scope's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FilesRead => "files:read",
            Self::FilesWrite => "files:write",
            Self::Sync => "sync",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of: files:read, files:write, sync, admin")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

/// What an act asks of whoever wants it done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Any proof of who they are.
    SignedIn,
    /// A session: someone who signed in, not a program with a personal access token.
    Session,
    /// A session of an administrator: what makes accounts and gives rights.
    AdminSession,
    /// This scope; [`Scope::Admin`] also asks for the role.
    Scope(Scope),
}

/// How somebody proved who they are.
#[derive(Debug, Clone)]
pub enum Proof {
    /// An access token of a session.
    Session(Claims),
    /// A personal access token.
    PersonalToken {
        /// Its id.
        id: PersonalTokenId,
        /// What it was made for.
        scopes: Vec<Scope>,
    },
}

/// Who makes a request, proved.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Account, as it is now.
    pub user: User,
    /// The proof.
    pub proof: Proof,
}

impl Caller {
    /// Whether the caller may do what only administrators may: by role, and by what the token was made for.
    pub fn is_admin(&self) -> bool {
        self.user.role == UserRole::Admin && self.has(Scope::Admin)
    }

    /// What the session's access token says; none for a personal access token.
    pub fn claims(&self) -> Option<&Claims> {
        match &self.proof {
            Proof::Session(claims) => Some(claims),
            Proof::PersonalToken { .. } => None,
        }
    }

    /// Whether the caller may do what asks for `need`.
    ///
    /// # Errors
    /// [`Error::Forbidden`] with the reason.
    pub fn may(&self, need: Need) -> Result<()> {
        let is_session = self.claims().is_some();
        let refusal = match need {
            Need::Session | Need::AdminSession if !is_session => {
                "A personal access token may not do this. Sign in instead."
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
    fn a_session_may_what_the_role_may() {
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
    fn a_token_may_what_its_scopes_name_and_never_what_needs_a_session() {
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
    fn names_of_scopes_are_read_back() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
        }
        assert_eq!("files".parse::<Scope>(), Err(UnknownScope));
    }
}
