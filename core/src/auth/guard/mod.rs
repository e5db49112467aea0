//! Slows down whoever guesses passwords, without letting anybody lock somebody else out: failures count for account and
//! network together, and what strangers do elsewhere never counts where the owner has signed in before. Accounts that
//! do not exist are treated like those that do. See docs/adr/0012.

mod notes;

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};

pub use self::notes::FailureNotes;
use self::notes::write_down;
pub(super) use self::notes::{Reason, turned_away};
use super::network;
use crate::auth::Accounts;
use crate::config::LimitsConfig;
use crate::context::Context;
use crate::db::audit::Origin;
use crate::db::sign_in_guard::{self as table, AccountHash, Failures, Standing};
use crate::error::{Error, Result};
use crate::ids::UserId;

/// How often the wait doubles at most, for one network that reaches the limit again and again.
const MOST_DOUBLINGS: u32 = 2;
/// How long it is remembered that a network has reached the limit.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// One attempt to sign in that may go on.
#[derive(Debug)]
pub(super) struct Attempt {
    account: AccountHash,
    email: String,
    network: String,
}

impl Attempt {
    /// The network it comes from.
    pub(super) fn network(&self) -> &str {
        &self.network
    }
}

/// Looks whether somebody may try at all.
///
/// # Errors
/// [`Error::RateLimited`].
pub(super) async fn look(
    context: &Context,
    conn: &mut AsyncPgConnection,
    email: &str,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<Attempt> {
    let limits = &context.config.limits;
    let network = network::name_of(&origin.ip);
    let standing = table::standing(conn, email, &network, now - limits.failed_login_window).await?;
    match refused_until(&standing, limits, now) {
        Some(until) => Err(refused(until, now)),
        None => Ok(Attempt { account: standing.account, email: email.to_owned(), network }),
    }
}

/// Looks once more, within the transaction that tells the outcome: of attempts at the same time on one account each sees
/// the ones before it, wherever they come from. Answers until when this one may not try, if that is so by now.
async fn look_again(
    limits: &LimitsConfig,
    conn: &mut AsyncPgConnection,
    attempt: &Attempt,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    let Attempt { account, email, network } = attempt;
    table::hold(conn, account).await?;
    let standing = table::standing(conn, email, network, now - limits.failed_login_window).await?;
    Ok(refused_until(&standing, limits, now))
}

/// Until when one may not try, if that is so.
fn refused_until(standing: &Standing, limits: &LimitsConfig, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if let Some(until) = standing.blocked_until.filter(|until| *until > now) {
        return Some(until);
    }
    let everywhere = i64::from(limits.failed_logins_everywhere);
    if standing.known || standing.failures < everywhere {
        return None;
    }
    Some(standing.first_at.unwrap_or(now) + limits.failed_login_window)
}

fn refused(until: DateTime<Utc>, now: DateTime<Utc>) -> Error {
    metrics::counter!("nightferry_logins_total", "outcome" => "refused").increment(1);
    Error::RateLimited { retry_after: (until - now).to_std().unwrap_or(Duration::from_secs(1)) }
}

/// Counts a failure, and answers what the caller is told: that the credentials are wrong, or, once the limit is reached
/// by others at the same time, to wait. That it happened is written down beside that, as far as that is bounded, and
/// without the caller waiting for it: otherwise the time would tell whether it was.
pub(super) async fn failed(
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
            if let Some(until) = look_again(limits, conn, attempt, now).await? {
                return Ok::<_, Error>((refused(until, now), None));
            }
            let first = next(None, limits, now);
            let before = table::lock_or_begin(conn, account, network, &first).await?;
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
        let detail = serde_json::json!({ "reason": reason.as_str(), "unwritten_before": unwritten });
        lines.push(("session.login_failed", detail));
    }
    if let Some(until) = blocked.filter(|_| account.is_some() || note.is_some()) {
        let detail = serde_json::json!({ "network": attempt.network, "until": until });
        lines.push(("session.locked_out", detail));
    }
    write_down(context, account, origin, lines);
    Ok(told)
}

/// Lets a right password through, in the transaction of what it was for. What others tried at the same time counts: a guess
/// that is right but came when a limit was reached is told nothing.
///
/// # Errors
/// [`Error::RateLimited`].
pub(super) async fn passed(
    context: &Context,
    conn: &mut AsyncPgConnection,
    attempt: &Attempt,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<()> {
    if let Some(until) = look_again(&context.config.limits, conn, attempt, now).await? {
        return Err(refused(until, now));
    }
    table::forget(conn, &attempt.account, &attempt.network).await?;
    table::note_network(conn, user, &attempt.network, now).await
}

/// The row after one more failure.
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
    let doublings = u32::try_from(blocks).unwrap_or(0).min(MOST_DOUBLINGS);
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
            ..LimitsConfig::off()
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
        assert_eq!(next(row.as_ref(), &limits, now).blocks, 0, "a day later it is forgotten");
    }

    #[test]
    fn failures_that_are_far_apart_do_not_add_up() {
        let limits = limits();
        let mut row = None;
        for round in 0..20 {
            row = Some(next(row.as_ref(), &limits, minutes(round * 8)));
            assert_eq!(row.as_ref().unwrap().blocked_until, None, "round {round}");
        }
    }

    #[test]
    fn strangers_elsewhere_close_the_door_to_strangers_only() {
        let limits = limits();
        let standing = |known, failures, blocked_until| Standing {
            account: Vec::new(),
            blocked_until,
            failures,
            first_at: Some(minutes(0)),
            known,
        };
        let now = minutes(5);
        assert_eq!(refused_until(&standing(false, 9, None), &limits, now), None);
        assert_eq!(refused_until(&standing(false, 10, None), &limits, now), Some(minutes(15)));
        assert_eq!(refused_until(&standing(true, 1000, None), &limits, now), None);
        assert_eq!(refused_until(&standing(true, 0, Some(minutes(6))), &limits, now), Some(minutes(6)));
        assert_eq!(refused_until(&standing(false, 0, Some(minutes(5))), &limits, now), None);
    }
}
