//! Shows one file.

use actix_web::{HttpResponse, web};
use nightferry_api_types::file::File;
use nightferry_core::file::details;
use nightferry_core::ids::FileId;

use crate::error_response::Result;
use crate::extract::access::FilesRead;
use crate::extract::{Caller, Id};
use crate::state::Api;

/// Shows a file, including files in the trash.
#[utoipa::path(get, path = "/api/files/{id}", operation_id = "get_file", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file")),
    responses((status = 200, description = "The file", body = File)))]
pub(crate) async fn show(
    caller: Caller<FilesRead>,
    api: web::Data<Api>,
    Id(id): Id<FileId>,
) -> Result<HttpResponse> {
    let file = details::find(&api.context, caller.user.id, id).await?;
    Ok(HttpResponse::Ok().json(File::new(&file, &api.base_url)))
}
