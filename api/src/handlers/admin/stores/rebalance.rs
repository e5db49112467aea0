//! Evens out the local stores: plans it, begins it, calls it off.

use actix_web::{HttpResponse, web};
use nightferry_core::tiering::relocate::rebalance;

use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, ClientOrigin, OptionalJson, Query};
use crate::state::Api;
use crate::wire::rebalance::{AskRebalance, Rebalance, RebalancePlan, RebalanceQuery};

/// How full each local store is, what would move so that all are as full, and how far that is if it was asked for. Changes
/// nothing.
#[utoipa::path(get, path = "/api/admin/stores/rebalance", operation_id = "plan_rebalance", tag = "administration",
    params(RebalanceQuery),
    responses((status = 200, description = "The plan", body = RebalancePlan)))]
pub(crate) async fn plan(
    _: Caller<Admin>,
    api: web::Data<Api>,
    Query(query): Query<RebalanceQuery>,
) -> Result<HttpResponse> {
    let plan = rebalance::plan(&api.context, query.tolerance()?).await?;
    let last = rebalance::look(&api.context).await?;
    Ok(HttpResponse::Ok().json(RebalancePlan::of(plan, last)))
}

/// Moves files between the local stores until all are as full. Each is copied, proved, and then deleted where it was. Files
/// stay readable. While that is going on it goes on as it was begun, and what was given up is tried again.
#[utoipa::path(post, path = "/api/admin/stores/rebalance", operation_id = "rebalance_stores", tag = "administration",
    request_body = Option<AskRebalance>,
    responses(
        (status = 202, description = "How far it is", body = Rebalance),
        (status = 409, description = "`CONFLICT`: fewer than two local stores take part, or what was called off has not ended"),
    ))]
pub(crate) async fn begin(
    admin: Caller<Admin>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    OptionalJson(body): OptionalJson<AskRebalance>,
) -> Result<HttpResponse> {
    let tolerance = body.tolerance()?;
    let begun = rebalance::begin(&api.context, tolerance, Some(admin.user.id), &origin.0).await?;
    Ok(HttpResponse::Accepted().json(Rebalance::from(begun)))
}

/// Calls it off. What has moved stays where it is, what was not begun stays too, and what is on its way still ends.
#[utoipa::path(delete, path = "/api/admin/stores/rebalance", operation_id = "stop_rebalance", tag = "administration",
    responses((status = 204, description = "Nothing more is begun")))]
pub(crate) async fn stop(
    admin: Caller<Admin>,
    api: web::Data<Api>,
    origin: ClientOrigin,
) -> Result<HttpResponse> {
    rebalance::stop(&api.context, Some(admin.user.id), &origin.0).await?;
    Ok(HttpResponse::NoContent().finish())
}
