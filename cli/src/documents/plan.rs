//! Plans.

use chrono::{DateTime, Utc};
use nightferry_core::db::plans::Item;
use nightferry_core::db::unsigned;
use nightferry_core::tiering::money::Money;
use nightferry_core::tiering::plan::{Part, PlanView};
use serde::Serialize;

/// What a run would do.
#[derive(Debug, Serialize)]
pub(crate) struct PlanDocument<'a> {
    id: String,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    files: u64,
    bytes: u64,
    requests: u64,
    seconds: Option<u64>,
    monthly_cost: Option<String>,
    request_cost: Option<String>,
    egress_cost: Option<String>,
    currency: &'a str,
    rules: Vec<PlanRuleDocument<'a>>,
    warnings: &'a [String],
}

/// What a plan copies by one rule into one storage class of one store.
#[derive(Debug, Serialize)]
struct PlanRuleDocument<'a> {
    rule: &'a str,
    store: &'a str,
    storage_class: &'a str,
    files: u64,
    bytes: u64,
    requests: u64,
    monthly_cost: Option<String>,
    request_cost: Option<String>,
    egress_cost: Option<String>,
    free_local_after: String,
}

impl<'a> PlanDocument<'a> {
    pub(crate) fn of(view: &'a PlanView, currency: &'a str) -> Self {
        let sum = |of: fn(&Part) -> Option<Money>| view.sum(of).map(|money| money.to_string());
        Self {
            id: view.plan.id.to_string(),
            created_at: view.plan.created_at,
            expires_at: view.plan.expires_at,
            files: view.files,
            bytes: view.bytes,
            requests: view.requests,
            seconds: view.needs.map(|time| time.as_secs()),
            monthly_cost: sum(|part| part.monthly),
            request_cost: sum(|part| part.requests),
            egress_cost: sum(|part| part.egress),
            currency,
            rules: view.parts.iter().map(PlanRuleDocument::of).collect(),
            warnings: &view.warnings,
        }
    }
}

impl<'a> PlanRuleDocument<'a> {
    fn of(part: &'a Part) -> Self {
        let text = |money: Option<Money>| money.map(|money| money.to_string());
        Self {
            rule: &part.group.rule,
            store: &part.group.store,
            storage_class: &part.class,
            files: unsigned(part.group.files),
            bytes: unsigned(part.group.bytes),
            requests: unsigned(part.group.requests),
            monthly_cost: text(part.monthly),
            request_cost: text(part.requests),
            egress_cost: text(part.egress),
            free_local_after: part.local.to_string(),
        }
    }
}

/// One copy of a plan.
#[derive(Debug, Serialize)]
pub(crate) struct PlanItemDocument<'a> {
    file_id: Option<String>,
    filename: Option<&'a str>,
    version: Option<i32>,
    object_id: String,
    size: u64,
    rule: &'a str,
    store: &'a str,
    storage_class: Option<&'a str>,
    priority: i16,
}

impl<'a> PlanItemDocument<'a> {
    pub(crate) fn of(item: &'a Item) -> Self {
        Self {
            file_id: item.file_id.map(|file| file.to_string()),
            filename: item.filename.as_deref(),
            version: item.version,
            object_id: item.object_id.to_string(),
            size: unsigned(item.size),
            rule: &item.rule,
            store: &item.store,
            storage_class: item.storage_class.as_deref(),
            priority: item.priority,
        }
    }
}
