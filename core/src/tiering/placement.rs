//! Why a file is where it is, what happens to it next, and when.

use chrono::{DateTime, Utc};

use super::{policy, schedule};
use crate::config::{FreeLocalAfter, RuleConfig};
use crate::context::Context;
use crate::db::enums::ReplicaState;
use crate::db::files::{self, FileRow};
use crate::db::policy::{DEFAULT_RULE, Policy};
use crate::db::replicas::{self, Replica};
use crate::db::restores::{self, Restore};
use crate::db::runs;
use crate::error::{Error, Noun, Result};
use crate::ids::{FileId, UserId};

/// What happens to a file next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextStep {
    /// `copy`, `copying`, `move` (its store is being emptied, or evened out with others), `free`, `removed`, `retry` (on request), `lost` (no verified copy is left) or `none`.
    pub action: &'static str,
    /// When, if that is known.
    pub at: Option<DateTime<Utc>>,
    /// The same in a sentence.
    pub because: String,
}

/// Where one file is, and what follows.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The file.
    pub file: FileRow,
    /// Its replicas.
    pub replicas: Vec<Replica>,
    /// Restores of archived copies.
    pub restores: Vec<Restore>,
    /// The rule that decided.
    pub rule: String,
    /// What follows.
    pub next: NextStep,
}

/// Explains one file. `owner` none: for an administrator.
///
/// # Errors
/// [`Error::NotFound`], also for other people's files.
pub async fn explain(context: &Context, id: FileId, owner: Option<UserId>) -> Result<Placement> {
    let mut conn = context.db.conn().await?;
    let policy = policy::in_force(context, &mut conn).await?;
    let (file, object, _) = files::find(&mut conn, id, owner).await?.ok_or(Error::NotFound(Noun::File))?;
    let replicas = replicas::of_objects(&mut conn, &[object]).await?;
    let restores = restores::of_object(&mut conn, object).await?;
    let decided = match replicas::decide(&mut conn, &policy, object).await? {
        Some(number) => policy.rules.get(&number),
        None => None,
    };
    let known = Known::of(&policy, decided, &replicas);
    let in_run = match known.at_cloud.and_then(|replica| replica.run_id) {
        Some(run) => runs::find(&mut conn, run).await?.filter(|run| run.status.is_active()),
        None => None,
    };
    let next = match nothing_left(&replicas).or_else(|| moving(&policy, &replicas)) {
        Some(next) => next,
        None => next_step(context, &policy, &file, &known, in_run.is_some())?,
    };
    // What only waits is decided anew when it is planned.
    let is_settled = |replica: &&Replica| replica.state != ReplicaState::Queued || in_run.is_some();
    let remembered = known.at_cloud.filter(is_settled).and_then(|replica| replica.rule.clone());
    let now = || decided.map_or_else(|| DEFAULT_RULE.to_owned(), |rule| rule.name.clone());
    let rule = remembered.unwrap_or_else(now);
    Ok(Placement { file, replicas, restores, rule, next })
}

/// What a step is decided by.
struct Known<'p> {
    /// The rule that matches now; none: the default.
    rule: Option<&'p RuleConfig>,
    at_local: Option<&'p Replica>,
    /// The store of the cloud that is next, or the first where everything is there.
    cloud: &'p str,
    at_cloud: Option<&'p Replica>,
}

impl<'p> Known<'p> {
    fn of(policy: &Policy<'p>, rule: Option<&'p RuleConfig>, replicas: &'p [Replica]) -> Self {
        let at = |store: &str| replicas.iter().find(|replica| replica.store == store);
        let is_there = |store: &&str| at(store).is_some_and(|replica| replica.state == ReplicaState::Present);
        let stays = rule.is_some_and(|rule| rule.stays(policy.local));
        // What a rule keeps here may have crossed before.
        let wanted = if stays { policy.clouds.clone() } else { policy.stores_of(rule) };
        let next = wanted.iter().find(|store| is_there(store) == stays);
        let cloud = next.or(wanted.first()).or(policy.clouds.first()).copied().unwrap_or_default();
        // Of several local copies the one that is best off.
        let here = replicas.iter().filter(|replica| policy.locals.contains(&replica.store.as_str()));
        let at_local = here.min_by_key(|replica| match replica.state {
            ReplicaState::Present => 0,
            ReplicaState::Copying => 1,
            ReplicaState::Queued => 2,
            ReplicaState::Evicting => 3,
            ReplicaState::Lost => 4,
            ReplicaState::Failed => 5,
        });
        Self { rule, at_local, cloud, at_cloud: at(cloud) }
    }
}

/// What to do about a file of which every verified copy is lost; none for all others.
fn nothing_left(replicas: &[Replica]) -> Option<NextStep> {
    let whole = [ReplicaState::Present, ReplicaState::Evicting];
    if replicas.iter().any(|replica| whole.contains(&replica.state)) {
        return None;
    }
    let lost = replicas.iter().filter(|replica| replica.state == ReplicaState::Lost);
    let stores: Vec<&str> = lost.map(|replica| replica.store.as_str()).collect();
    (!stores.is_empty()).then(|| NextStep {
        action: "lost",
        at: None,
        because: format!(
            "no verified copy is left: it is missing or corrupt in {}. Nothing is deleted; put its bytes back there and run \
             `nightferry scrub`, or restore a backup",
            stores.join(" and ")
        ),
    })
}

