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

view! {
    /// What a run would do, with a page of its items.
    #[derive(Serialize, ToSchema)]
    pub struct SyncPlan: new(view: &PlanView, currency: &str) {
        /// The id, for requesting a run of exactly this plan.
        pub plan_id: Uuid = view.plan.id.0,
        /// When it was created.
        pub created_at: DateTime<Utc> = view.plan.created_at,
        /// Until when it can be executed.
        pub expires_at: DateTime<Utc> = view.plan.expires_at,
        /// Number of copies to make.
        pub files: u64 = view.files,
        /// Bytes to copy.
        pub bytes: u64 = view.bytes,
        /// PUT requests, including those of parts.
        pub requests: u64 = view.requests,
        /// Seconds at the rate of recent runs; null if no run has been measured.
        pub seconds: Option<u64> = view.needs.map(|time| time.as_secs()),
        /// Monthly cost of the copies, as a decimal number; null if a price is not configured.
        #[schema(example = "12.3400")]
        pub monthly_cost: Option<String> = text(view.sum(|part| part.monthly)),
        /// Cost of the requests; null if a price is not configured.
        pub request_cost: Option<String> = text(view.sum(|part| part.requests)),
        /// Cost of reading everything back; null if a price is not configured.
        pub egress_cost: Option<String> = text(view.sum(|part| part.egress)),
        /// Currency of the costs.
        #[schema(example = "USD")]
        pub currency: String = currency.to_owned(),
        /// The totals by rule, store and storage class.
        pub rules: Vec<PlanRule> = view.parts.iter().map(PlanRule::from).collect(),
        /// Warnings about unexpected costs.
        pub warnings: Vec<String> = view.warnings.clone(),
        /// The items.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Vec<PlanItem>, required = true)]
        pub items: Option<Vec<PlanItem>> = None,
        /// The cursor of the next page of items; null on the last one.
        pub next_cursor: Option<String> = None,
    }
}

view! {
    /// What a plan copies by one rule to one storage class of one store.
    #[derive(Serialize, ToSchema)]
    pub struct PlanRule: from(part: &Part) {
        /// The rule.
        pub rule: String = part.group.rule.clone(),
        /// Destination.
        pub store: String = part.group.store.clone(),
        /// Storage class of the copies.
        pub storage_class: String = part.class.clone(),
        /// When the local copies are evicted: `never`, or after a time.
        #[schema(example = "30d")]
        pub free_local_after: String = part.local.to_string(),
        /// Number of copies to make.
        pub files: u64 = unsigned(part.group.files),
        /// Bytes to copy.
        pub bytes: u64 = unsigned(part.group.bytes),
        /// Number of PUT requests.
        pub requests: u64 = unsigned(part.group.requests),
        /// Monthly cost of the copies.
        pub monthly_cost: Option<String> = text(part.monthly),
        /// Cost of the requests.
        pub request_cost: Option<String> = text(part.requests),
        /// Cost of reading them back.
        pub egress_cost: Option<String> = text(part.egress),
    }
}

view! {
    /// One copy of a plan.
    #[derive(Serialize, ToSchema)]
    pub struct PlanItem: from(item: &Item) {
        /// A file that has this object as a version.
        pub file_id: Option<Uuid> = item.file_id.map(|file| file.0),
        /// Name.
        pub filename: Option<String> = item.filename.clone(),
        /// The version number.
        pub version: Option<i32> = item.version,
        /// The object.
        pub object_id: Uuid = item.object_id.0,
        /// Size in bytes.
        pub size: u64 = unsigned(item.size),
        /// The rule that applies.
        pub rule: String = item.rule.clone(),
        /// Destination.
        pub store: String = item.store.clone(),
        /// Storage class, if the rule sets one.
        pub storage_class: Option<String> = item.storage_class.clone(),
        /// Copies with a higher priority are made first.
        pub priority: i16 = item.priority,
    }
}

fn text(money: Option<Money>) -> Option<String> {
    money.map(|money| money.to_string())
}
