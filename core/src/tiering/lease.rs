//! Work that at most one process does at a time, under a lease in the database that is renewed during the work.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::db_outage::retry_on_db_outage;
use crate::context::Context;
use crate::db::leases;
use crate::error::Result;
use crate::ids::LeaseToken;

/// Does work under the lease `name`. Returns `None` if another process holds the lease and nothing was done, or if
/// another process acquired the lease during the work, which was then dropped.
///
/// # Errors
/// Any error of the work, and any database error.
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

/// Like [`with_lease`], at most once in `every` across all processes: work that completes without being interrupted by
/// `stop` keeps the lease until it is due again.
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
        retry_on_db_outage(|| lease.renew(every)).await?;
    } else {
        lease.release().await?;
    }
    outcome.map(Some)
}

/// A lease held by this process.
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

    /// Renews the lease until the work ends. Returns `None` if another process acquired the lease; the work is then
    /// dropped.
    async fn hold<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = work => Some(outcome),
            () = self.lost() => {
                tracing::warn!(lease = self.name, "another process acquired the lease; the work under it is dropped");
                None
            }
        }
    }

    async fn lost(&self) {
        let life = self.context.config.tiering.lease;
        loop {
            tokio::time::sleep(life / 3).await;
            match self.renew(life).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(lease = self.name, %error, "cannot renew a lease; retrying"),
            }
        }
    }

    async fn renew(&self, life: Duration) -> Result<bool> {
        leases::renew(&mut *self.context.db.conn().await?, self.name, self.token, life).await
    }

    async fn release(&self) -> Result<()> {
        retry_on_db_outage(async || {
            leases::release(&mut *self.context.db.conn().await?, self.name, self.token).await
        })
        .await
    }
}
