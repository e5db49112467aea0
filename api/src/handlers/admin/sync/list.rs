//! Lists runs.

use actix_web::{HttpResponse, web};
use nightferry_core::ids::RunId;
use nightferry_core::tiering::run;
use serde::{Deserialize, Serialize};

use crate::cursor;
use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, Query, page_size};
use crate::state::Api;
use crate::wire::run::{PageQuery, Run, RunPage};

/// Where a page of runs ended.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    run: RunId,
}

/// Lists runs, newest first.
#[utoipa::path(get, path = "/api/admin/sync/runs", operation_id = "list_runs", tag = "administration", params(PageQuery),
    responses((status = 200, description = "A page", body = RunPage)))]
pub(crate) async fn list(
    _: Caller<Admin>,
    api: web::Data<Api>,
    Query(query): Query<PageQuery>,
) -> Result<HttpResponse> {
    let limit = page_size(query.limit.as_deref())?;
    let before = query.cursor.as_deref().map(cursor::read::<Position>).transpose()?;
    let (runs, more) = run::page(&api.context, before.map(|position| position.run), limit).await?;
    let next_cursor = cursor::next(&runs, more, |last| Position { run: last.run.id })?;
    Ok(HttpResponse::Ok().json(RunPage { runs: runs.into_iter().map(Run::from).collect(), next_cursor }))
}
