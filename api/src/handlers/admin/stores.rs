//! Administration of stores: list, drain, rebalance.

use actix_web::HttpResponse;
use nightferry_api_types::rebalance::{AskRebalance, Rebalance, RebalancePlan, RebalanceQuery};
use nightferry_api_types::store::{Drain, Store, StoreList};
use nightferry_core::store::{StoreName, StoreRole};
use nightferry_core::tiering::relocate::{drain, rebalance};
use nightferry_core::tiering::stores;

use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Call, Id, OptionalJson, Query, choice, whole_number};

/// Lists every store with its health, capacity, replicas by state, and drain.
#[utoipa::path(get, path = "/api/admin/stores", operation_id = "list_stores", tag = "administration",
    responses((status = 200, description = "The stores, local ones first", body = StoreList)))]
pub(crate) async fn list(call: Call<Admin>) -> Result<HttpResponse> {
    let stores = stores::list(&call.context).await?;
    Ok(HttpResponse::Ok().json(StoreList { stores: stores.iter().map(Store::from).collect() }))
}

/// Drains a store: nothing new is written to it, and each of its replicas is copied to another store, verified there,
/// and then deleted here. Files stay readable. Repeating the request retries failed copies.
#[utoipa::path(post, path = "/api/admin/stores/{name}/drain", operation_id = "drain_store", tag = "administration",
    params(("name" = String, Path, description = "The store")),
    responses(
        (status = 202, description = "The drain and its progress", body = Drain),
        (status = 409, description = "`CONFLICT`: there is no other store for its files, or two \
            stores have one bucket"),
    ))]
pub(crate) async fn drain(call: Call<Admin>, Id(name): Id<StoreName>) -> Result<HttpResponse> {
    let draining = drain::begin(&call.context, name.as_str(), Some(call.actor()), &call.origin()).await?;
    Ok(HttpResponse::Accepted().json(Drain::from(&draining)))
}

/// Returns a store to use that is being drained or is drained. Files that have been moved stay where they are.
#[utoipa::path(delete, path = "/api/admin/stores/{name}/drain", operation_id = "undrain_store", tag = "administration",
    params(("name" = String, Path, description = "The store")),
    responses((status = 204, description = "The store is in use")))]
pub(crate) async fn undrain(call: Call<Admin>, Id(name): Id<StoreName>) -> Result<HttpResponse> {
    drain::cancel(&call.context, name.as_str(), Some(call.actor()), &call.origin()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Shows the usage of each local store, what would be moved to fill them evenly, and the progress of a requested
/// rebalancing. Changes nothing.
#[utoipa::path(get, path = "/api/admin/stores/rebalance", operation_id = "plan_rebalance", tag = "administration",
    params(RebalanceQuery),
    responses((status = 200, description = "The plan", body = RebalancePlan)))]
pub(crate) async fn plan_rebalance(
    call: Call<Admin>,
    Query(query): Query<RebalanceQuery>,
) -> Result<HttpResponse> {
    check_role(query.role.as_deref())?;
    let tolerance = whole_number("tolerance", query.tolerance.as_deref(), 0..=100)?;
    let tolerance = tolerance.and_then(|number| u8::try_from(number).ok()).unwrap_or(rebalance::TOLERANCE);
    let plan = rebalance::plan(&call.context, tolerance).await?;
    let last = rebalance::look(&call.context).await?;
    Ok(HttpResponse::Ok().json(RebalancePlan::new(&plan, last.as_ref())))
}

/// Moves files between the local stores until they are evenly filled. Each file is copied, verified, and then deleted
/// from its old store. Files stay readable. If rebalancing is already in progress, it continues unchanged, and failed
/// copies are retried.
#[utoipa::path(post, path = "/api/admin/stores/rebalance", operation_id = "rebalance_stores", tag = "administration",
    request_body = Option<AskRebalance>,
    responses(
        (status = 202, description = "The drain and its progress", body = Rebalance),
        (status = 409, description = "`CONFLICT`: fewer than two local stores are included, a stopped \
            rebalancing has not ended yet, or two stores have one bucket"),
    ))]
pub(crate) async fn rebalance(
    call: Call<Admin>,
    OptionalJson(body): OptionalJson<AskRebalance>,
) -> Result<HttpResponse> {
    check_role(body.role.as_deref())?;
    let tolerance = body.tolerance.unwrap_or(rebalance::TOLERANCE);
    let begun = rebalance::begin(&call.context, tolerance, Some(call.actor()), &call.origin()).await?;
    Ok(HttpResponse::Accepted().json(Rebalance::from(&begun)))
}

/// Stops rebalancing. Moved files stay in their new store, other files in their old one; moves in progress finish.
#[utoipa::path(delete, path = "/api/admin/stores/rebalance", operation_id = "stop_rebalance", tag = "administration",
    responses((status = 204, description = "No further moves are started")))]
pub(crate) async fn stop_rebalance(call: Call<Admin>) -> Result<HttpResponse> {
    rebalance::stop(&call.context, Some(call.actor()), &call.origin()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Refuses stores of a role that cannot be rebalanced.
fn check_role(text: Option<&str>) -> Result<()> {
    let roles = [StoreRole::Local, StoreRole::Cloud].map(|role| (<&str>::from(role), role));
    let role = choice("role", text, &roles)?.unwrap_or(StoreRole::Local);
    Ok(rebalance::check_role(role)?)
}
