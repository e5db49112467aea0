//! What administrators, and operators with the CLI, do to accounts: find, change, lock out. One of those who may do so
//! always stays.

use diesel_async::{AsyncConnection, AsyncPgConnection};

use super::session_list;
use crate::context::Context;
use crate::db::audit::{self, Event, Origin};
use crate::db::enums::UserRole;
use crate::db::split_page;
use crate::db::users::{self, User, UserFilter};
use crate::error::{Error, Noun, Result};
use crate::ids::UserId;

/// Longest text that accounts are searched for, in characters.
const LONGEST_SEARCH: usize = 254;

/// What is to be different. What is none stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Role.
    pub role: Option<UserRole>,
    /// Whether the account may not be used.
    pub disabled: Option<bool>,
    /// Bytes granted; none within: no limit.
    pub quota: Option<Option<i64>>,
}

impl Change {
    /// A role, nothing else.
    pub fn role(role: UserRole) -> Self {
        Self { role: Some(role), ..Self::default() }
    }

    /// Disabled or not, nothing else.
    pub fn disabled(disabled: bool) -> Self {
        Self { disabled: Some(disabled), ..Self::default() }
    }

    /// A quota or none, nothing else.
    pub fn quota(bytes: Option<i64>) -> Self {
        Self { quota: Some(bytes), ..Self::default() }
    }

    /// Whether an administrator who is changed so can act as one no more.
    fn takes_administration(&self) -> bool {
        self.role == Some(UserRole::User) || self.disabled == Some(true)
    }
}

/// Accounts in the order of their making, and whether there are more.
///
/// # Errors
/// [`Error::Validation`] for a text that is too long.
pub async fn list(context: &Context, filter: &UserFilter, limit: i64) -> Result<(Vec<User>, bool)> {
    if filter.text.as_deref().is_some_and(|text| text.chars().count() > LONGEST_SEARCH) {
        return Err(Error::field("q", format!("must have at most {LONGEST_SEARCH} characters")));
    }
    let mut conn = context.db.conn().await?;
    Ok(split_page(users::search(&mut conn, filter, limit.saturating_add(1)).await?, limit))
}

/// Finds an account.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find(context: &Context, id: UserId) -> Result<User> {
    let mut conn = context.db.conn().await?;
    users::find(&mut conn, id).await?.ok_or(Error::NotFound(Noun::User))
}

/// Changes an account, and answers it as it is then. Disabling ends its sessions. A quota below what is in use takes
/// nothing away; it only lets nothing more in.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Validation`]; [`Error::Forbidden`] when the actor administers no more;
/// [`Error::Conflict`] when nobody would be left who administers.
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
    let now = context.clock.now();
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        if actor.is_some() || change.takes_administration() {
            // All of them, always in the same order and before the account: so no two changes wait for each other.
            let admins = users::lock_acting_admins(conn).await?;
            require_admin(&admins, actor)?;
            if change.takes_administration() {
                require_another_admin(&admins, id)?;
            }
        }
        let before = users::lock(conn, id).await?.ok_or(Error::NotFound(Noun::User))?;
        let note = Note { user: id, actor, origin };
        if let Some(role) = change.role.filter(|role| *role != before.role) {
            users::set_role(conn, id, role).await?;
            let detail = serde_json::json!({ "from": before.role, "to": role });
            note.record(conn, "user.role", detail).await?;
        }
        if let Some(disabled) = change.disabled.filter(|disabled| *disabled != before.disabled_at.is_some()) {
            users::set_disabled(conn, id, disabled.then_some(now)).await?;
            let ended = if disabled { session_list::end_all_in(conn, id, None, now).await? } else { 0 };
            let action = if disabled { "user.disable" } else { "user.enable" };
            note.record(conn, action, serde_json::json!({ "sessions_ended": ended })).await?;
        }
        if let Some(quota) = change.quota.filter(|quota| *quota != before.quota_bytes) {
            users::set_quota(conn, id, quota).await?;
            let detail = serde_json::json!({ "from": before.quota_bytes, "to": quota });
            note.record(conn, "user.quota", detail).await?;
        }
        users::find(conn, id).await?.ok_or(Error::NotFound(Noun::User))
    })
    .await
}

/// Who changes which account, for the audit log.
struct Note<'a> {
    user: UserId,
    actor: Option<UserId>,
    origin: &'a Origin,
}

impl Note<'_> {
    async fn record(
        &self,
        conn: &mut AsyncPgConnection,
        action: &'static str,
        detail: serde_json::Value,
    ) -> Result<()> {
        let Self { user, actor, origin } = *self;
        let target_id = user.to_string();
        audit::record(conn, Event { actor, action, target_type: "user", target_id, origin, detail }).await
    }
}

/// Holds all who can act as administrators until the transaction ends, and refuses an actor who is none of them: whoever
/// was one when the request came may have been demoted or locked out since.
pub(super) async fn hold_admin(conn: &mut AsyncPgConnection, actor: Option<UserId>) -> Result<()> {
    if actor.is_none() {
        return Ok(());
    }
    require_admin(&users::lock_acting_admins(conn).await?, actor)
}

/// Refuses an actor who is none of those who administer. Without one it is the operator.
fn require_admin(admins: &[UserId], actor: Option<UserId>) -> Result<()> {
    if actor.is_some_and(|actor| !admins.contains(&actor)) {
        return Err(Error::Forbidden("Only administrators may do this."));
    }
    Ok(())
}

/// Refuses to take the last administrator's right. All who have it are held until the transaction ends, so that of two
/// who take each other's at once only one succeeds.
fn require_another_admin(admins: &[UserId], id: UserId) -> Result<()> {
    if admins.contains(&id) && admins.len() == 1 {
        return Err(Error::Conflict(
            "This is the last administrator who can sign in. Make another one first.".to_owned(),
        ));
    }
    Ok(())
}
