//! Explains the placement of a file.

use actix_web::{HttpResponse, web};
use nightferry_api_types::placement::Placement;
use nightferry_core::ids::FileId;
use nightferry_core::tiering::placement;

use crate::error_response::Result;
use crate::extract::access::FilesRead;
use crate::extract::{Caller, Id};
use crate::state::Api;

/// Explains where a file is stored, why, and what happens to it next. For its owner and for administrators.
#[utoipa::path(get, path = "/api/files/{id}/placement", operation_id = "get_placement", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file")),
    responses((status = 200, description = "The placement", body = Placement)))]
pub(crate) async fn placement(
    caller: Caller<FilesRead>,
    api: web::Data<Api>,
    Id(id): Id<FileId>,
) -> Result<HttpResponse> {
    let owner = (!caller.is_admin()).then_some(caller.user.id);
    let placement = placement::explain(&api.context, id, owner).await?;
    Ok(HttpResponse::Ok().json(Placement::from(&placement)))
}
