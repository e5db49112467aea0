//! Cancels a run.

use actix_web::{HttpResponse, web};
use nightferry_api_types::run::Run;
use nightferry_core::ids::RunId;
use nightferry_core::tiering::run;

use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, ClientOrigin, Id};
use crate::state::Api;

/// Cancels a run: nothing new is started, transfers in flight finish, and everything else waits for the next run.
#[utoipa::path(post, path = "/api/admin/sync/runs/{id}/cancel", operation_id = "cancel_run", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The run")),
    responses(
        (status = 200, description = "The new state of the run; `cancelled` once none of its copies is in \
            flight", body = Run),
        (status = 409, description = "`CONFLICT`: it has already ended"),
    ))]
pub(crate) async fn cancel(
    admin: Caller<Admin>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    Id(id): Id<RunId>,
) -> Result<HttpResponse> {
    let run = run::cancel(&api.context, id, Some(admin.user.id), &origin.0).await?;
    Ok(HttpResponse::Ok().json(Run::from(&run)))
}
