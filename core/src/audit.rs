//! The audit log as administrators read it, and how long it is kept. Acts write to it by themselves, in their own
//! transactions: see [`crate::db::audit::record`].

use std::str::FromStr;

use crate::context::Context;
use crate::db::audit::{self, Filter, Who, Written};
use crate::db::enums::AuditActor;
use crate::db::{split_page, users};
use crate::error::{Error, Noun, Result};
use crate::ids::UserId;

/// Events dropped in one statement: short locks, short transactions.
const BATCH: i64 = 5_000;
/// Statements in one pass; what is left waits for the next one.
const MOST_BATCHES: usize = 200;
/// Longest action looked for, in characters.
const LONGEST_ACTION: usize = 64;

/// One page of events, newest first, with the addresses of those who acted; and whether there are more.
///
/// # Errors
/// [`Error::Validation`] for an action that cannot be one.
pub async fn page(
    context: &Context,
    filter: &Filter,
    limit: i64,
) -> Result<(Vec<(Written, Option<String>)>, bool)> {
    if filter.action.as_deref().is_some_and(|action| !is_action(action)) {
        return Err(Error::field("action", "must be an action such as user.role, or all of a noun: user.*"));
    }
    let mut conn = context.db.conn().await?;
    Ok(split_page(audit::page(&mut conn, filter, limit.saturating_add(1)).await?, limit))
}

fn is_action(text: &str) -> bool {
    let noun = text.strip_suffix(".*").unwrap_or(text);
    (1..=LONGEST_ACTION).contains(&noun.len())
        && noun.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_'))
}

/// Whom a text means: `cli`, `system`, `anonymous`, `user` (any account), an account's id or its address.
///
/// # Errors
/// [`Error::NotFound`] when there is no such account.
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

/// Drops what is older than `audit.retention`, in batches. Answers how many events went.
///
/// # Errors
/// Whatever the database meets.
pub async fn reap(context: &Context) -> Result<usize> {
    let Some(retention) = context.config.audit.retention else { return Ok(0) };
    let before = context.clock.now() - retention;
    let mut dropped = 0;
    let mut conn = context.db.conn().await?;
    for _ in 0..MOST_BATCHES {
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
