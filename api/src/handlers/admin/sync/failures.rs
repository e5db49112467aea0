//! Lists the failures of a run with their reasons.

use actix_web::{HttpResponse, web};
use nightferry_api_types::PageQuery;
use nightferry_api_types::run::{Failure, FailurePage};
use nightferry_core::ids::RunId;
use nightferry_core::tiering::run;

use crate::cursor;
use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, Id, Query};
use crate::state::Api;

/// Lists the failures of a run, oldest first.
#[utoipa::path(get, path = "/api/admin/sync/runs/{id}/failures", operation_id = "list_run_failures", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The run"), PageQuery),
    responses((status = 200, description = "A page", body = FailurePage)))]
pub(crate) async fn failures(
    _: Caller<Admin>,
    api: web::Data<Api>,
    Id(id): Id<RunId>,
    Query(query): Query<PageQuery>,
) -> Result<HttpResponse> {
    let (limit, after) = cursor::page("failure", query.limit.as_deref(), query.cursor.as_deref())?;
    let (rows, more) = run::failures(&api.context, id, after, limit).await?;
    let next_cursor = cursor::next(&rows, more, |last| cursor::at("failure", last.id))?;
    let failures = rows.iter().map(Failure::from).collect();
    Ok(HttpResponse::Ok().json(FailurePage { failures, next_cursor }))
}
