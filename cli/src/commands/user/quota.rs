//! `nightferry user quota`: the storage limit of an account.

use clap::Args;
use nightferry_core::auth::administration::{self, Change};
use nightferry_core::context::Context;
use nightferry_core::db::{signed, unsigned};

use super::{App, find, show};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::format::{amount, bytes};

const EXAMPLES: &str = "\
Examples:
  nightferry user quota ada@example.org 10GiB
  nightferry user quota ada@example.org none     no limit

A quota below the current usage deletes nothing; it only rejects new uploads.";

/// Options of `user quota`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct QuotaArgs {
    /// Email address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
    /// Maximum storage: a size such as 10GiB (2^30) or 10GB (10^9), or none
    #[arg(value_name = "SIZE", value_parser = quota)]
    quota: Quota,
}

/// A limit or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Quota(Option<u64>);

fn quota(text: &str) -> Result<Quota, String> {
    match text {
        "none" => Ok(Quota(None)),
        // Zero is allowed: an account that only reads.
        "0" | "0B" => Ok(Quota(Some(0))),
        size => amount::size(size).map(|size| Quota(Some(size))).map_err(|wrong| format!("{wrong}, or none")),
    }
}

pub(super) async fn run(app: &App, context: &Context, args: &QuotaArgs) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let wanted = Change::quota(args.quota.0.map(signed));
    let user = administration::change(context, user.id, wanted, None, &origin())
        .await
        .map_err(cannot("set the quota"))?;
    let in_use = bytes::human(unsigned(user.used_bytes));
    let done = match args.quota.0 {
        Some(quota) => format!("{} can store {}; {in_use} are used.", user.email, bytes::human(quota)),
        None => format!("{} can store an unlimited amount; {in_use} are used.", user.email),
    };
    show(app, &user, &done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_size_or_none() {
        assert_eq!(quota("10GiB"), Ok(Quota(Some(10 * 1024 * 1024 * 1024))));
        assert_eq!(quota("10GB"), Ok(Quota(Some(10_000_000_000))));
        assert_eq!(quota("none"), Ok(Quota(None)));
        assert_eq!(quota("0"), Ok(Quota(Some(0))));
        for wrong in ["", "10", "10G", "-1GB", "never"] {
            assert!(quota(wrong).is_err(), "{wrong}");
        }
    }
}
