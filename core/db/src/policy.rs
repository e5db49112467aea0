//! Rules in SQL: determines the first rule that matches a version of a file. Used by plans, runs and explanations
//! alike, so that their results are consistent.
//!
//! The SQL fragments expect `o`, a row of `objects`, and `f` and `v`, rows of `files` and `file_versions`.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::statement::{Value, Values};
use crate::config::{FreeLocalAfter, RuleConfig};

/// The name of the built-in rule for files that match no other.
pub const DEFAULT_RULE: &str = "default";

/// The number of the default rule, which comes last.
const DEFAULT_NUMBER: u32 = 1_000_000;

/// Every folder with its path: the root folder of an account is `/`, a folder in it `/name`.
const PATHS: &str = "(WITH RECURSIVE paths AS ( \
         SELECT id, '/'::text AS path FROM folders WHERE parent_id IS NULL \
         UNION ALL \
         SELECT c.id, rtrim(paths.path, '/') || '/' || c.name FROM folders c JOIN paths ON c.parent_id = paths.id \
     ) SELECT id, path FROM paths)";

/// The path of the folder of `f`: for statements over a bounded number of files.
const PATH: &str = "LATERAL (WITH RECURSIVE up (parent_id, name, height) AS ( \
         SELECT d.parent_id, d.name, 1 FROM folders d WHERE d.id = f.folder_id \
         UNION ALL \
         SELECT d.parent_id, d.name, up.height + 1 FROM up JOIN folders d ON d.id = up.parent_id WHERE up.height < 256 \
     ) SELECT '/' || coalesce(string_agg(up.name, '/' ORDER BY up.height DESC) \
                              FILTER (WHERE up.parent_id IS NOT NULL), '') AS path FROM up)";

/// The set of files that a statement covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// All files.
    All,
    /// A bounded number.
    Some,
}

/// The effective rules and stores.
#[derive(Debug, Clone)]
pub struct Policy<'c> {
    /// By number; the first match decides.
    pub rules: &'c BTreeMap<u32, RuleConfig>,
    /// The main local store; a rule that names it keeps files local.
    pub local: &'c str,
    /// All local stores, the main one first.
    pub locals: Vec<&'c str>,
    /// All cloud stores, the main one first.
    pub clouds: Vec<&'c str>,
    /// The number of cloud copies of files whose rule names no stores.
    pub cloud_replicas: usize,
    /// Stores that are being drained: nothing is copied to them.
    pub draining: Vec<String>,
    /// Eviction of local copies whose rule does not specify it.
    pub free_local_after: FreeLocalAfter,
    /// When runs take up failed copies again.
    pub patience: Patience,
}

/// When runs take up copies again that failed permanently: at first after `first`, and from the time `later` after they
/// were queued on, after `later`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Time after a failure, at first.
    pub first: Duration,
    /// Time after a failure of a copy that has been failing for this long.
    pub later: Duration,
}

impl Patience {
    /// When a failed copy that was queued at `queued_at` and failed at `failed_at` is due again.
    pub fn due(self, queued_at: DateTime<Utc>, failed_at: DateTime<Utc>) -> DateTime<Utc> {
        let failing = (failed_at - queued_at).to_std().unwrap_or_default();
        failed_at + if failing < self.later { self.first } else { self.later }
    }

    /// The same in SQL for `row`, a failed row of `replicas`.
    pub(super) fn due_sql(self, row: &str) -> String {
        let (first, later) = (self.first.as_secs(), self.later.as_secs());
        format!(
            "({row}.not_before + make_interval(secs => CASE WHEN {row}.not_before - {row}.queued_at \
             < make_interval(secs => {later}) THEN {first} ELSE {later} END))"
        )
    }
}

/// The parameters of a rule for copies in one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'c> {
    number: u32,
    /// The rule.
    pub rule: &'c str,
    /// Storage class of the copy.
    pub storage_class: Option<&'c str>,
    /// Priority.
    pub priority: i16,
}

