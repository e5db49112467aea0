//! Renames, moves and pins a file.

use actix_web::{HttpResponse, web};
use nightferry_api_types::file::{ChangeFile, File};
use nightferry_core::file::change::{self, Change};
use nightferry_core::ids::FileId;

use crate::error_response::Result;
use crate::extract::access::FilesWrite;
use crate::extract::{Caller, Id, Json};
use crate::state::Api;

use super::list::folder;

/// Renames, moves, pins or unpins a file.
#[utoipa::path(patch, path = "/api/files/{id}", operation_id = "change_file", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file")), request_body = ChangeFile,
    responses(
        (status = 200, description = "The new state of the file", body = File),
        (status = 409, description = "`NAME_TAKEN`: the folder contains a file with this name"),
    ))]
pub(crate) async fn change(
    caller: Caller<FilesWrite>,
    api: web::Data<Api>,
    Id(id): Id<FileId>,
    Json(body): Json<ChangeFile>,
) -> Result<HttpResponse> {
    let change = Change {
        filename: body.filename,
        folder: body.folder_id.as_deref().map(folder).transpose()?,
        pinned: body.pinned,
    };
    let file = change::change(&api.context, caller.user.id, id, change).await?;
    Ok(HttpResponse::Ok().json(File::new(&file, &api.base_url)))
}
