//! The policy in force: the rules of the configuration with the stores that they speak of, what they will cost that one
//! may not expect, and the review of local copies, whose rule changes as files grow older and are used.

use diesel_async::AsyncPgConnection;
use tokio_util::sync::CancellationToken;

use super::storage_class;
use crate::checksum::Sha256Hasher;
use crate::config::{Config, FreeLocalAfter, RuleConfig, StoreRole};
use crate::context::Context;
use crate::db::policy::Policy;
use crate::db::replicas::{self, Reviewed};
use crate::db::{chores, drains};
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId};

/// Local copies whose rule is decided in one statement.
const BATCH: i64 = 2_000;

/// The policy as it is configured.
///
/// # Errors
/// [`crate::error::Error::Internal`] when a store is not configured; the configuration's validation rules that out.
pub fn of(context: &Context) -> Result<Policy<'_>> {
    Ok(Policy {
        rules: &context.config.policy.rules,
        local: context.stores.local()?.name().as_str(),
        locals: context.stores.names_with(crate::store::StoreRole::Local),
        clouds: context.stores.names_with(crate::store::StoreRole::Cloud),
        cloud_replicas: context.config.tiering.cloud_replicas,
        draining: Vec::new(),
        free_local_after: context.config.tiering.free_local_after,
    })
}

/// The policy in force at this moment: into stores that are being emptied it puts nothing.
///
/// # Errors
/// As [`of`], and whatever the database meets.
pub async fn in_force<'c>(context: &'c Context, conn: &mut AsyncPgConnection) -> Result<Policy<'c>> {
    Ok(Policy { draining: drains::names(conn).await?, ..of(context)? })
}

/// As [`fingerprint`], and for which stores are being emptied.
pub fn fingerprint_of(config: &Config, policy: &Policy<'_>) -> String {
    let configured = fingerprint(config);
    if policy.draining.is_empty() {
        configured
    } else {
        format!("{configured} without {}", policy.draining.join(","))
    }
}

/// Stands for all that decides where files go: another one means that the rules or the stores were changed.
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

/// What rules cost that one may not expect, in sentences.
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
            "AWS charges an object in {class} for at least {} days, also when its file is deleted or replaced before.",
            facts.least_days
        ));
    }
    if facts.least_size > 0 && rule.min_size.unwrap_or_default().0 < facts.least_size {
        warn(format!(
            "AWS charges an object in {class} of less than 128 KiB as if it had 128 KiB; give the rule min_size = \"128KiB\"."
        ));
    }
    if facts.overhead > 0 {
        warn(format!("AWS charges 40 KiB more for each object in {class}; it is for large files."));
    }
    if facts.is_archive
        && rule.frees(&config.tiering.local_store, config.tiering.free_local_after) != FreeLocalAfter::Never
    {
        warn(format!(
            "copies in {class} cannot be read without a restore, and the local copies are freed; set keep_local = true \
             for files that somebody may open."
        ));
    }
    warnings
}

/// Decides anew by which rule each local copy that has crossed is freed; at once after a change of the rules, and else
/// every `policy.review_every`, in one worker. Answers how many have another rule now.
///
/// # Errors
/// Whatever the database meets; then the next pass begins again.
pub async fn review(context: &Context, stop: &CancellationToken) -> Result<usize> {
    let chore = format!("review {}", fingerprint(&context.config));
    let token = LeaseToken::new();
    let every = context.config.policy.review_every;
    let mut conn = context.db.conn().await?;
    if !chores::take(&mut conn, &chore, token, every).await? {
        return Ok(0);
    }
    let reviewed = review_all(context, &mut conn, stop, &chore, token).await;
    // What came to its end keeps the chore until it is due again.
    if reviewed.is_err() || stop.is_cancelled() {
        chores::give_back(&mut conn, &chore, token).await?;
    }
    reviewed
}

async fn review_all(
    context: &Context,
    conn: &mut AsyncPgConnection,
    stop: &CancellationToken,
    chore: &str,
    token: LeaseToken,
) -> Result<usize> {
    let policy = of(context)?;
    if policy.rules.is_empty() && !replicas::any_under_a_rule(conn, &policy.locals).await? {
        return Ok(0);
    }
    let (mut changed, mut after) = (0, ObjectId(uuid::Uuid::nil()));
    while !stop.is_cancelled() && chores::take(conn, chore, token, context.config.policy.review_every).await?
    {
        let Reviewed { last, changed: some } = replicas::review(conn, &policy, after, BATCH).await?;
        changed += usize::try_from(some).unwrap_or(0);
        let Some(last) = last else { break };
        after = last;
    }
    Ok(changed)
}
