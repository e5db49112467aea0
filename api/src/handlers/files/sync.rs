//! Syncs one file now.

use actix_web::{HttpResponse, web};
use nightferry_api_types::run::RunAccepted;
use nightferry_core::db::enums::RunTrigger;
use nightferry_core::db::runs::{NewRun, RunScope};
use nightferry_core::ids::FileId;
use nightferry_core::tiering::run;

use crate::error_response::Result;
use crate::extract::access::Sync;
use crate::extract::{Caller, ClientOrigin, Id};
use crate::state::Api;

/// Queues a file now: in the active run if there is one, otherwise in a separate run. For its owner and for
/// administrators.
#[utoipa::path(post, path = "/api/files/{id}/sync", operation_id = "sync_file", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file")),
    responses(
        (status = 202, description = "Queued", body = RunAccepted),
        (status = 409, description = "`CONFLICT`, `SYNC_ALREADY_RUNNING`: a run started or ended \
            concurrently; try again"),
    ))]
pub(crate) async fn sync(
    caller: Caller<Sync>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    Id(id): Id<FileId>,
) -> Result<HttpResponse> {
    let owner = (!caller.is_admin()).then_some(caller.user.id);
    let new = NewRun {
        trigger: RunTrigger::Api,
        requested_by: Some(caller.user.id),
        tick: None,
        scope: RunScope::default(),
    };
    let run = run::request_file(&api.context, id, owner, new, &origin.0).await?;
    Ok(HttpResponse::Accepted().json(RunAccepted { run_id: run.0 }))
}
