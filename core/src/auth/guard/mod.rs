//! Slows down password guessing without allowing account lockouts: failures are counted per account and network, and
//! failures from elsewhere do not affect networks from which the owner has signed in before. Accounts that do not exist
//! are treated like existing ones. See docs/adr/0012.

mod notes;

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};

pub use self::notes::FailureNotes;
use self::notes::record_events;
pub(super) use self::notes::{Reason, record_rejection};
use super::network;
use crate::auth::Accounts;
use crate::config::LimitsConfig;
use crate::context::Context;
use crate::db::audit::Origin;
use crate::db::sign_in_guard::{self as table, AccountHash, Failures, LoginHistory};
use crate::error::{Error, Result};
use crate::ids::UserId;

/// Maximum number of times that the lockout of a network doubles.
const MAX_DOUBLINGS: u32 = 2;
/// How long the guard remembers that a network has reached the limit.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// A sign-in attempt that is allowed to proceed.
#[derive(Debug)]
pub(super) struct Attempt {
    account: AccountHash,
    email: String,
    network: String,
}

impl Attempt {
    pub(super) fn network(&self) -> &str {
        &self.network
    }
}

/// Checks whether an attempt is allowed.
///
/// # Errors
/// [`Error::RateLimited`].
pub(super) async fn check_allowed(
    context: &Context,
    conn: &mut AsyncPgConnection,
    email: &str,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<Attempt> {
    let limits = &context.config.limits;
    let network = network::name_of(&origin.ip);
    let history = table::history(conn, email, &network, now - limits.failed_login_window).await?;
    match locked_out_until(&history, limits, now) {
        Some(until) => Err(refused(until, now)),
        None => Ok(Attempt { account: history.account, email: email.to_owned(), network }),
    }
}

/// Checks again, within the transaction that records the result: of concurrent attempts on one account, each sees the
/// previous ones, from any network. Returns the end of the lockout, if the limit has been reached in the meantime.
async fn recheck(
    limits: &LimitsConfig,
    conn: &mut AsyncPgConnection,
    attempt: &Attempt,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    let Attempt { account, email, network } = attempt;
    table::hold(conn, account).await?;
    let history = table::history(conn, email, network, now - limits.failed_login_window).await?;
    Ok(locked_out_until(&history, limits, now))
}

/// The end of the lockout, if there is one.
fn locked_out_until(
    history: &LoginHistory,
    limits: &LimitsConfig,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    if let Some(until) = history.blocked_until.filter(|until| *until > now) {
        return Some(until);
    }
    let everywhere = i64::from(limits.failed_logins_everywhere);
    if history.known || history.failures < everywhere {
        return None;
    }
    Some(history.first_at.unwrap_or(now) + limits.failed_login_window)
}

fn refused(until: DateTime<Utc>, now: DateTime<Utc>) -> Error {
    metrics::counter!("nightferry_logins_total", "outcome" => "refused").increment(1);
    Error::RateLimited { retry_after: (until - now).to_std().unwrap_or(Duration::from_secs(1)) }
}

/// Records a failure, and returns the error for the caller: invalid credentials, or a lockout if concurrent attempts
/// have reached the limit. The audit event is written concurrently and rate-limited, so that the response time does not
/// reveal whether it was written.
pub(super) async fn record_failure(
    accounts: &Accounts,
    attempt: &Attempt,
    account: Option<UserId>,
    reason: Reason,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<Error> {
    let context = &accounts.context;
    let limits = &context.config.limits;
    let note = accounts.failure_notes.take(account.is_some());
    let mut conn = context.db.conn().await?;
    let (told, blocked) = conn
        .transaction(async move |conn| {
            let Attempt { account, network, .. } = attempt;
            if let Some(until) = recheck(limits, conn, attempt, now).await? {
                return Ok::<_, Error>((refused(until, now), None));
            }
            let first = next(None, limits, now);
            let before = table::lock_or_insert(conn, account, network, &first).await?;
            let after = match &before {
                None => first,
                Some(before) => {
                    let after = next(Some(before), limits, now);
                    table::put(conn, account, network, &after).await?;
                    after
                }
            };
            metrics::counter!("nightferry_logins_total", "outcome" => "failed").increment(1);
            Ok((Error::InvalidCredentials, after.blocked_until.filter(|until| *until > now)))
        })
        .await?;
    let mut lines = Vec::new();
    if let Some(unwritten) = note {
        let detail = serde_json::json!({ "reason": reason.into_str(), "unwritten_before": unwritten });
        lines.push(("session.login_failed", detail));
    }
    if let Some(until) = blocked.filter(|_| account.is_some() || note.is_some()) {
        let detail = serde_json::json!({ "network": attempt.network, "until": until });
        lines.push(("session.locked_out", detail));
    }
    record_events(context, account, origin, lines);
    Ok(told)
}

/// Accepts a correct password, in the transaction of the action that it authorizes. Concurrent attempts count: a
/// correct guess is rejected if the limit has been reached in the meantime.
///
/// # Errors
/// [`Error::RateLimited`].
pub(super) async fn record_success(
    context: &Context,
    conn: &mut AsyncPgConnection,
    attempt: &Attempt,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<()> {
    if let Some(until) = recheck(&context.config.limits, conn, attempt, now).await? {
        return Err(refused(until, now));
    }
    table::forget(conn, &attempt.account, &attempt.network).await?;
    table::record_network(conn, user, &attempt.network, now).await
}

/// The row after another failure.
fn next(before: Option<&Failures>, limits: &LimitsConfig, now: DateTime<Utc>) -> Failures {
    let window = limits.failed_login_window;
    let current = before.filter(|row| row.began_at + window > now && row.blocked_until.is_none());
    let failures = current.map_or(0, |row| row.failures).saturating_add(1);
    let began_at = current.map_or(now, |row| row.began_at);
    let blocks = before.filter(|row| row.expires_at > now).map_or(0, |row| row.blocks);
    if u32::try_from(failures).unwrap_or(0) < limits.failed_logins {
        let remembered = before.filter(|_| blocks > 0).map_or(began_at, |row| row.expires_at);
        let expires_at = remembered.max(began_at + window);
        return Failures { failures, began_at, blocks, blocked_until: None, expires_at };
    }
    let doublings = u32::try_from(blocks).unwrap_or(0).min(MAX_DOUBLINGS);
    let until = now + window * 2_u32.pow(doublings);
    Failures {
        failures,
        began_at,
        blocks: blocks.saturating_add(1),
        blocked_until: Some(until),
        expires_at: until + REMEMBERED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> LimitsConfig {
        LimitsConfig {
            failed_logins: 3,
            failed_login_window: Duration::from_secs(900),
            failed_logins_everywhere: 10,
            enabled: false,
            auth_requests_per_minute: u32::MAX,
            requests_per_second: u32::MAX,
            tracked_callers: 1,
            redis_url: None,
            redis_timeout: Duration::from_secs(1),
        }
    }

    fn minutes(number: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::Duration::minutes(number)
    }

    #[test]
    fn the_limit_blocks_for_a_window_and_longer_each_time() {
        let limits = limits();
        let mut row = None;
        let mut now = minutes(0);
        for (round, wait) in [15, 30, 60, 60].into_iter().enumerate() {
            for failure in 1..=3 {
                let after = next(row.as_ref(), &limits, now);
                assert_eq!(after.failures, failure, "round {round}");
                assert_eq!(after.blocked_until.is_some(), failure == 3);
                row = Some(after);
            }
            let until = row.as_ref().and_then(|row| row.blocked_until).unwrap();
            assert_eq!(until, now + chrono::Duration::minutes(wait));
            now = until;
        }
        now = row.as_ref().unwrap().expires_at;
        assert_eq!(next(row.as_ref(), &limits, now).blocks, 0, "after a day the entry has expired");
    }

    #[test]
    fn failures_outside_of_the_window_do_not_add_up() {
        let limits = limits();
        let mut row = None;
        for round in 0..20 {
            row = Some(next(row.as_ref(), &limits, minutes(round * 8)));
            assert_eq!(row.as_ref().unwrap().blocked_until, None, "round {round}");
        }
    }

    #[test]
    fn failures_from_other_networks_only_lock_out_unknown_networks() {
        let limits = limits();
        let history = |known, failures, blocked_until| LoginHistory {
            account: Vec::new(),
            blocked_until,
            failures,
            first_at: Some(minutes(0)),
            known,
        };
        let now = minutes(5);
        assert_eq!(locked_out_until(&history(false, 9, None), &limits, now), None);
        assert_eq!(locked_out_until(&history(false, 10, None), &limits, now), Some(minutes(15)));
        assert_eq!(locked_out_until(&history(true, 1000, None), &limits, now), None);
        assert_eq!(locked_out_until(&history(true, 0, Some(minutes(6))), &limits, now), Some(minutes(6)));
        assert_eq!(locked_out_until(&history(false, 0, Some(minutes(5))), &limits, now), None);
    }
}
