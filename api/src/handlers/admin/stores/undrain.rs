//! Lets a store be used again.

use actix_web::{HttpResponse, web};
use nightferry_core::tiering::relocate::drain;

use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, ClientOrigin, StoreName};
use crate::state::Api;

/// Lets a store be used again that was being emptied, or is empty. What has moved stays where it is.
#[utoipa::path(delete, path = "/api/admin/stores/{name}/drain", operation_id = "undrain_store", tag = "administration",
    params(("name" = String, Path, description = "The store")),
    responses((status = 204, description = "It is used again, or was all the time")))]
pub(crate) async fn undrain(
    admin: Caller<Admin>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    StoreName(name): StoreName,
) -> Result<HttpResponse> {
    drain::cancel(&api.context, &name, Some(admin.user.id), &origin.0).await?;
    Ok(HttpResponse::NoContent().finish())
}
