//! Plans: what a run would do.

use actix_web::{HttpResponse, web};
use nightferry_api_types::PageQuery;
use nightferry_api_types::plan::{MakePlan, PlanItem, SyncPlan};
use nightferry_core::db::plans::Position;
use nightferry_core::ids::PlanId;
use nightferry_core::tiering::plan::{self, PlanView};

use crate::cursor;
use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, ClientOrigin, Id, OptionalJson, Query, page_size};
use crate::state::Api;

/// Plans a run of all files, or of those selected by the body, and saves the plan. Nothing is transferred or queued.
#[utoipa::path(post, path = "/api/admin/sync/plan", operation_id = "plan_sync", tag = "administration", request_body = Option<MakePlan>,
    responses(
        (status = 200, description = "The plan, with the first page of its items", body = SyncPlan),
        (status = 404, description = "`NOT_FOUND`: no such account, folder or file"),
    ))]
pub(crate) async fn make(
    admin: Caller<Admin>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    OptionalJson(body): OptionalJson<MakePlan>,
) -> Result<HttpResponse> {
    let scope = body.scope()?;
    let view = plan::make(&api.context, &scope, Some(admin.user.id), &origin.0).await?;
    answer(&api, &view, None, page_size(None)?).await
}

/// Shows a saved plan with a page of its items.
#[utoipa::path(get, path = "/api/admin/sync/plans/{id}", operation_id = "get_plan", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The plan"), PageQuery),
    responses((status = 200, description = "The plan", body = SyncPlan)))]
pub(crate) async fn show(
    _: Caller<Admin>,
    api: web::Data<Api>,
    Id(id): Id<PlanId>,
    Query(query): Query<PageQuery>,
) -> Result<HttpResponse> {
    let limit = page_size(query.limit.as_deref())?;
    let after = query.cursor.as_deref().map(cursor::read::<Position>).transpose()?;
    let view = plan::find(&api.context, id).await?;
    answer(&api, &view, after, limit).await
}

async fn answer(api: &Api, view: &PlanView, after: Option<Position>, limit: i64) -> Result<HttpResponse> {
    let (items, next) = plan::items(&api.context, view.plan.id, after.as_ref(), limit).await?;
    Ok(HttpResponse::Ok().json(SyncPlan {
        items: Some(items.iter().map(PlanItem::from).collect()),
        next_cursor: next.as_ref().map(cursor::write).transpose()?,
        ..SyncPlan::new(view, &api.context.config.policy.currency)
    }))
}
