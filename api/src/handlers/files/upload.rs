//! Receives a file as a stream.

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use nightferry_api_types::file::{File, UploadForm};
use nightferry_core::file::upload::{self, UploadRequest};

use crate::error_response::Result;
use crate::extract::Caller;
use crate::extract::access::FilesWrite;
use crate::metrics;
use crate::state::Api;
use crate::upload::{Fields, read_fields};

/// Uploads a file.
///
/// A form whose last field is `file`. The response is sent after the local store has confirmed the checksum and the
/// database has recorded the file: an acknowledged file is not lost.
#[utoipa::path(post, path = "/api/files/upload", operation_id = "upload_file", tag = "files",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "The file, stored", body = File,
            headers(("Location" = String, description = "Its address"))),
        (status = 404, description = "`NOT_FOUND`: no such folder"),
        (status = 409, description = "`NAME_TAKEN`, `CONFLICT`"),
        (status = 413, description = "`FILE_TOO_LARGE`, `QUOTA_EXCEEDED`"),
        (status = 415, description = "`TYPE_NOT_ALLOWED`: not a form"),
        (status = 422, description = "`CHECKSUM_MISMATCH`: the content differs from the announced \
            checksum; nothing was stored"),
        (status = 502, description = "`STORE_ERROR`"),
    ))]
pub(crate) async fn upload(
    caller: Caller<FilesWrite>,
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse> {
    let idle = api.context.config.server.client_idle_timeout;
    let Fields { folder, sha256, on_conflict, filename, content_type, mut body } =
        read_fields(&request, payload, idle).await?;
    let wanted = UploadRequest { owner: caller.user.id, folder, filename, content_type, on_conflict, sha256 };
    let received = upload::receive(&api.files, wanted, &mut body).await;
    let file = match received {
        Ok(file) => file,
        Err(error) => {
            metrics::upload(None);
            return Err(error.into());
        }
    };
    metrics::upload(u64::try_from(file.row.file_size).ok());
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("/api/files/{}", file.row.id)))
        .json(File::new(&file, &api.base_url)))
}
