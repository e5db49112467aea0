//! Audit events for failed sign-ins: rate-limited to keep the log readable, and written concurrently with the response,
//! so that its time does not reveal whether an event was written.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::auth::Accounts;
use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::error::Error;
use crate::ids::UserId;

/// The number of failed sign-ins that one process writes to the audit log per minute, for existing and for unknown
/// accounts. All failures are counted in the metrics.
const EVENTS_PER_MINUTE: [NonZeroU32; 2] = [per_minute(120), per_minute(30)];

const fn per_minute(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// Why a sign-in failed; only for the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub(in crate::auth) enum Reason {
    UnknownAccount,
    WrongPassword,
    Disabled,
    /// The ID token is invalid.
    BadIdToken,
    /// The identity provider has not verified the email address.
    EmailNotVerified,
    /// An account has this email address, but the provider may not link to it.
    NotLinked,
}

/// The rate limits for audit events. Clones share them.
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
        let [known, unknown] = EVENTS_PER_MINUTE.map(|most| RateLimiter::direct(Quota::per_minute(most)));
        Self(Arc::new(Notes { known, unknown, unwritten: AtomicU64::new(0) }))
    }
}

impl FailureNotes {
    /// Takes a permit for one event. Returns the number of events omitted since the last one.
    pub(super) fn take(&self, known: bool) -> Option<u64> {
        let bucket = if known { &self.0.known } else { &self.0.unknown };
        if bucket.check().is_ok() {
            return Some(self.0.unwritten.swap(0, Ordering::Relaxed));
        }
        self.0.unwritten.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Records that a sign-in with an identity provider was rejected.
pub(in crate::auth) fn record_rejection(
    accounts: &Accounts,
    account: Option<UserId>,
    reason: Reason,
    provider: &str,
    origin: &Origin,
) {
    let context = &accounts.context;
    metrics::counter!("nightferry_logins_total", "outcome" => "failed").increment(1);
    let Some(unwritten) = accounts.failure_notes.take(account.is_some()) else { return };
    let reason = reason.into_str();
    let detail = serde_json::json!({ "reason": reason, "provider": provider, "unwritten_before": unwritten });
    record_events(context, account, origin, vec![("session.login_failed", detail)]);
}

/// Writes events about an account, concurrently with the response.
pub(super) fn record_events(
    context: &Context,
    account: Option<UserId>,
    origin: &Origin,
    lines: Vec<(&'static str, serde_json::Value)>,
) {
    if lines.is_empty() {
        return;
    }
    // The input for an unknown account is not stored, because users sometimes type a password there.
    let target_id = account.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    let (context, origin) = (context.clone(), origin.clone());
    tokio::spawn(async move {
        let writing = async {
            let mut conn = context.db.conn().await?;
            for (action, detail) in lines {
                audit::record(&mut conn, &origin, None, action, ("user", &target_id), detail).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = writing.await {
            tracing::warn!(%error, ip = origin.ip, "cannot write a failed sign-in to the audit log");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_entries_are_counted() {
        let notes = FailureNotes::default();
        let written = (0..100).filter(|_| notes.take(false).is_some()).count();
        assert!((30..40).contains(&written), "{written}");
        assert!(notes.take(true).unwrap() >= 60);
        assert_eq!(notes.take(true), Some(0));
    }
}
