//! Passes over what is stored, made every now and then and by one process at a time: when one is due, who makes it, and
//! what it found. Which passes there are and what they do is not said here.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::context::Context;
use crate::db::{passes, schedules};
use crate::error::{Error, Result};
use crate::ids::LeaseToken;

use super::patience::patiently;
use super::schedule;

/// What a pass found, in the form in which it is kept.
pub trait Report: Serialize {
    /// Whether it came to its end.
    fn is_complete(&self) -> bool;
}

/// Makes a pass under a lease that is renewed while it goes on. Answers none, and does nothing, while another process
/// makes a pass of this name. What a complete one found is kept.
///
/// # Errors
/// Whatever the pass or the database meets; [`Error::Conflict`] when the lease was lost meanwhile.
pub async fn exclusively<R: Report>(
    context: &Context,
    name: &str,
    work: impl Future<Output = Result<R>>,
) -> Result<Option<R>> {
    let (token, lease) = (LeaseToken::new(), context.config.tiering.lease);
    {
        let mut conn = context.db.conn().await?;
        if !passes::take(&mut conn, name, token, lease).await? {
            return Ok(None);
        }
    }
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = lost(context, name, token) => {
            return Err(Error::Conflict(format!("Another process took over the pass {name}.")));
        }
    };
    let report = match &outcome {
        Ok(report) if report.is_complete() => {
            let json = serde_json::to_value(report);
            Some(json.map_err(|error| Error::Internal(format!("a report could not be written: {error}")))?)
        }
        _ => None,
    };
    patiently(async || {
        let mut conn = context.db.conn().await?;
        passes::let_go(&mut conn, name, token, report.as_ref()).await
    })
    .await?;
    outcome.map(Some)
}

/// Renews the lease of a pass until somebody else has it.
async fn lost(context: &Context, name: &str, token: LeaseToken) {
    let lease = context.config.tiering.lease;
    loop {
        tokio::time::sleep(lease / 3).await;
        let renewed = async {
            let mut conn = context.db.conn().await?;
            passes::renew(&mut conn, name, token, lease).await
        };
        match renewed.await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => tracing::warn!(pass = name, %error, "the lease of a pass could not be renewed yet"),
        }
    }
}

/// What is known of a schedule without asking the database.
#[derive(Debug, Default)]
pub struct Ticks {
    looked: bool,
    next: Option<DateTime<Utc>>,
}

impl Ticks {
    /// Takes the tick of the schedule `name` that is due, if one is. Of all workers exactly one is answered true. Costs
    /// no query until a tick is due.
    ///
    /// # Errors
    /// Whatever the database meets; the tick is then not taken.
    pub async fn take_due(&mut self, context: &Context, name: &str, pattern: &str) -> Result<bool> {
        let now = context.clock.now();
        if self.looked && self.next.is_none_or(|next| now < next) {
            return Ok(false);
        }
        let tiering = &context.config.tiering;
        let mut conn = context.db.conn().await?;
        schedules::ensure(&mut conn, name, now).await?;
        let last = schedules::last_tick(&mut conn, name).await?.unwrap_or(now);
        let mut taken = false;
        if let Some(tick) = schedule::due(pattern, tiering.time_zone, last, now)? {
            let mine = schedules::take_tick(&mut conn, name, tick).await?;
            // What was missed while no worker was up counts only where it is to be caught up.
            taken = mine && (self.looked || tiering.catch_up);
        }
        self.looked = true;
        self.next = schedule::next(pattern, tiering.time_zone, now)?;
        Ok(taken)
    }
}
