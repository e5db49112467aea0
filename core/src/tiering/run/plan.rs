//! Plans: what a run would do, computed and saved without doing it; and checked again before execution.

use std::time::Duration;

use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::checksum::BLOCK;
use crate::config::{Config, FreeLocalAfter};
use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::plans::{self, Change, Group, Item, Parts, Plan, Position};
use crate::db::policy::DEFAULT_RULE;
use crate::db::runs::RunScope;
use crate::db::{split_page, unsigned};
use crate::error::{Error, FieldError, Noun, Result};
use crate::ids::{PlanId, UserId};
use crate::tiering::copy::parts::MAX_PARTS;
use crate::tiering::money::Money;
use crate::tiering::{forecast, policy, storage_class};

/// Maximum number of changes to list.
const MAX_LISTED_CHANGES: i64 = 20;
/// Items deleted in one statement.
const PURGE: i64 = 10_000;

/// The totals of one rule, store and storage class, with their costs.
#[derive(Debug, Clone)]
pub struct Part {
    /// Totals.
    pub group: Group,
    /// The storage class of the copies.
    pub class: String,
    /// When the local copies are evicted.
    pub local: FreeLocalAfter,
    /// Monthly cost of the copies; `None` if a price is not configured.
    pub monthly: Option<Money>,
    /// Cost of the requests; `None` if the price is not configured.
    pub requests: Option<Money>,
    /// Cost of reading everything back; `None` if the price is not configured.
    pub egress: Option<Money>,
}

/// A plan with its derived values.
#[derive(Debug, Clone)]
pub struct PlanView {
    /// The row.
    pub plan: Plan,
    /// By rule, store and class.
    pub parts: Vec<Part>,
    /// Number of copies.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// PUT requests.
    pub requests: u64,
    /// The estimated time at the rate of recent runs; `None` if no run has been measured.
    pub needs: Option<Duration>,
    /// Warnings about unexpected costs.
    pub warnings: Vec<String>,
}

impl PlanView {
    /// The sum of an amount over all parts; `None` if one is unknown.
    pub fn sum(&self, of: impl Fn(&Part) -> Option<Money>) -> Option<Money> {
        self.parts.iter().map(of).sum()
    }
}

/// Makes and saves a plan of what a run of `scope` would do now. Only the plan itself is written.
///
/// # Errors
/// [`Error::NoSuch`] if an element of the scope does not exist.
pub async fn make(
    context: &Context,
    scope: &RunScope,
    requested_by: Option<UserId>,
    origin: &Origin,
) -> Result<PlanView> {
    let config = &context.config;
    let parts = Parts {
        threshold: config.tiering.multipart_threshold_bytes(),
        size: config.tiering.part_size_bytes(),
        block: BLOCK,
        most: MAX_PARTS,
        small: storage_class::SMALL,
    };
    let mut conn = context.db.conn().await?;
    let expires_at = context.clock.now() + config.policy.plan_ttl;
    let plan = conn
        .transaction(async move |conn| {
            crate::db::scope::require(conn, scope).await?;
            let policy = policy::in_force(context, conn).await?;
            let fingerprint = policy::fingerprint_of(config, &policy);
            let plan = plans::insert(conn, requested_by, scope, &fingerprint, expires_at).await?;
            plans::fill(conn, plan.id, &policy, scope, parts).await?;
            let detail = serde_json::json!({ "scope": plan.scope });
            audit::record(conn, origin, requested_by, "plan.make", ("plan", plan.id), detail).await?;
            plans::find(conn, plan.id).await?.ok_or(Error::NotFound(Noun::Plan))
        })
        .await?;
    view(context, &mut conn, plan).await
}

/// Finds a plan, including expired ones.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find(context: &Context, id: PlanId) -> Result<PlanView> {
    let mut conn = context.db.conn().await?;
    let plan = plans::find(&mut conn, id).await?.ok_or(Error::NotFound(Noun::Plan))?;
    view(context, &mut conn, plan).await
}

/// A page of a plan's items after `after`, and whether there are more.
pub async fn items(
    context: &Context,
    id: PlanId,
    after: Option<&Position>,
    limit: i64,
) -> Result<(Vec<Item>, Option<Position>)> {
    let mut conn = context.db.conn().await?;
    let (items, more) = split_page(plans::page(&mut conn, id, after, limit.saturating_add(1)).await?, limit);
    let last = items.last().map(|last| Position { object: last.object_id, store: last.store.clone() });
    Ok((items, last.filter(|_| more)))
}

async fn view(context: &Context, conn: &mut AsyncPgConnection, plan: Plan) -> Result<PlanView> {
    let config = &context.config;
    let groups = plan.groups()?;
    let total = |of: fn(&Group) -> i64| -> u64 { groups.iter().map(of).map(unsigned).sum() };
    let (files, bytes, requests) = (total(|of| of.files), total(|of| of.bytes), total(|of| of.requests));
    let needs = forecast::needs(context, conn, files, bytes).await?;
    let warnings = groups.iter().flat_map(|group| warnings(config, group)).collect();
    let parts = groups.into_iter().map(|group| part(config, group)).collect();
    Ok(PlanView { plan, parts, files, bytes, requests, needs, warnings })
}

