//! Shows one run.

use actix_web::{HttpResponse, web};
use nightferry_api_types::run::Run;
use nightferry_core::ids::RunId;
use nightferry_core::tiering::run;

use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, Id};
use crate::state::Api;

/// Shows a run.
#[utoipa::path(get, path = "/api/admin/sync/runs/{id}", operation_id = "get_run", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The run")),
    responses((status = 200, description = "The run", body = Run)))]
pub(crate) async fn show(_: Caller<Admin>, api: web::Data<Api>, Id(id): Id<RunId>) -> Result<HttpResponse> {
    let run = run::find(&api.context, id).await?;
    Ok(HttpResponse::Ok().json(Run::from(&run)))
}
