//! Relocating replicas between stores: a drain empties a store, rebalancing evens out the local ones. Two planners decide what
//! goes where ([`drain`], [`rebalance`]); one engine does the work (`pass.rs`).

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

/// A kind of relocation. Relocations of different kinds do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Emptying stores.
    Drain,
    /// Rebalancing of the local stores.
    Rebalance,
}

/// A relocation that was asked for.
#[derive(Debug, Clone)]
pub enum Relocation {
    /// See [`drain`].
    Drain(Drain),
    /// See [`rebalance`].
    Rebalance(Rebalance),
}

impl Relocation {
    /// Those of a kind that may have work left.
    pub async fn all(context: &Context, kind: Kind) -> Result<Vec<Self>> {
        Ok(match kind {
            Kind::Drain => drain::all(context).await?.into_iter().map(Self::Drain).collect(),
            Kind::Rebalance => {
                rebalance::under_way(context).await?.into_iter().map(Self::Rebalance).collect()
            }
        })
    }

    /// The store that it empties; none for rebalancing.
    pub fn store(&self) -> Option<&str> {
        match self {
            Self::Drain(drain) => Some(&drain.store),
            Self::Rebalance(_) => None,
        }
    }

    /// When it was asked for, or called off.
    pub fn asked_at(&self) -> DateTime<Utc> {
        match self {
            Self::Drain(drain) => drain.requested_at,
            Self::Rebalance(rebalance) => rebalance.stopped_at.unwrap_or(rebalance.requested_at),
        }
    }

    /// One pass, until `stop`.
    ///
    /// # Errors
    /// Any database error; the next pass goes on.
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
