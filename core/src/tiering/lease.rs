//! Work that one process at a time does: under a lease in the database that is renewed while the work goes on.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::db_outage::retry_on_db_outage;
use crate::context::Context;
use crate::db::leases;
use crate::error::Result;
use crate::ids::LeaseToken;

/// Does work under the lease `name`. Returns none where another process holds the lease: then nothing was done, or, where
/// this process was away for so long that the other one took it over, the work was dropped where it stood.
///
/// # Errors
/// Any error of the work; any database error.
pub async fn with_lease<T>(
    context: &Context,
    name: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    let Some(lease) = Lease::take(context, name).await? else { return Ok(None) };
    let Some(outcome) = lease.hold(work).await else { return Ok(None) };
    lease.release().await?;
    outcome.map(Some)
}

/// As [`with_lease`], at most once in `every` of all processes together: work that has finished, and that `stop` did not
/// interrupt, keeps the lease until it is due again.
///
/// # Errors
/// As [`with_lease`].
pub async fn once_every<T>(
    context: &Context,
    name: &str,
    every: Duration,
    stop: &CancellationToken,
    work: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    let Some(lease) = Lease::take(context, name).await? else { return Ok(None) };
    let Some(outcome) = lease.hold(work).await else { return Ok(None) };
    if outcome.is_ok() && !stop.is_cancelled() {
        lease.renew(every).await?;
    } else {
        lease.release().await?;
    }
    outcome.map(Some)
}

/// A lease that this process took.
struct Lease<'c> {
    context: &'c Context,
    name: &'c str,
    token: LeaseToken,
}

impl<'c> Lease<'c> {
    async fn take(context: &'c Context, name: &'c str) -> Result<Option<Self>> {
        let token = LeaseToken::new();
        let mut conn = context.db.conn().await?;
        let is_ours = leases::take(&mut conn, name, token, context.config.tiering.lease).await?;
        Ok(is_ours.then_some(Self { context, name, token }))
    }

    /// Renews the lease until the work ends. None when another process took it over; the work is dropped then.
    async fn hold<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = work => Some(outcome),
            () = self.lost() => {
                tracing::warn!(lease = self.name, "another process took over a lease: the work under it is dropped");
                None
            }
        }
    }

    async fn lost(&self) {
        let life = self.context.config.tiering.lease;
        loop {
            tokio::time::sleep(life / 3).await;
            match self.renew_once(life).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(lease = self.name, %error, "a lease could not be renewed yet"),
            }
        }
    }

    async fn renew_once(&self, life: Duration) -> Result<bool> {
        leases::renew(&mut *self.context.db.conn().await?, self.name, self.token, life).await
    }

    async fn renew(&self, life: Duration) -> Result<bool> {
        retry_on_db_outage(|| self.renew_once(life)).await
    }

    async fn release(&self) -> Result<()> {
        retry_on_db_outage(async || {
            leases::release(&mut *self.context.db.conn().await?, self.name, self.token).await
        })
        .await
    }
}
