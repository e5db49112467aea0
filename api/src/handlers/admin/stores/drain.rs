//! Drains a store.

use actix_web::{HttpResponse, web};
use nightferry_api_types::store::Drain;
use nightferry_core::tiering::relocate::drain;

use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, ClientOrigin, StoreName};
use crate::state::Api;

/// Drains a store: nothing new is written to it, and each of its replicas is copied to another store, verified there,
/// and then deleted here. Files stay readable. Repeating the request retries failed copies.
#[utoipa::path(post, path = "/api/admin/stores/{name}/drain", operation_id = "drain_store", tag = "administration",
    params(("name" = String, Path, description = "The store")),
    responses(
        (status = 202, description = "The drain and its progress", body = Drain),
        (status = 409, description = "`CONFLICT`: there is no other store for its files"),
    ))]
pub(crate) async fn drain(
    admin: Caller<Admin>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    StoreName(name): StoreName,
) -> Result<HttpResponse> {
    let draining = drain::begin(&api.context, &name, Some(admin.user.id), &origin.0).await?;
    Ok(HttpResponse::Accepted().json(Drain::from(&draining)))
}
