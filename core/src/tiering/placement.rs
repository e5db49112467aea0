//! Why a file is where it is, what happens to it next, and when.

use chrono::{DateTime, Utc};

use crate::config::FreeLocalAfter;
use crate::context::Context;
use crate::db::enums::ReplicaState;
use crate::db::files::{self, FileRow};
use crate::db::replicas::{self, Replica};
use crate::db::restores::{self, Restore};
use crate::db::runs;
use crate::error::{Error, Result};
use crate::ids::{FileId, UserId};

/// What happens to a file next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextStep {
    /// `copy`, `copying`, `free`, `removed`, `retry` (on request), `lost` (no verified copy is left) or `none`.
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
    let cloud = context.stores.cloud()?.name().to_string();
    let local = context.stores.local()?.name().to_string();
    let mut conn = context.db.conn().await?;
    let (file, object, _) = files::find(&mut conn, id, owner).await?.ok_or(Error::NotFound("file"))?;
    let replicas = replicas::of_objects(&mut conn, &[object]).await?;
    let restores = restores::of_object(&mut conn, object).await?;
    let at_cloud = replicas.iter().find(|replica| replica.store == cloud);
    let at_local = replicas.iter().find(|replica| replica.store == local);
    let in_run = match at_cloud.and_then(|replica| replica.run_id) {
        Some(run) => runs::find(&mut conn, run).await?.filter(|run| run.status.is_active()),
        None => None,
    };
    let next = match nothing_left(&replicas) {
        Some(lost) => lost,
        None => next_step(context, &file, at_local, at_cloud, in_run.is_some(), &cloud)?,
    };
    let rule = at_cloud.and_then(|replica| replica.rule.clone()).unwrap_or_else(|| "default".to_owned());
    Ok(Placement { file, replicas, restores, rule, next })
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

fn next_step(
    context: &Context,
    file: &FileRow,
    at_local: Option<&Replica>,
    at_cloud: Option<&Replica>,
    in_run: bool,
    cloud: &str,
) -> Result<NextStep> {
    let step = |action, at, because: String| Ok(NextStep { action, at, because });
    if file.deleted_at.is_some() {
        return step("none", None, "it is in the trash, and files in the trash do not cross".to_owned());
    }
    let nightly = crate::tiering::schedule::next_tick(&context.config.tiering, context.clock.now())?;
    match at_cloud {
        None => step("copy", nightly, format!("it is not in {cloud} yet and crosses with the next run")),
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
            ReplicaState::Present => freeing(context, file, at_local),
        },
    }
}

fn freeing(context: &Context, file: &FileRow, at_local: Option<&Replica>) -> Result<NextStep> {
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
    match context.config.tiering.free_local_after {
        _ if file.pinned => {
            step("none", None, "it has crossed, and its local copy stays because it is pinned")
        }
        FreeLocalAfter::Never => step("none", None, "it has crossed, and local copies are kept"),
        FreeLocalAfter::After(after) => {
            let at = local.spare_since.map(|at| at + super::evict::earliest(context, after));
            step("free", at, "it has crossed, and its local copy is freed by the policy")
        }
    }
}
