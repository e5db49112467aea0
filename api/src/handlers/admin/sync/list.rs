//! Lists runs.

use actix_web::{HttpResponse, web};
use nightferry_api_types::PageQuery;
use nightferry_api_types::run::{Run, RunPage};
use nightferry_core::tiering::run;

use crate::cursor;
use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, Query};
use crate::state::Api;

/// Lists runs, newest first.
#[utoipa::path(get, path = "/api/admin/sync/runs", operation_id = "list_runs", tag = "administration", params(PageQuery),
    responses((status = 200, description = "A page", body = RunPage)))]
pub(crate) async fn list(
    _: Caller<Admin>,
    api: web::Data<Api>,
    Query(query): Query<PageQuery>,
) -> Result<HttpResponse> {
    let (limit, before) = cursor::page("run", query.limit.as_deref(), query.cursor.as_deref())?;
    let (runs, more) = run::page(&api.context, before, limit).await?;
    let next_cursor = cursor::next(&runs, more, |last| cursor::at("run", last.run.id))?;
    Ok(HttpResponse::Ok().json(RunPage { runs: runs.iter().map(Run::from).collect(), next_cursor }))
}
