//! Returns a store to use.

use actix_web::{HttpResponse, web};
use nightferry_core::tiering::relocate::drain;

use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, ClientOrigin, StoreName};
use crate::state::Api;

/// Returns a store to use that is being drained or is drained. Files that have been moved stay where they are.
#[utoipa::path(delete, path = "/api/admin/stores/{name}/drain", operation_id = "undrain_store", tag = "administration",
    params(("name" = String, Path, description = "The store")),
    responses((status = 204, description = "The store is in use")))]
pub(crate) async fn undrain(
    admin: Caller<Admin>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    StoreName(name): StoreName,
) -> Result<HttpResponse> {
    drain::cancel(&api.context, &name, Some(admin.user.id), &origin.0).await?;
    Ok(HttpResponse::NoContent().finish())
}