fn class_of(config: &Config, group: &Group) -> String {
    let of_store = || config.stores.get(&group.store).and_then(|store| store.storage_class.clone());
    group.storage_class.clone().or_else(of_store).unwrap_or_else(|| storage_class::USUAL.to_owned())
}

fn part(config: &Config, group: Group) -> Part {
    let class = class_of(config, &group);
    let otherwise = config.tiering.free_local_after;
    let rule = config.policy.rule(&group.rule);
    let local = rule.map_or(otherwise, |rule| rule.evicts_after(&config.tiering.local_store, otherwise));
    let facts = storage_class::facts(&class);
    let (files, bytes) = (unsigned(group.files), unsigned(group.bytes));
    let mut charged = bytes.saturating_add(files.saturating_mul(facts.overhead));
    if facts.least_size > 0 {
        let at_least = unsigned(group.small_files).saturating_mul(facts.least_size);
        charged = charged.saturating_sub(unsigned(group.small_bytes)).saturating_add(at_least);
    }
    let price = config.policy.price(&group.store, &class);
    let by_bytes = |price, bytes| Money::of_bytes(price, bytes);
    Part {
        monthly: price.and_then(|price| price.storage).map(|price| by_bytes(price, charged)),
        egress: price.and_then(|price| price.egress).map(|price| by_bytes(price, bytes)),
        requests: price
            .and_then(|price| price.requests)
            .map(|price| Money::of_requests(price, unsigned(group.requests))),
        class,
        local,
        group,
    }
}

fn warnings(config: &Config, group: &Group) -> Vec<String> {
    let class = class_of(config, group);
    let facts = storage_class::facts(&class);
    let rule =
        if group.rule == DEFAULT_RULE { String::new() } else { format!(" by the rule \"{}\"", group.rule) };
    let mut warnings = Vec::new();
    let mut warn = |text: String| warnings.push(format!("{} to {}{rule}: {text}", class, group.store));
    if facts.least_days > 0 {
        warn(format!(
            "AWS charges each of the {} files for at least {} days.",
            group.files, facts.least_days
        ));
    }
    if facts.least_size > 0 && group.small_files > 0 {
        warn(format!("{} files are smaller than 128 KiB and are charged as 128 KiB.", group.small_files));
    }
    if facts.overhead > 0 {
        warn(format!("AWS charges 40 KiB more for each of the {} files.", group.files));
    }
    if facts.is_archive {
        warn("these copies cannot be read without a restore.".to_owned());
    }
    warnings
}

/// Checks whether a plan can still be executed exactly as shown.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::PlanChanged`] with the changes.
pub async fn require_unchanged(context: &Context, conn: &mut AsyncPgConnection, id: PlanId) -> Result<()> {
    let plan = plans::find(conn, id).await?.ok_or(Error::NotFound(Noun::Plan))?;
    let refused = |reason: String| Error::PlanChanged { reason, changes: Vec::new() };
    if plan.expires_at <= context.clock.now() {
        return Err(refused(format!("It expired at {}.", plan.expires_at.format("%Y-%m-%d %H:%M:%S UTC"))));
    }
    let policy = policy::in_force(context, conn).await?;
    if plan.fingerprint != policy::fingerprint_of(&context.config, &policy) {
        return Err(refused("The rules, the stores, or the set of drained stores have changed.".to_owned()));
    }
    let changes = plans::changes(conn, id, MAX_LISTED_CHANGES).await?;
    let Some(total) = changes.first().map(|change| change.total) else { return Ok(()) };
    let reason =
        if total == 1 { "A file has changed.".to_owned() } else { format!("{total} files have changed.") };
    Err(Error::PlanChanged { reason, changes: changes.iter().map(told).collect() })
}

fn told(change: &Change) -> FieldError {
    let name = change.filename.as_deref().unwrap_or("a version");
    let what = match change.what.as_str() {
        "deleted" => "was deleted".to_owned(),
        "overwritten" => "has a newer version".to_owned(),
        "moved" => format!("is already in {}, or in progress", change.store),
        _ => "has no verified copy left to copy from".to_owned(),
    };
    let id = change.file_id.map_or_else(|| change.object_id.to_string(), |file| file.to_string());
    FieldError::new(id, format!("“{name}” {what}"))
}

/// Deletes expired plans.
///
/// # Errors
/// Any database error; the rest is deleted by the next pass.
pub async fn purge(conn: &mut AsyncPgConnection) -> Result<()> {
    while plans::purge(conn, PURGE).await? {}
    Ok(())
}
