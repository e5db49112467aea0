//! Reading and retention of the audit log. Actions write their events in their own transactions: see
//! [`crate::db::audit::record`].

use std::str::FromStr;

use crate::context::Context;
use crate::db::audit::{self, Filter, Who, Written};
use crate::db::enums::AuditActor;
use crate::db::{split_page, users};
use crate::error::{Error, Noun, Result};
use crate::ids::UserId;

/// Events deleted in one statement: keeps locks and transactions short.
const BATCH: i64 = 5_000;
/// Maximum number of statements in one pass; the rest waits for the next pass.
const MAX_BATCHES: usize = 200;
/// Maximum length of an action in a filter, in characters.
const MAX_ACTION_LENGTH: usize = 64;

/// One page of events, newest first, with the email addresses of the actors; and whether there are more.
///
/// # Errors
/// [`Error::Validation`] for an invalid action.
pub async fn page(
    context: &Context,
    filter: &Filter,
    limit: i64,
) -> Result<(Vec<(Written, Option<String>)>, bool)> {
    if filter.action.as_deref().is_some_and(|action| !is_action(action)) {
        return Err(Error::field(
            "action",
            "must be an action such as user.role, or all actions of a noun: \
            user.*",
        ));
    }
    Ok(split_page(audit::page(&mut *context.db.conn().await?, filter, limit.saturating_add(1)).await?, limit))
}

fn is_action(text: &str) -> bool {
    let noun = text.strip_suffix(".*").unwrap_or(text);
    (1..=MAX_ACTION_LENGTH).contains(&noun.len())
        && noun.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_'))
}

/// Parses an actor filter: `cli`, `system`, `anonymous`, `user` (any account), or the id or email address of an
/// account.
///
/// # Errors
/// [`Error::NotFound`] if there is no such account.
pub async fn who(context: &Context, text: &str) -> Result<Who> {
    if let Some(kind) = AuditActor::ALL.iter().find(|kind| kind.as_str() == text) {
        return Ok(Who::Kind(*kind));
    }
    if let Ok(id) = UserId::from_str(text) {
        return Ok(Who::Account(id));
    }
    let mut conn = context.db.conn().await?;
    let user = users::find_by_email(&mut conn, text).await?.ok_or(Error::NotFound(Noun::User))?;
    Ok(Who::Account(user.id))
}

/// Deletes events older than `audit.retention`, in batches. Returns the number of deleted events.
pub async fn reap(context: &Context) -> Result<usize> {
    let Some(retention) = context.config.audit.retention else { return Ok(0) };
    let mut dropped = 0;
    let mut conn = context.db.conn().await?;
    let before = context.clock.now() - retention;
    for _ in 0..MAX_BATCHES {
        let batch = audit::purge(&mut conn, before, BATCH).await?;
        dropped += batch;
        if i64::try_from(batch).is_ok_and(|batch| batch < BATCH) {
            break;
        }
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::is_action;

    #[test]
    fn actions_are_nouns_and_verbs() {
        assert!(is_action("user.role") && is_action("session.*") && is_action("session.login_failed"));
        for wrong in ["", ".*%", "a b", "A", "user.%", &"x".repeat(65)] {
            assert!(!is_action(wrong), "{wrong}");
        }
    }
}
