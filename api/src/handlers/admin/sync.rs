//! Administration of runs: plan, request, list, cancel.

use actix_web::HttpResponse;
use nightferry_api_types::PageQuery;
use nightferry_api_types::plan::{MakePlan, PlanItem, SyncPlan};
use nightferry_api_types::run::{Failure, FailurePage, Run, RunAccepted, RunPage, StartRun};
use nightferry_core::db::enums::RunTrigger;
use nightferry_core::db::plans::Position;
use nightferry_core::db::runs::NewRun;
use nightferry_core::ids::{PlanId, RunId};
use nightferry_core::tiering::plan::{self, PlanView};
use nightferry_core::tiering::run;

use crate::cursor;
use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Call, Id, OptionalJson, Query, page_size};

/// Requests a run of all files, of those selected by the body, or of exactly a plan. An idle worker starts it within a
/// second.
#[utoipa::path(post, path = "/api/admin/sync", operation_id = "start_sync", tag = "administration", request_body = Option<StartRun>,
    responses(
        (status = 202, description = "Queued", body = RunAccepted),
        (status = 404, description = "`NOT_FOUND`: no such account, folder, file or plan"),
        (status = 409, description = "`SYNC_ALREADY_RUNNING`, or `CONFLICT` for a plan that is no longer \
            valid, or if two stores have one bucket"),
    ))]
pub(crate) async fn start(
    call: Call<Admin>,
    OptionalJson(body): OptionalJson<StartRun>,
) -> Result<HttpResponse> {
    let new = NewRun {
        trigger: RunTrigger::Api,
        requested_by: Some(call.actor()),
        tick: None,
        scope: body.scope()?,
    };
    let run = run::request(&call.context, new, &call.origin()).await?;
    Ok(HttpResponse::Accepted().json(RunAccepted { run_id: run.id.0 }))
}

/// Lists runs, newest first.
#[utoipa::path(get, path = "/api/admin/sync/runs", operation_id = "list_runs", tag = "administration", params(PageQuery),
    responses((status = 200, description = "A page", body = RunPage)))]
pub(crate) async fn list(call: Call<Admin>, Query(query): Query<PageQuery>) -> Result<HttpResponse> {
    let (limit, before) = cursor::page("run", query.limit.as_deref(), query.cursor.as_deref())?;
    let (runs, more) = run::page(&call.context, before, limit).await?;
    let next_cursor = cursor::next(&runs, more, |last| cursor::at("run", last.run.id))?;
    Ok(HttpResponse::Ok().json(RunPage { runs: runs.iter().map(Run::from).collect(), next_cursor }))
}

/// Shows a run.
#[utoipa::path(get, path = "/api/admin/sync/runs/{id}", operation_id = "get_run", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The run")),
    responses((status = 200, description = "The run", body = Run)))]
pub(crate) async fn show(call: Call<Admin>, Id(id): Id<RunId>) -> Result<HttpResponse> {
    let run = run::find(&call.context, id).await?;
    Ok(HttpResponse::Ok().json(Run::from(&run)))
}

/// Cancels a run: nothing new is started, transfers in flight finish, and everything else waits for the next run.
#[utoipa::path(post, path = "/api/admin/sync/runs/{id}/cancel", operation_id = "cancel_run", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The run")),
    responses(
        (status = 200, description = "The new state of the run; `cancelled` once none of its copies is in \
            flight", body = Run),
        (status = 409, description = "`CONFLICT`: it has already ended"),
    ))]
pub(crate) async fn cancel(call: Call<Admin>, Id(id): Id<RunId>) -> Result<HttpResponse> {
    let run = run::cancel(&call.context, id, Some(call.actor()), &call.origin()).await?;
    Ok(HttpResponse::Ok().json(Run::from(&run)))
}

/// Lists the failures of a run, oldest first.
#[utoipa::path(get, path = "/api/admin/sync/runs/{id}/failures", operation_id = "list_run_failures", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The run"), PageQuery),
    responses((status = 200, description = "A page", body = FailurePage)))]
pub(crate) async fn failures(
    call: Call<Admin>,
    Id(id): Id<RunId>,
    Query(query): Query<PageQuery>,
) -> Result<HttpResponse> {
    let (limit, after) = cursor::page("failure", query.limit.as_deref(), query.cursor.as_deref())?;
    let (rows, more) = run::failures(&call.context, id, after, limit).await?;
    let next_cursor = cursor::next(&rows, more, |last| cursor::at("failure", last.id))?;
    let failures = rows.iter().map(Failure::from).collect();
    Ok(HttpResponse::Ok().json(FailurePage { failures, next_cursor }))
}

/// Plans a run of all files, or of those selected by the body, and saves the plan. Nothing is transferred or queued.
#[utoipa::path(post, path = "/api/admin/sync/plan", operation_id = "plan_sync", tag = "administration", request_body = Option<MakePlan>,
    responses(
        (status = 200, description = "The plan, with the first page of its items", body = SyncPlan),
        (status = 404, description = "`NOT_FOUND`: no such account, folder or file"),
    ))]
pub(crate) async fn make_plan(
    call: Call<Admin>,
    OptionalJson(body): OptionalJson<MakePlan>,
) -> Result<HttpResponse> {
    let view = plan::make(&call.context, &body.scope()?, Some(call.actor()), &call.origin()).await?;
    answer(&call, &view, None, page_size(None)?).await
}

/// Shows a saved plan with a page of its items.
#[utoipa::path(get, path = "/api/admin/sync/plans/{id}", operation_id = "get_plan", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The plan"), PageQuery),
    responses((status = 200, description = "The plan", body = SyncPlan)))]
pub(crate) async fn show_plan(
    call: Call<Admin>,
    Id(id): Id<PlanId>,
    Query(query): Query<PageQuery>,
) -> Result<HttpResponse> {
    let limit = page_size(query.limit.as_deref())?;
    let after = query.cursor.as_deref().map(cursor::read::<Position>).transpose()?;
    let view = plan::find(&call.context, id).await?;
    answer(&call, &view, after, limit).await
}

async fn answer(
    call: &Call<Admin>,
    view: &PlanView,
    after: Option<Position>,
    limit: i64,
) -> Result<HttpResponse> {
    let (items, next) = plan::items(&call.context, view.plan.id, after.as_ref(), limit).await?;
    Ok(HttpResponse::Ok().json(SyncPlan {
        items: Some(items.iter().map(PlanItem::from).collect()),
        next_cursor: next.as_ref().map(cursor::write).transpose()?,
        ..SyncPlan::new(view, &call.context.config.policy.currency)
    }))
}
