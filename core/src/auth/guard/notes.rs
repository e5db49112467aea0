//! What of failed sign-ins is written to the audit log: as much as stays readable, beside the answer, so that its time does
//! not tell whether it was.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::auth::Accounts;
use crate::context::Context;
use crate::db::audit::{self, Event, Origin};
use crate::error::Error;
use crate::ids::UserId;

/// Failed sign-ins that one process writes to the audit log in a minute, of accounts that exist, and of those that do
/// not. Whoever tries more than that is seen in what is counted; the log stays readable and small.
const WRITTEN_A_MINUTE: [NonZeroU32; 2] = [per_minute(120), per_minute(30)];

const fn per_minute(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// Why a sign-in failed, for the audit log alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::auth) enum Reason {
    UnknownAccount,
    WrongPassword,
    Disabled,
    /// The provider's ID token is wrong.
    BadIdToken,
    /// The provider does not vouch for the address.
    EmailNotVerified,
    /// There is an account with the address, which the provider may not sign in to.
    NotLinked,
}

impl Reason {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownAccount => "unknown_account",
            Self::WrongPassword => "wrong_password",
            Self::Disabled => "disabled",
            Self::BadIdToken => "bad_id_token",
            Self::EmailNotVerified => "email_not_verified",
            Self::NotLinked => "not_linked",
        }
    }
}

/// How much of what fails is written down. Clones share it.
#[derive(Debug, Clone)]
pub struct FailureNotes(Arc<Notes>);

#[derive(Debug)]
struct Notes {
    known: DefaultDirectRateLimiter,
    unknown: DefaultDirectRateLimiter,
    unwritten: AtomicU64,
}

impl Default for FailureNotes {
    fn default() -> Self {
        let [known, unknown] = WRITTEN_A_MINUTE.map(|most| RateLimiter::direct(Quota::per_minute(most)));
        Self(Arc::new(Notes { known, unknown, unwritten: AtomicU64::new(0) }))
    }
}

impl FailureNotes {
    /// Whether one more may be written; then, how many were not since the last one.
    pub(super) fn take(&self, known: bool) -> Option<u64> {
        let bucket = if known { &self.0.known } else { &self.0.unknown };
        if bucket.check().is_ok() {
            return Some(self.0.unwritten.swap(0, Ordering::Relaxed));
        }
        self.0.unwritten.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Notes that somebody who came by a provider elsewhere was not let in.
pub(in crate::auth) fn turned_away(
    accounts: &Accounts,
    account: Option<UserId>,
    reason: Reason,
    provider: &str,
    origin: &Origin,
) {
    let context = &accounts.context;
    metrics::counter!("nightferry_logins_total", "outcome" => "failed").increment(1);
    let Some(unwritten) = accounts.failure_notes.take(account.is_some()) else { return };
    let reason = reason.as_str();
    let detail = serde_json::json!({ "reason": reason, "provider": provider, "unwritten_before": unwritten });
    write_down(context, account, origin, vec![("session.login_failed", detail)]);
}

/// Writes lines about an account, beside what is answered.
pub(super) fn write_down(
    context: &Context,
    account: Option<UserId>,
    origin: &Origin,
    lines: Vec<(&'static str, serde_json::Value)>,
) {
    if lines.is_empty() {
        return;
    }
    tokio::spawn(write(context.clone(), account, origin.clone(), lines));
}

async fn write(
    context: Context,
    account: Option<UserId>,
    origin: Origin,
    lines: Vec<(&'static str, serde_json::Value)>,
) {
    let writing = async {
        let mut conn = context.db.conn().await?;
        for (action, detail) in lines {
            audit::record(&mut conn, event(action, account, &origin, detail)).await?;
        }
        Ok::<_, Error>(())
    };
    if let Err(error) = writing.await {
        tracing::warn!(%error, ip = origin.ip, "a failed sign-in could not be written to the audit log");
    }
}

fn event<'a>(
    action: &'static str,
    account: Option<UserId>,
    origin: &'a Origin,
    detail: serde_json::Value,
) -> Event<'a> {
    // Of an account that does not exist, what was typed is not kept: people type passwords there.
    let target_id = account.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    Event { actor: None, action, target_type: "user", target_id, origin, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_is_counted() {
        let notes = FailureNotes::default();
        let written = (0..100).filter(|_| notes.take(false).is_some()).count();
        assert!((30..40).contains(&written), "{written}");
        assert!(notes.take(true).unwrap() >= 60);
        assert_eq!(notes.take(true), Some(0));
    }
}
