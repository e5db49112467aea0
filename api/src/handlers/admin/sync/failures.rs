//! Lists what a run gave up, with the reasons.

use actix_web::{HttpResponse, web};
use nightferry_core::ids::RunId;
use nightferry_core::tiering::run;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cursor;
use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, Id, Query, page_size};
use crate::state::Api;
use crate::wire::run::{Failure, FailurePage, PageQuery};

/// Where a page of failures ended.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    failure: Uuid,
}

/// Lists what a run gave up, oldest first.
#[utoipa::path(get, path = "/api/admin/sync/runs/{id}/failures", operation_id = "list_run_failures", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The run"), PageQuery),
    responses((status = 200, description = "A page", body = FailurePage)))]
pub(crate) async fn failures(
    _: Caller<Admin>,
    api: web::Data<Api>,
    Id(id): Id<RunId>,
    Query(query): Query<PageQuery>,
) -> Result<HttpResponse> {
    let limit = page_size(query.limit.as_deref())?;
    let after = query.cursor.as_deref().map(cursor::read::<Position>).transpose()?;
    let after = after.map(|position| position.failure);
    let (rows, more) = run::failures(&api.context, id, after, limit).await?;
    let next_cursor = cursor::next(&rows, more, |last| Position { failure: last.id })?;
    let failures = rows.into_iter().map(Failure::from).collect();
    Ok(HttpResponse::Ok().json(FailurePage { failures, next_cursor }))
}
