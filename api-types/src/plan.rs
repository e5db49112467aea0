//! Plans of what a run would do.

use chrono::{DateTime, Utc};
use nightferry_core::db::plans::Item;
use nightferry_core::db::runs::RunScope;
use nightferry_core::db::unsigned;
use nightferry_core::error::Result;
use nightferry_core::tiering::money::Money;
use nightferry_core::tiering::plan::{Part, PlanView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::run::StartRun;

/// The scope of a plan. Empty: all files.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MakePlan {
    /// Only files of this account.
    pub user_id: Option<Uuid>,
    /// Only files in this folder.
    pub folder_id: Option<Uuid>,
    /// Only these files.
    pub file_ids: Option<Vec<Uuid>>,
    /// Also retry permanently failed copies.
    pub retry_failed: bool,
}

impl MakePlan {
    /// Converts to the domain type.
    pub fn scope(self) -> Result<RunScope> {
        let Self { user_id, folder_id, file_ids, retry_failed } = self;
        StartRun { user_id, folder_id, file_ids, retry_failed, plan_id: None }.scope()
    }
}

/// What a run would do, with a page of its items.
#[derive(Serialize, ToSchema)]
pub struct SyncPlan {
    /// The id, for requesting a run of exactly this plan.
    pub plan_id: Uuid,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Until when it can be executed.
    pub expires_at: DateTime<Utc>,
    /// Number of copies to make.
    pub files: u64,
    /// Bytes to copy.
    pub bytes: u64,
    /// PUT requests, including those of parts.
    pub requests: u64,
    /// Seconds at the rate of recent runs; null if no run has been measured.
    pub seconds: Option<u64>,
    /// Monthly cost of the copies, as a decimal number; null if a price is not configured.
    #[schema(example = "12.3400")]
    pub monthly_cost: Option<String>,
    /// Cost of the requests; null if a price is not configured.
    pub request_cost: Option<String>,
    /// Cost of reading everything back; null if a price is not configured.
    pub egress_cost: Option<String>,
    /// Currency of the costs.
    #[schema(example = "USD")]
    pub currency: String,
    /// The totals by rule, store and storage class.
    pub rules: Vec<PlanRule>,
    /// Warnings about unexpected costs.
    pub warnings: Vec<String>,
    /// The items.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<PlanItem>, required = true)]
    pub items: Option<Vec<PlanItem>>,
    /// The cursor of the next page of items; null on the last one.
    pub next_cursor: Option<String>,
}

/// What a plan copies by one rule to one storage class of one store.
#[derive(Serialize, ToSchema)]
pub struct PlanRule {
    /// The rule.
    pub rule: String,
    /// Destination.
    pub store: String,
    /// Storage class of the copies.
    pub storage_class: String,
    /// When the local copies are evicted: `never`, or after a time.
    #[schema(example = "30d")]
    pub free_local_after: String,
    /// Number of copies to make.
    pub files: u64,
    /// Bytes to copy.
    pub bytes: u64,
    /// Number of PUT requests.
    pub requests: u64,
    /// Monthly cost of the copies.
    pub monthly_cost: Option<String>,
    /// Cost of the requests.
    pub request_cost: Option<String>,
    /// Cost of reading them back.
    pub egress_cost: Option<String>,
}

/// One copy of a plan.
#[derive(Serialize, ToSchema)]
pub struct PlanItem {
    /// A file that has this object as a version.
    pub file_id: Option<Uuid>,
    /// Name.
    pub filename: Option<String>,
    /// The version number.
    pub version: Option<i32>,
    /// The object.
    pub object_id: Uuid,
    /// Size in bytes.
    pub size: u64,
    /// The rule that applies.
    pub rule: String,
    /// Destination.
    pub store: String,
    /// Storage class, if the rule sets one.
    pub storage_class: Option<String>,
    /// Copies with a higher priority are made first.
    pub priority: i16,
}

impl SyncPlan {
    /// Creates the view of a plan, without its copies.
    pub fn new(view: &PlanView, currency: &str) -> Self {
        let sum = |of: fn(&Part) -> Option<Money>| text(view.sum(of));
        Self {
            plan_id: view.plan.id.0,
            created_at: view.plan.created_at,
            expires_at: view.plan.expires_at,
            files: view.files,
            bytes: view.bytes,
            requests: view.requests,
            seconds: view.needs.map(|time| time.as_secs()),
            monthly_cost: sum(|part| part.monthly),
            request_cost: sum(|part| part.requests),
            egress_cost: sum(|part| part.egress),
            currency: currency.to_owned(),
            rules: view.parts.iter().map(PlanRule::from).collect(),
            warnings: view.warnings.clone(),
            items: None,
            next_cursor: None,
        }
    }
}

fn text(money: Option<Money>) -> Option<String> {
    money.map(|money| money.to_string())
}

impl From<&Part> for PlanRule {
    fn from(part: &Part) -> Self {
        let group = &part.group;
        Self {
            rule: group.rule.clone(),
            store: group.store.clone(),
            storage_class: part.class.clone(),
            free_local_after: part.local.to_string(),
            files: unsigned(group.files),
            bytes: unsigned(group.bytes),
            requests: unsigned(group.requests),
            monthly_cost: text(part.monthly),
            request_cost: text(part.requests),
            egress_cost: text(part.egress),
        }
    }
}

impl From<&Item> for PlanItem {
    fn from(item: &Item) -> Self {
        Self {
            file_id: item.file_id.map(|file| file.0),
            filename: item.filename.clone(),
            version: item.version,
            object_id: item.object_id.0,
            size: unsigned(item.size),
            rule: item.rule.clone(),
            store: item.store.clone(),
            storage_class: item.storage_class.clone(),
            priority: item.priority,
        }
    }
}
