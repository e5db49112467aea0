//! Lists the stores.

use actix_web::{HttpResponse, web};
use nightferry_api_types::store::{Store, StoreList};
use nightferry_core::tiering::stores;

use crate::error_response::Result;
use crate::extract::Caller;
use crate::extract::access::Admin;
use crate::state::Api;

/// Lists every store with its health, capacity, replicas by state, and drain.
#[utoipa::path(get, path = "/api/admin/stores", operation_id = "list_stores", tag = "administration",
    responses((status = 200, description = "The stores, local ones first", body = StoreList)))]
pub(crate) async fn list(_: Caller<Admin>, api: web::Data<Api>) -> Result<HttpResponse> {
    let stores = stores::list(&api.context).await?;
    Ok(HttpResponse::Ok().json(StoreList { stores: stores.iter().map(Store::from).collect() }))
}
