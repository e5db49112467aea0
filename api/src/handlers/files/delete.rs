//! Deletes a file.

use actix_web::{HttpResponse, web};
use nightferry_api_types::file::DeleteFile;
use nightferry_core::file::trash;
use nightferry_core::ids::FileId;

use crate::error_response::Result;
use crate::extract::access::FilesWrite;
use crate::extract::{Caller, ClientOrigin, Id, Query, flag};
use crate::state::Api;

/// Moves a file to the trash, or deletes it permanently.
#[utoipa::path(delete, path = "/api/files/{id}", operation_id = "delete_file", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file"), DeleteFile),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete(
    caller: Caller<FilesWrite>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    Id(id): Id<FileId>,
    Query(query): Query<DeleteFile>,
) -> Result<HttpResponse> {
    if flag("permanent", query.permanent.as_deref())? {
        trash::purge(&api.context, caller.user.id, id, &origin.0).await?;
    } else {
        let actor = caller.user.id;
        trash::send(&api.context, actor, id, Some(actor), &origin.0).await?;
    }
    Ok(HttpResponse::NoContent().finish())
}
