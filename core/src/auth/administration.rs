//! Account administration, for administrators and for operators with the CLI: find, change, disable. At least one
//! active administrator always remains.

use diesel_async::{AsyncConnection, AsyncPgConnection};

use super::session_list;
use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::enums::UserRole;
use crate::db::split_page;
use crate::db::users::{self, User, UserChange, UserFilter};
use crate::error::{Error, Noun, Result};
use crate::ids::UserId;

/// Maximum length of a search string for accounts, in characters.
const MAX_SEARCH_LENGTH: usize = 254;

/// The changes. `None` leaves a value unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Role.
    pub role: Option<UserRole>,
    /// Whether the account is disabled.
    pub disabled: Option<bool>,
    /// Storage quota in bytes; `Some(None)`: no limit.
    pub quota: Option<Option<i64>>,
}

impl Change {
    /// Changes only the role.
    pub fn role(role: UserRole) -> Self {
        Self { role: Some(role), ..Self::default() }
    }

    /// Changes only the disabled state.
    pub fn disabled(disabled: bool) -> Self {
        Self { disabled: Some(disabled), ..Self::default() }
    }

    /// Changes only the quota.
    pub fn quota(bytes: Option<i64>) -> Self {
        Self { quota: Some(bytes), ..Self::default() }
    }

    /// Whether an administrator can no longer act as one after this change.
    fn takes_administration(&self) -> bool {
        self.role == Some(UserRole::User) || self.disabled == Some(true)
    }
}

/// Accounts in the order of their creation, and whether there are more.
///
/// # Errors
/// [`Error::Validation`] if the search string is too long.
pub async fn list(context: &Context, filter: &UserFilter, limit: i64) -> Result<(Vec<User>, bool)> {
    if filter.text.as_deref().is_some_and(|text| text.chars().count() > MAX_SEARCH_LENGTH) {
        return Err(Error::field("q", format!("must have at most {MAX_SEARCH_LENGTH} characters")));
    }
    let mut conn = context.db.conn().await?;
    Ok(split_page(users::search(&mut conn, filter, limit.saturating_add(1)).await?, limit))
}

/// Finds an account.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find(context: &Context, id: UserId) -> Result<User> {
    users::find(&mut *context.db.conn().await?, id).await?.ok_or(Error::NotFound(Noun::User))
}

/// Changes an account and returns its new state. Disabling ends its sessions. A quota below the current usage deletes
/// nothing; it only rejects new uploads.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Validation`]; [`Error::Forbidden`] if the actor is no longer an administrator;
/// [`Error::Conflict`] if no active administrator would remain.
pub async fn change(
    context: &Context,
    id: UserId,
    change: Change,
    actor: Option<UserId>,
    origin: &Origin,
) -> Result<User> {
    if change.quota.flatten().is_some_and(|bytes| bytes < 0) {
        return Err(Error::field("quota_bytes", "must not be negative"));
    }
    let mut conn = context.db.conn().await?;
    let now = context.clock.now();
    conn.transaction(async move |conn| {
        if actor.is_some() || change.takes_administration() {
            // All of them are locked, always in the same order and before the account, to prevent deadlocks between
            // changes.
            let admins = users::lock_acting_admins(conn).await?;
            require_admin(&admins, actor)?;
            if change.takes_administration() {
                require_another_admin(&admins, id)?;
            }
        }
        let before = users::lock(conn, id).await?.ok_or(Error::NotFound(Noun::User))?;
        let target = ("user", id);
        if let Some(role) = change.role.filter(|role| *role != before.role) {
            users::change(conn, id, &UserChange { role: Some(role), ..UserChange::default() }).await?;
            let detail = serde_json::json!({ "from": before.role, "to": role });
            audit::record(conn, origin, actor, "user.role", target, detail).await?;
        }
        if let Some(disabled) = change.disabled.filter(|disabled| *disabled != before.disabled_at.is_some()) {
            let disabled_at = Some(disabled.then_some(now));
            users::change(conn, id, &UserChange { disabled_at, ..UserChange::default() }).await?;
            let ended = if disabled { session_list::end_all_in(conn, id, None, now).await? } else { 0 };
            let action = if disabled { "user.disable" } else { "user.enable" };
            let detail = serde_json::json!({ "sessions_ended": ended });
            audit::record(conn, origin, actor, action, target, detail).await?;
        }
        if let Some(quota) = change.quota.filter(|quota| *quota != before.quota_bytes) {
            let quota_bytes = Some(quota);
            users::change(conn, id, &UserChange { quota_bytes, ..UserChange::default() }).await?;
            let detail = serde_json::json!({ "from": before.quota_bytes, "to": quota });
            audit::record(conn, origin, actor, "user.quota", target, detail).await?;
        }
        users::find(conn, id).await?.ok_or(Error::NotFound(Noun::User))
    })
    .await
}

/// Locks all active administrators until the end of the transaction, and rejects an actor who is not one of them: the
/// actor may have been demoted or disabled since the request was authorized.
pub(super) async fn lock_admin(conn: &mut AsyncPgConnection, actor: Option<UserId>) -> Result<()> {
    if actor.is_none() {
        return Ok(());
    }
    require_admin(&users::lock_acting_admins(conn).await?, actor)
}

/// Rejects an actor who is not an active administrator. Without an actor, the operator is acting.
fn require_admin(admins: &[UserId], actor: Option<UserId>) -> Result<()> {
    if actor.is_some_and(|actor| !admins.contains(&actor)) {
        return Err(Error::Forbidden("Only administrators may do this."));
    }
    Ok(())
}

/// Rejects removing the last active administrator. All of them are locked until the end of the transaction, so that of
/// two administrators who remove each other concurrently only one succeeds.
fn require_another_admin(admins: &[UserId], id: UserId) -> Result<()> {
    if admins.contains(&id) && admins.len() == 1 {
        return Err(Error::Conflict(
            "This is the last active administrator. Grant the role to another account first.".to_owned(),
        ));
    }
    Ok(())
}