impl<'c> Policy<'c> {
    fn is_draining(&self, store: &str) -> bool {
        self.draining.iter().any(|draining| draining == store)
    }

    /// The cloud stores that are not being drained.
    pub fn available_clouds(&self) -> Vec<&'c str> {
        self.clouds.iter().copied().filter(|store| !self.is_draining(store)).collect()
    }

    /// The destination stores of files whose rule names none.
    pub fn usual(&self) -> Vec<&'c str> {
        self.available_clouds().into_iter().take(self.cloud_replicas.max(1)).collect()
    }

    /// The destination stores of a rule. If all named stores are being drained, the default ones are used.
    pub fn stores_of(&self, rule: Option<&'c RuleConfig>) -> Vec<&'c str> {
        let Some(rule) = rule else { return self.usual() };
        if rule.stays(self.local) {
            return Vec::new();
        }
        let named: Vec<&str> =
            rule.stores.iter().map(String::as_str).filter(|store| !self.is_draining(store)).collect();
        if named.is_empty() { self.usual() } else { named }
    }

    /// All destination stores.
    pub fn targets(&self) -> Vec<&'c str> {
        let mut stores = self.usual();
        for store in self.rules.values().flat_map(|rule| self.stores_of(Some(rule))) {
            if !stores.contains(&store) {
                stores.push(store);
            }
        }
        stores
    }

    /// The rules with a destination in `store`.
    pub(super) fn wanted_in(&self, store: &str) -> Vec<Target<'c>> {
        let named = self.rules.iter().filter(|(_, rule)| self.stores_of(Some(rule)).contains(&store));
        let mut targets: Vec<Target<'c>> = named
            .map(|(number, rule)| Target {
                number: *number,
                rule: &rule.name,
                storage_class: rule.storage_class.as_deref(),
                priority: rule.priority,
            })
            .collect();
        if self.usual().contains(&store) {
            targets.push(Target {
                number: DEFAULT_NUMBER,
                rule: DEFAULT_RULE,
                storage_class: None,
                priority: 0,
            });
        }
        targets
    }

    /// The rules that evict local copies, by the name stored in the copies, with their retention.
    pub fn evictions(&self) -> Vec<(&'c str, FreeLocalAfter)> {
        let rules = self.rules.values();
        let named =
            rules.map(|rule| (rule.name.as_str(), rule.evicts_after(self.local, self.free_local_after)));
        std::iter::once((DEFAULT_RULE, self.free_local_after)).chain(named).collect()
    }

    /// The rules that always keep local copies.
    pub fn keeping(&self) -> Vec<&'c str> {
        let keep = |rule: &&RuleConfig| rule.keep_local || rule.stays(self.local);
        self.rules.values().filter(keep).map(|rule| rule.name.as_str()).collect()
    }

    /// The joins required by [`Self::number`].
    pub(super) fn joins(&self, reach: Reach) -> String {
        let mut joins = String::new();
        if self.rules.values().any(|rule| !rule.owner.is_empty()) {
            joins += " JOIN users owner ON owner.id = f.owner_id";
        }
        if self.rules.values().any(|rule| !rule.path.is_empty()) {
            joins = match reach {
                Reach::All => format!("{joins} LEFT JOIN {PATHS} folder ON folder.id = f.folder_id"),
                Reach::Some => format!("{joins} LEFT JOIN {PATH} folder ON true"),
            };
        }
        joins
    }

    /// An SQL expression for the number of the first matching rule. `used` is the expression for the time of last use.
    pub(super) fn number(&self, values: &mut Values, used: &str) -> String {
        if self.rules.is_empty() {
            return DEFAULT_NUMBER.to_string();
        }
        let mut case = "CASE".to_owned();
        for (number, rule) in self.rules {
            case = format!("{case} WHEN {} THEN {number}", self.condition(rule, values, used));
        }
        format!("{case} ELSE {DEFAULT_NUMBER} END")
    }

    fn condition(&self, rule: &RuleConfig, values: &mut Values, used: &str) -> String {
        let mut all: Vec<String> = Vec::new();
        let mut ago = |values: &mut Values, what: &str, than: &str, length: Option<Duration>| {
            if let Some(length) = length {
                let seconds = values.seconds(length);
                all.push(format!("{what} {than} now() - make_interval(secs => {seconds})"));
            }
        };
        ago(values, "o.stored_at", "<=", rule.older_than);
        ago(values, "o.stored_at", ">", rule.newer_than);
        ago(values, used, "<=", rule.unused_for);
        ago(values, used, ">", rule.used_within);
        for (than, size) in [(">=", rule.min_size), ("<=", rule.max_size)] {
            if let Some(size) = size {
                let size = values.number(super::signed(size.0));
                all.push(format!("o.size {than} {size}"));
            }
        }
        if !rule.content_type.is_empty() {
            let regex = values.text(rule.content_type.to_regex());
            all.push(format!("btrim(split_part(o.content_type, ';', 1)) ~* {regex}"));
        }
        if !rule.path.is_empty() {
            let regex = values.text(rule.path.to_regex());
            all.push(format!("folder.path ~ {regex}"));
        }
        if !rule.owner.is_empty() {
            let regex = values.text(rule.owner.to_regex());
            all.push(format!("owner.email ~* {regex}"));
        }
        if let Some(location) = &rule.location {
            all.push(self.in_primary_store(location, values));
        }
        if rule.versions_behind > 0 {
            let versions = values.number(rule.versions_behind);
            all.push(format!("f.current_version - v.number >= {versions}"));
        }
        if all.is_empty() { "true".to_owned() } else { all.join(" AND ") }
    }

    /// The primary location is derived from the verified copies: a cloud copy takes precedence over a local one.
    fn in_primary_store(&self, location: &str, values: &mut Values) -> String {
        let present = |which: String| {
            format!(
                "EXISTS (SELECT 1 FROM replicas h WHERE h.object_id = o.id AND h.state = 'present' AND h.store = {which})"
            )
        };
        if self.clouds.contains(&location) {
            return present(values.text(location));
        }
        let clouds = values.texts(&self.clouds);
        let here = present(values.text(location));
        format!("{here} AND NOT {}", present(format!("ANY({clouds})")))
    }

    /// All rules as a table `(number, rule, keep)`.
    pub(super) fn as_table_of_keeping(&self, values: &mut Values) -> String {
        let keeping = self.keeping();
        let named = self.rules.iter().map(|(number, rule)| (*number, rule.name.as_str()));
        let all: Vec<(u32, &str)> = named.chain([(DEFAULT_NUMBER, DEFAULT_RULE)]).collect();
        let numbers = all.iter().map(|(number, _)| i32::try_from(*number).unwrap_or(i32::MAX)).collect();
        let numbers = values.bind(Value::Integers(numbers));
        let rules = values.bind(Value::Texts(all.iter().map(|(_, rule)| (*rule).to_owned()).collect()));
        let keep = values.bind(Value::Switches(all.iter().map(|(_, rule)| keeping.contains(rule)).collect()));
        format!("unnest({numbers}, {rules}, {keep})")
    }

    /// The destinations as a table `(number, rule, storage_class, priority)`.
    pub(super) fn as_table(targets: &[Target<'_>], values: &mut Values) -> String {
        let number = |target: &Target<'_>| i32::try_from(target.number).unwrap_or(i32::MAX);
        let numbers = values.bind(Value::Integers(targets.iter().map(number).collect()));
        let rules = values.bind(Value::Texts(targets.iter().map(|target| target.rule.to_owned()).collect()));
        let class = |target: &Target<'_>| target.storage_class.map(str::to_owned);
        let classes = values.bind(Value::NullableTexts(targets.iter().map(class).collect()));
        let priorities =
            values.bind(Value::SmallInts(targets.iter().map(|target| target.priority).collect()));
        format!("unnest({numbers}, {rules}, {classes}, {priorities})")
    }
}
