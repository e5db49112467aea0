//! The effective policy: the configured rules with their stores, warnings about unexpected costs, and the review of
//! local copies, whose rule changes as files get older and are used.

use diesel_async::AsyncPgConnection;
use tokio_util::sync::CancellationToken;

use super::lease::once_every;
use super::storage_class;
use crate::checksum::Sha256Hasher;
use crate::config::{Config, FreeLocalAfter, RuleConfig, StoreRole};
use crate::context::Context;
use crate::db::drains;
use crate::db::policy::{Patience, Policy};
use crate::db::replicas::{self, Reviewed};
use crate::error::Result;
use crate::ids::ObjectId;
use crate::store::Store;

/// Local copies reviewed in one statement.
const BATCH: i64 = 2_000;

/// The policy as configured.
///
/// # Errors
/// [`crate::error::Error::Internal`] if a store is not configured, which the validation of the configuration prevents.
pub fn of(context: &Context) -> Result<Policy<'_>> {
    Ok(Policy {
        rules: &context.config.policy.rules,
        local: context.stores.local()?.name().as_str(),
        locals: context.stores.names_with(StoreRole::Local),
        clouds: context.stores.names_with(StoreRole::Cloud),
        cloud_replicas: context.config.tiering.cloud_replicas,
        draining: Vec::new(),
        free_local_after: context.config.tiering.free_local_after,
        patience: patience(&context.config),
    })
}

/// When runs take up failed copies again.
pub fn patience(config: &Config) -> Patience {
    let tiering = &config.tiering;
    Patience { first: tiering.retry_failed_after, later: tiering.retry_failed_cap }
}

/// The policy in effect now, excluding stores that are being drained.
///
/// # Errors
/// Like [`of`], and any database error.
pub async fn in_force<'c>(context: &'c Context, conn: &mut AsyncPgConnection) -> Result<Policy<'c>> {
    Ok(Policy { draining: drains::names(conn).await?, ..of(context)? })
}

/// The stores to which the replicas of `from` are relocated when it is drained: the other stores of its role, the main
/// store first; if there are none, the stores of the other role. Stores that are being drained are excluded.
pub(super) fn destinations<'c>(context: &'c Context, from: &Store, draining: &[String]) -> Vec<&'c str> {
    if !draining.iter().any(|name| name == from.name().as_str()) {
        return Vec::new();
    }
    let lasting = |role| -> Vec<&'c str> {
        let names = context.stores.names_with(role).into_iter();
        names.filter(|name| *name != from.name().as_str() && !draining.iter().any(|it| it == name)).collect()
    };
    let same = lasting(from.role());
    if !same.is_empty() {
        return same;
    }
    lasting(match from.role() {
        StoreRole::Local => StoreRole::Cloud,
        StoreRole::Cloud => StoreRole::Local,
    })
}

/// Like [`fingerprint`], including the set of stores being drained.
pub fn fingerprint_of(config: &Config, policy: &Policy<'_>) -> String {
    let configured = fingerprint(config);
    if policy.draining.is_empty() {
        configured
    } else {
        format!("{configured} without {}", policy.draining.join(","))
    }
}

/// A fingerprint of everything that determines the placement of files: it changes with the rules and the stores.
pub fn fingerprint(config: &Config) -> String {
    let stores: Vec<_> = config
        .stores
        .iter()
        .map(|(name, store)| (name, store.role, &store.endpoint, &store.bucket, &store.storage_class))
        .collect();
    let tiering = &config.tiering;
    let decides =
        (&config.policy.rules, &tiering.local_store, &tiering.cloud_store, tiering.cloud_replicas, stores);
    let mut hasher = Sha256Hasher::new();
    hasher.update(format!("{decides:?}").as_bytes());
    hasher.finish().to_string().chars().take(32).collect()
}

/// Warnings about unexpected costs of rules, as sentences.
pub fn warnings(config: &Config) -> Vec<String> {
    let rules = config.policy.rules.values();
    rules.flat_map(|rule| rule_warnings(rule, config)).collect()
}

fn rule_warnings(rule: &RuleConfig, config: &Config) -> Vec<String> {
    let of_stores = || {
        let names = match rule.stores.as_slice() {
            [] => std::slice::from_ref(&config.tiering.cloud_store),
            names => names,
        };
        let stores = names.iter().filter_map(|name| config.stores.get(name));
        stores.filter(|store| store.role == StoreRole::Cloud).find_map(|store| store.storage_class.as_deref())
    };
    let Some(class) = rule.storage_class.as_deref().or_else(of_stores) else { return Vec::new() };
    let facts = storage_class::facts(class);
    let mut warnings = Vec::new();
    let mut warn = |text: String| warnings.push(format!("The rule \"{}\": {text}", rule.name));
    if facts.least_days > 0 {
        warn(format!(
            "AWS charges an object in {class} for at least {} days, even if its file is deleted or \
                replaced before.",
            facts.least_days
        ));
    }
    if facts.least_size > 0 && rule.min_size.unwrap_or_default().0 < facts.least_size {
        warn(format!(
            "AWS charges an object in {class} smaller than 128 KiB as 128 KiB; set min_size = \"128KiB\" \
                in the rule."
        ));
    }
    if facts.overhead > 0 {
        warn(format!("AWS charges 40 KiB more for each object in {class}; it is for large files."));
    }
    if facts.is_archive
        && rule.evicts_after(&config.tiering.local_store, config.tiering.free_local_after)
            != FreeLocalAfter::Never
    {
        warn(format!(
            "copies in {class} cannot be read without a restore, and the local copies are evicted; set \
             keep_local = true for files that users may open."
        ));
    }
    warnings
}

/// Re-evaluates the rule that evicts each synced local copy; immediately after a change of the rules, and otherwise
/// every `policy.review_every`, in one worker. Returns the number of copies with a changed rule.
///
/// # Errors
/// Any database error; the next pass starts again.
pub async fn review(context: &Context, stop: &CancellationToken) -> Result<usize> {
    let lease = format!("review {}", fingerprint(&context.config));
    let every = context.config.policy.review_every;
    Ok(once_every(context, &lease, every, stop, review_all(context, stop)).await?.unwrap_or(0))
}

async fn review_all(context: &Context, stop: &CancellationToken) -> Result<usize> {
    let conn = &mut *context.db.conn().await?;
    let policy = of(context)?;
    if policy.rules.is_empty() && !replicas::any_under_a_rule(conn, &policy.locals).await? {
        return Ok(0);
    }
    let (mut changed, mut after) = (0, ObjectId(uuid::Uuid::nil()));
    while !stop.is_cancelled() {
        let Reviewed { last, changed: some } = replicas::review(conn, &policy, after, BATCH).await?;
        changed += usize::try_from(some).unwrap_or(0);
        let Some(last) = last else { break };
        after = last;
    }
    Ok(changed)
}
