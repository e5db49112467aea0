//! Stops a run.

use actix_web::{HttpResponse, web};
use nightferry_api_types::run::Run;
use nightferry_core::ids::RunId;
use nightferry_core::tiering::run;

use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, ClientOrigin, Id};
use crate::state::Api;

/// Stops a run: nothing new is started, what is in flight finishes, the rest waits for the next run.
#[utoipa::path(post, path = "/api/admin/sync/runs/{id}/cancel", operation_id = "cancel_run", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The run")),
    responses(
        (status = 200, description = "The run as it is now; `cancelled` once nothing of it is in flight", body = Run),
        (status = 409, description = "`CONFLICT`: it has ended already"),
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
