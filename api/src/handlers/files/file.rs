//! One file: upload, show, change, delete, explain its placement, sync.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use nightferry_api_types::file::{ChangeFile, DeleteFile, File, UploadForm};
use nightferry_api_types::placement::Placement;
use nightferry_api_types::run::RunAccepted;
use nightferry_core::db::enums::RunTrigger;
use nightferry_core::db::runs::{NewRun, RunScope};
use nightferry_core::file::change::{self, Change};
use nightferry_core::file::upload::{self, UploadRequest};
use nightferry_core::file::{details, trash};
use nightferry_core::ids::FileId;
use nightferry_core::tiering::{placement, run};

use super::folder;
use crate::error_response::Result;
use crate::extract::access::{FilesRead, FilesWrite, Sync};
use crate::extract::{Call, Id, Json, Query, flag};
use crate::metrics;
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
pub(crate) async fn upload(call: Call<FilesWrite>, payload: web::Payload) -> Result<HttpResponse> {
    let idle = call.context.config.server.client_idle_timeout;
    let Fields { folder, sha256, on_conflict, filename, content_type, mut body } =
        read_fields(call.request.headers(), payload, idle).await?;
    let wanted = UploadRequest { owner: call.user().id, folder, filename, content_type, on_conflict, sha256 };
    let received = upload::receive(&call.files, wanted, &mut body).await;
    metrics::upload(received.as_ref().ok().and_then(|file| u64::try_from(file.row.file_size).ok()));
    let file = received?;
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("/api/files/{}", file.row.id)))
        .json(File::new(&file, &call.base_url)))
}

/// Shows a file, including files in the trash.
#[utoipa::path(get, path = "/api/files/{id}", operation_id = "get_file", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file")),
    responses((status = 200, description = "The file", body = File)))]
pub(crate) async fn show(call: Call<FilesRead>, Id(id): Id<FileId>) -> Result<HttpResponse> {
    let file = details::find(&call.context, call.user().id, id).await?;
    Ok(HttpResponse::Ok().json(File::new(&file, &call.base_url)))
}

/// Renames, moves, pins or unpins a file.
#[utoipa::path(patch, path = "/api/files/{id}", operation_id = "change_file", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file")), request_body = ChangeFile,
    responses(
        (status = 200, description = "The new state of the file", body = File),
        (status = 409, description = "`NAME_TAKEN`: the folder contains a file with this name"),
    ))]
pub(crate) async fn change(
    call: Call<FilesWrite>,
    Id(id): Id<FileId>,
    Json(body): Json<ChangeFile>,
) -> Result<HttpResponse> {
    let change = Change {
        filename: body.filename,
        folder: body.folder_id.as_deref().map(folder).transpose()?,
        pinned: body.pinned,
    };
    let file = change::change(&call.context, call.user().id, id, change).await?;
    Ok(HttpResponse::Ok().json(File::new(&file, &call.base_url)))
}

/// Moves a file to the trash, or deletes it permanently.
#[utoipa::path(delete, path = "/api/files/{id}", operation_id = "delete_file", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file"), DeleteFile),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete(
    call: Call<FilesWrite>,
    Id(id): Id<FileId>,
    Query(query): Query<DeleteFile>,
) -> Result<HttpResponse> {
    if flag("permanent", query.permanent.as_deref())? {
        trash::purge(&call.context, call.user().id, id, &call.origin()).await?;
    } else {
        let actor = call.user().id;
        trash::send(&call.context, actor, id, Some(actor), &call.origin()).await?;
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Explains where a file is stored, why, and what happens to it next. For its owner and for administrators.
#[utoipa::path(get, path = "/api/files/{id}/placement", operation_id = "get_placement", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file")),
    responses((status = 200, description = "The placement", body = Placement)))]
pub(crate) async fn placement(call: Call<FilesRead>, Id(id): Id<FileId>) -> Result<HttpResponse> {
    let placement = placement::explain(&call.context, id, call.owner()).await?;
    Ok(HttpResponse::Ok().json(Placement::from(&placement)))
}

/// Queues a file now: in the active run if there is one, otherwise in a separate run. For its owner and for
/// administrators.
#[utoipa::path(post, path = "/api/files/{id}/sync", operation_id = "sync_file", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file")),
    responses(
        (status = 202, description = "Queued", body = RunAccepted),
        (status = 409, description = "`CONFLICT`, `SYNC_ALREADY_RUNNING`: a run started or ended \
            concurrently; try again. `CONFLICT` also if two stores have one bucket"),
    ))]
pub(crate) async fn sync(call: Call<Sync>, Id(id): Id<FileId>) -> Result<HttpResponse> {
    let new = NewRun {
        trigger: RunTrigger::Api,
        requested_by: Some(call.actor()),
        tick: None,
        scope: RunScope::default(),
    };
    let run = run::request_file(&call.context, id, call.owner(), new, &call.origin()).await?;
    Ok(HttpResponse::Accepted().json(RunAccepted { run_id: run.0 }))
}