/// What happens to a file of which a copy moves to another store; none for all others.
fn moving(policy: &Policy<'_>, replicas: &[Replica]) -> Option<NextStep> {
    let evened_out =
        replicas.iter().find_map(|replica| Some((replica.store.as_str(), replica.moves_to.as_deref()?)));
    if let Some((from, to)) = evened_out {
        let because = format!("its copy in {from} moves to {to}, so that the local stores are as full");
        return Some(NextStep { action: "move", at: None, because });
    }
    let leaves =
        |replica: &&Replica| replica.verified_at.is_some() && policy.draining.contains(&replica.store);
    let from = replicas.iter().find(leaves)?.store.as_str();
    Some(NextStep {
        action: "move",
        at: None,
        because: format!("its copy in {from} moves to another store, because {from} is being emptied"),
    })
}

fn next_step(
    context: &Context,
    policy: &Policy<'_>,
    file: &FileRow,
    known: &Known<'_>,
    in_run: bool,
) -> Result<NextStep> {
    let step = |action, at, because: String| Ok(NextStep { action, at, because });
    if file.deleted_at.is_some() {
        return step("none", None, "it is in the trash, and files in the trash do not cross".to_owned());
    }
    let nightly = schedule::next_tick(&context.config.tiering, context.clock.now())?;
    let cloud = known.cloud;
    let waits = known.at_cloud.is_none_or(|replica| replica.state == ReplicaState::Queued && !in_run);
    if let Some(rule) = known.rule.filter(|rule| waits && rule.stays(policy.local)) {
        return stay(context, policy.local, file, rule);
    }
    let by_rule = known.rule.map(|rule| format!(", as the rule \"{}\" says", rule.name)).unwrap_or_default();
    match known.at_cloud {
        None => {
            step("copy", nightly, format!("it is not in {cloud} yet and crosses with the next run{by_rule}"))
        }
        Some(replica) => match replica.state {
            ReplicaState::Queued if in_run => {
                step("copy", Some(replica.not_before), "it is queued in the run that is going on".to_owned())
            }
            ReplicaState::Queued => step("copy", nightly, "it is queued for the next run".to_owned()),
            ReplicaState::Copying => step("copying", None, format!("a worker is copying it to {cloud}")),
            ReplicaState::Failed => step(
                "retry",
                None,
                format!(
                    "copying it to {cloud} was given up; run `nightferry sync retry` once the cause is mended"
                ),
            ),
            ReplicaState::Lost => {
                step("copy", nightly, format!("its copy in {cloud} was lost and is made again"))
            }
            ReplicaState::Evicting => step("none", None, format!("its copy in {cloud} is being removed")),
            ReplicaState::Present => freeing(context, policy, file, known.at_local),
        },
    }
}

/// What a rule keeps here: until it is too old for it, if it only keeps what is new.
fn stay(context: &Context, local: &str, file: &FileRow, rule: &RuleConfig) -> Result<NextStep> {
    let until = rule.newer_than.map(|age| file.uploaded_at + age);
    let at = match until {
        Some(until) => schedule::next_tick(&context.config.tiering, until.max(context.clock.now()))?,
        None => None,
    };
    let long = if at.is_some() { " until it is older" } else { "" };
    let because = format!("the rule \"{}\" keeps it in {local}{long}", rule.name);
    Ok(NextStep { action: if at.is_some() { "copy" } else { "none" }, at, because })
}

fn freeing(
    context: &Context,
    policy: &Policy<'_>,
    file: &FileRow,
    at_local: Option<&Replica>,
) -> Result<NextStep> {
    let step = |action, at, because: &str| Ok(NextStep { action, at, because: because.to_owned() });
    let Some(local) = at_local else {
        return step("none", None, "it has crossed and its local copy was freed");
    };
    match local.state {
        ReplicaState::Present => {}
        ReplicaState::Queued => {
            return step("copy", Some(local.not_before), "it has crossed, and a local copy is asked for");
        }
        ReplicaState::Copying => return step("copying", None, "a worker is bringing a local copy back"),
        ReplicaState::Evicting => {
            return step("free", None, "it has crossed, and its local copy is being freed");
        }
        // What was verified here before is a repair; what was not is a wish.
        ReplicaState::Failed if local.verified_at.is_some() => {
            return step(
                "retry",
                None,
                "it has crossed; making its lost local copy again was given up; run `nightferry sync retry` once the \
                 cause is mended",
            );
        }
        ReplicaState::Failed => {
            return step("none", None, "it has crossed; bringing a local copy back was given up");
        }
        ReplicaState::Lost => {
            return step("copy", None, "it has crossed; its local copy was lost and is made again soon");
        }
    }
    let rule = local.free_rule.as_str();
    let frees = policy.frees().into_iter().find(|(name, _)| *name == rule).map(|(_, after)| after);
    match frees {
        _ if file.pinned => {
            step("none", None, "it has crossed, and its local copy stays because it is pinned")
        }
        None => step(
            "none",
            None,
            "it has crossed, and the rule for its local copy is gone: another one is found soon",
        ),
        Some(FreeLocalAfter::Never) if rule == DEFAULT_RULE => {
            step("none", None, "it has crossed, and local copies are kept")
        }
        Some(FreeLocalAfter::Never) => {
            step("none", None, &format!("it has crossed, and the rule \"{rule}\" keeps its local copy"))
        }
        Some(FreeLocalAfter::After(after)) => {
            let at = local.spare_since.map(|at| at + super::evict::earliest(context, after));
            let by = if rule == DEFAULT_RULE { "policy".to_owned() } else { format!("rule \"{rule}\"") };
            step("free", at, &format!("it has crossed, and its local copy is freed by the {by}"))
        }
    }
}
