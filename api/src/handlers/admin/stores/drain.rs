//! Begins to empty a store.

use actix_web::{HttpResponse, web};
use nightferry_core::tiering::relocate::drain;

use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, ClientOrigin, StoreName};
use crate::state::Api;
use crate::wire::store::Drain;

/// Begins to empty a store: nothing new is written to it, each of its replicas is copied to another store, proved there, and
/// then deleted here. Files stay readable. Asked for again, it tries again what was given up.
#[utoipa::path(post, path = "/api/admin/stores/{name}/drain", operation_id = "drain_store", tag = "administration",
    params(("name" = String, Path, description = "The store")),
    responses(
        (status = 202, description = "How far it is", body = Drain),
        (status = 409, description = "`CONFLICT`: no other store is left for its files"),
    ))]
pub(crate) async fn drain(
    admin: Caller<Admin>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    StoreName(name): StoreName,
) -> Result<HttpResponse> {
    let draining = drain::begin(&api.context, &name, Some(admin.user.id), &origin.0).await?;
    Ok(HttpResponse::Accepted().json(Drain::from(draining)))
}
