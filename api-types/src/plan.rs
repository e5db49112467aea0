//! Plans of what a run would do.

use chrono::{DateTime, Utc};
use nightferry_core::db::plans::Item;
use nightferry_core::db::runs::RunScope;
use nightferry_core::db::unsigned;
use nightferry_core::error::{Error, Result};
use nightferry_core::ids::{FileId, FolderId, UserId};
use nightferry_core::tiering::money::Money;
use nightferry_core::tiering::plan::{Part, PlanView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What a plan is limited to. Empty: everything.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MakePlan {
    /// Only files of this account.
    pub user_id: Option<Uuid>,
    /// Only files in this folder.
    pub folder_id: Option<Uuid>,
    /// Only these files.
    pub file_ids: Option<Vec<Uuid>>,
    /// Also what was given up before.
    pub retry_failed: bool,
}

impl MakePlan {
    /// The same for the domain.
    pub fn scope(self) -> Result<RunScope> {
        scope(self.user_id, self.folder_id, self.file_ids, self.retry_failed)
    }
}

/// What a plan or a run is limited to, for the domain.
pub fn scope(
    user_id: Option<Uuid>,
    folder_id: Option<Uuid>,
    file_ids: Option<Vec<Uuid>>,
    retry_failed: bool,
) -> Result<RunScope> {
    if file_ids.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::field("file_ids", "must name at least one file, or be left out"));
    }
    Ok(RunScope {
        user_id: user_id.map(UserId),
        folder_id: folder_id.map(FolderId),
        file_ids: file_ids.map(|ids| ids.into_iter().map(FileId).collect()),
        retry_failed,
        plan_id: None,
    })
}

/// What a run would do, and a page of its copies.
#[derive(Serialize, ToSchema)]
pub struct SyncPlan {
    /// Id, for asking for a run of exactly this.
    pub plan_id: Uuid,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Until when it can be carried out.
    pub expires_at: DateTime<Utc>,
    /// Copies to make.
    pub files: u64,
    /// Bytes to move.
    pub bytes: u64,
    /// PUT requests, those of parts included.
    pub requests: u64,
    /// Seconds at the rate of recent runs; none while no run has been measured.
    pub seconds: Option<u64>,
    /// What the copies cost in a month, as a decimal number; none where a price is not known.
    #[schema(example = "12.3400")]
    pub monthly_cost: Option<String>,
    /// What the requests cost; none where a price is not known.
    pub request_cost: Option<String>,
    /// What it would cost to read all of it back; none where a price is not known.
    pub egress_cost: Option<String>,
    /// Of the costs.
    #[schema(example = "USD")]
    pub currency: String,
    /// The same by rule, store and storage class.
    pub rules: Vec<PlanRule>,
    /// What may not be expected.
    pub warnings: Vec<String>,
    /// The copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<PlanItem>, required = true)]
    pub items: Option<Vec<PlanItem>>,
    /// For the next page of copies; none on the last one.
    pub next_cursor: Option<String>,
}

/// What a plan copies by one rule into one storage class of one store.
#[derive(Serialize, ToSchema)]
pub struct PlanRule {
    /// The rule.
    pub rule: String,
    /// Destination.
    pub store: String,
    /// Storage class of the copies.
    pub storage_class: String,
    /// What becomes of the local copies: `never` freed, or after a time.
    #[schema(example = "30d")]
    pub free_local_after: String,
    /// Copies to make.
    pub files: u64,
    /// Bytes to move.
    pub bytes: u64,
    /// PUT requests.
    pub requests: u64,
    /// What the copies cost in a month.
    pub monthly_cost: Option<String>,
    /// What the requests cost.
    pub request_cost: Option<String>,
    /// What it would cost to read them back.
    pub egress_cost: Option<String>,
}

/// One copy of a plan.
#[derive(Serialize, ToSchema)]
pub struct PlanItem {
    /// A file that has these bytes as a version.
    pub file_id: Option<Uuid>,
    /// Its name.
    pub filename: Option<String>,
    /// The version.
    pub version: Option<i32>,
    /// Its object.
    pub object_id: Uuid,
    /// Size in bytes.
    pub size: u64,
    /// The rule that decided.
    pub rule: String,
    /// Destination.
    pub store: String,
    /// Storage class, where the rule names one.
    pub storage_class: Option<String>,
    /// Copies with a higher one are made first.
    pub priority: i16,
}

impl SyncPlan {
    /// A plan without its copies.
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
