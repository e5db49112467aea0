//! Creates presigned URLs.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use chrono::TimeDelta;
use nightferry_api_types::file::{DownloadUrl, DownloadUrlRequest};
use nightferry_core::file::download;
use nightferry_core::ids::FileId;

use crate::error_response::{ApiError, Result};
use crate::extract::access::FilesRead;
use crate::extract::{Caller, Id, OptionalJson};
use crate::http::disposition::{self, Disposition};
use crate::state::Api;

/// The default lifetime of a presigned URL, in seconds.
const DEFAULT_LIFETIME: i64 = 3600;
/// The maximum lifetime of a presigned URL in S3 (seven days), in seconds.
const MAX_LIFETIME: i64 = 604_800;

/// Returns a presigned URL that downloads directly from the store. It works for anyone until it expires.
///
/// Not available for a file whose only copies are encrypted: download it through this service.
#[utoipa::path(post, path = "/api/files/{id}/download-url", operation_id = "make_download_url", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file")), request_body = Option<DownloadUrlRequest>,
    responses(
        (status = 200, description = "The presigned URL", body = DownloadUrl),
        (status = 409, description = "`CONFLICT`: every copy is encrypted"),
        (status = 502, description = "`STORE_ERROR`"),
    ))]
pub(crate) async fn download_url(
    caller: Caller<FilesRead>,
    api: web::Data<Api>,
    Id(id): Id<FileId>,
    OptionalJson(body): OptionalJson<DownloadUrlRequest>,
) -> Result<HttpResponse> {
    let target = download::find(&api.context, caller.user.id, id, body.version).await?;
    let life = body.expires_in.unwrap_or(DEFAULT_LIFETIME);
    let expires =
        u64::try_from(life).ok().filter(|life| (1..=MAX_LIFETIME.unsigned_abs()).contains(life)).ok_or_else(
            || ApiError::field("expires_in", format!("must be a number of seconds from 1 to {MAX_LIFETIME}")),
        )?;
    let disposition = disposition::header(Disposition::Attachment, &target.filename);
    let expires_at = api.context.clock.now() + TimeDelta::seconds(life);
    let url = download::presign(&api.files, &target, &disposition, Duration::from_secs(expires)).await?;
    Ok(HttpResponse::Ok().json(DownloadUrl { url, expires_at }))
}
