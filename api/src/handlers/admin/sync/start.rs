//! Requests a run.

use actix_web::{HttpResponse, web};
use nightferry_api_types::run::{RunAccepted, StartRun};
use nightferry_core::db::enums::RunTrigger;
use nightferry_core::db::runs::NewRun;
use nightferry_core::tiering::run;

use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, ClientOrigin, OptionalJson};
use crate::state::Api;

/// Requests a run of all files, of those selected by the body, or of exactly a plan. An idle worker starts it within a
/// second.
#[utoipa::path(post, path = "/api/admin/sync", operation_id = "start_sync", tag = "administration", request_body = Option<StartRun>,
    responses(
        (status = 202, description = "Queued", body = RunAccepted),
        (status = 404, description = "`NOT_FOUND`: no such account, folder, file or plan"),
        (status = 409, description = "`SYNC_ALREADY_RUNNING`, or `CONFLICT` for a plan that is no longer \
            valid"),
    ))]
pub(crate) async fn start(
    admin: Caller<Admin>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    OptionalJson(body): OptionalJson<StartRun>,
) -> Result<HttpResponse> {
    let new = NewRun {
        trigger: RunTrigger::Api,
        requested_by: Some(admin.user.id),
        tick: None,
        scope: body.scope()?,
    };
    let run = run::request(&api.context, new, &origin.0).await?;
    Ok(HttpResponse::Accepted().json(RunAccepted { run_id: run.id.0 }))
}
