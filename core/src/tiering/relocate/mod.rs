//! Relocation of replicas between stores: a drain empties a store, rebalancing balances the usage of the local stores.
//! Two planners select the replicas and their targets ([`drain`], [`rebalance`]); one engine does the work (`pass.rs`).

pub mod drain;
mod pass;
pub mod rebalance;
mod report;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::db::drains::Drain;
use crate::db::rebalances::Rebalance;
use crate::error::Result;
use crate::ids::WorkerId;

pub use pass::Outcome;

/// A kind of relocation. Relocations of different kinds run independently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Draining stores.
    Drain,
    /// Rebalancing of the local stores.
    Rebalance,
}

/// A requested relocation.
#[derive(Debug, Clone)]
pub enum Relocation {
    /// See [`drain`].
    Drain(Drain),
    /// See [`rebalance`].
    Rebalance(Rebalance),
}

impl Relocation {
    /// The relocations of a kind that may have work left.
    pub async fn all(context: &Context, kind: Kind) -> Result<Vec<Self>> {
        Ok(match kind {
            Kind::Drain => drain::all(context).await?.into_iter().map(Self::Drain).collect(),
            Kind::Rebalance => {
                rebalance::under_way(context).await?.into_iter().map(Self::Rebalance).collect()
            }
        })
    }

    /// The store being drained; `None` for rebalancing.
    pub fn store(&self) -> Option<&str> {
        match self {
            Self::Drain(drain) => Some(&drain.store),
            Self::Rebalance(_) => None,
        }
    }

    /// When the relocation was requested or cancelled.
    pub fn asked_at(&self) -> DateTime<Utc> {
        match self {
            Self::Drain(drain) => drain.requested_at,
            Self::Rebalance(rebalance) => rebalance.stopped_at.unwrap_or(rebalance.requested_at),
        }
    }

    /// One pass, until `stop`.
    ///
    /// # Errors
    /// Any database error; the next pass continues.
    pub async fn pass(
        &self,
        context: &Context,
        worker: WorkerId,
        stop: &CancellationToken,
    ) -> Result<Outcome> {
        match self {
            Self::Drain(drain) => drain::pass(context, &drain.store, worker, stop).await,
            Self::Rebalance(rebalance) => rebalance::pass(context, rebalance, worker, stop).await,
        }
    }
}
