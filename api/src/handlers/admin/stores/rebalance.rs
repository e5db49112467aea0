//! Rebalancing of the local stores: plan, start, stop.

use actix_web::{HttpResponse, web};
use nightferry_api_types::rebalance::{AskRebalance, Rebalance, RebalancePlan, RebalanceQuery};
use nightferry_core::store::StoreRole;
use nightferry_core::tiering::relocate::rebalance;

use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, ClientOrigin, OptionalJson, Query, choice, whole_number};
use crate::state::Api;

/// Shows the usage of each local store, what would be moved to fill them evenly, and the progress of a requested
/// rebalancing. Changes nothing.
#[utoipa::path(get, path = "/api/admin/stores/rebalance", operation_id = "plan_rebalance", tag = "administration",
    params(RebalanceQuery),
    responses((status = 200, description = "The plan", body = RebalancePlan)))]
pub(crate) async fn plan(
    _: Caller<Admin>,
    api: web::Data<Api>,
    Query(query): Query<RebalanceQuery>,
) -> Result<HttpResponse> {
    check_role(query.role.as_deref())?;
    let tolerance = whole_number("tolerance", query.tolerance.as_deref(), 0..=100)?;
    let tolerance = tolerance.and_then(|number| u8::try_from(number).ok()).unwrap_or(rebalance::TOLERANCE);
    let plan = rebalance::plan(&api.context, tolerance).await?;
    let last = rebalance::look(&api.context).await?;
    Ok(HttpResponse::Ok().json(RebalancePlan::new(&plan, last.as_ref())))
}

/// Moves files between the local stores until they are evenly filled. Each file is copied, verified, and then deleted
/// from its old store. Files stay readable. If rebalancing is already in progress, it continues unchanged, and failed
/// copies are retried.
#[utoipa::path(post, path = "/api/admin/stores/rebalance", operation_id = "rebalance_stores", tag = "administration",
    request_body = Option<AskRebalance>,
    responses(
        (status = 202, description = "The drain and its progress", body = Rebalance),
        (status = 409, description = "`CONFLICT`: fewer than two local stores are included, or a stopped \
            rebalancing has not ended yet"),
    ))]
pub(crate) async fn begin(
    admin: Caller<Admin>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    OptionalJson(body): OptionalJson<AskRebalance>,
) -> Result<HttpResponse> {
    check_role(body.role.as_deref())?;
    let tolerance = body.tolerance.unwrap_or(rebalance::TOLERANCE);
    let begun = rebalance::begin(&api.context, tolerance, Some(admin.user.id), &origin.0).await?;
    Ok(HttpResponse::Accepted().json(Rebalance::from(&begun)))
}

/// Stops rebalancing. Moved files stay in their new store, other files in their old one; moves in progress finish.
#[utoipa::path(delete, path = "/api/admin/stores/rebalance", operation_id = "stop_rebalance", tag = "administration",
    responses((status = 204, description = "No further moves are started")))]
pub(crate) async fn stop(
    admin: Caller<Admin>,
    api: web::Data<Api>,
    origin: ClientOrigin,
) -> Result<HttpResponse> {
    rebalance::stop(&api.context, Some(admin.user.id), &origin.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Refuses stores of a role that cannot be rebalanced.
fn check_role(text: Option<&str>) -> Result<()> {
    let roles = [StoreRole::Local, StoreRole::Cloud].map(|role| (<&str>::from(role), role));
    let role = choice("role", text, &roles)?.unwrap_or(StoreRole::Local);
    Ok(rebalance::check_role(role)?)
}
