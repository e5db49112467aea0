//! The fields before the file: few, small, each at most once, and only known ones.

use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::header::{Charset, ContentDisposition, DispositionParam, HeaderMap};
use bytes::Bytes;
use futures_util::Stream;
use nightferry_core::checksum::Sha256;
use nightferry_core::file::list::FolderRef;
use nightferry_core::file::upload::OnConflict;
use nightferry_core::object::write::BodyError;

use super::body::{Extent, FileBody, Payload, counted};
use super::multipart::{Form, FormError};
use crate::error_response::{ApiError, Result};
use crate::extract::choice;
use crate::handlers::files::folder;

/// Maximum size of a field other than the file, in bytes.
const FIELD_LIMIT: usize = 4096;

/// The values of the field `on_conflict`.
const ON_CONFLICT: [(&str, OnConflict); 3] =
    [("version", OnConflict::Version), ("rename", OnConflict::Rename), ("fail", OnConflict::Fail)];

/// The content of the form up to the first byte of the file.
pub(crate) struct Fields {
    pub(crate) folder: FolderRef,
    /// The expected SHA-256.
    pub(crate) sha256: Option<Sha256>,
    /// What to do if the name exists.
    pub(crate) on_conflict: OnConflict,
    pub(crate) filename: String,
    /// The media type of the file, as sent by the client.
    pub(crate) content_type: Option<String>,
    pub(crate) body: FileBody,
}

/// Reads the form up to the file. Waits at most `idle` for each chunk.
pub(crate) async fn read_fields<S>(headers: &HeaderMap, payload: S, idle: Duration) -> Result<Fields>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + 'static,
{
    let (payload, taken) = counted(payload);
    let mut form = Form::new(headers, payload).map_err(|error| unreadable(&error))?;
    let (mut folder_id, mut sha256, mut on_conflict) = (None, None, None);
    loop {
        let head = within(idle, form.next_part()).await?.map_err(|error| unreadable(&error))?;
        let head = head.ok_or_else(|| ApiError::field("file", "is missing"))?;
        let name = head.disposition.get_name().unwrap_or_default();
        match name {
            "folder_id" => {
                let text = small(name, &mut form, idle).await?;
                once(&mut folder_id, name, text.as_deref().map(folder).transpose()?)?;
            }
            "sha256" => {
                let text = small(name, &mut form, idle).await?;
                once(&mut sha256, name, text.as_deref().map(digest).transpose()?)?;
            }
            "on_conflict" => {
                let text = small(name, &mut form, idle).await?;
                once(&mut on_conflict, name, choice(name, text.as_deref(), &ON_CONFLICT)?)?;
            }
            "file" => {
                let filename = filename(&head.disposition);
                return Ok(Fields {
                    folder: folder_id.flatten().unwrap_or(FolderRef::Root),
                    sha256: sha256.flatten(),
                    on_conflict: on_conflict.flatten().unwrap_or_default(),
                    filename: filename
                        .ok_or_else(|| ApiError::field("file", "must be sent with a filename"))?,
                    content_type: head.content_type.map(|kind| kind.to_string()),
                    body: FileBody::new(form, Extent::new(headers, taken), idle),
                });
            }
            other => {
                let name: String = other.chars().take(64).collect();
                return Err(ApiError::field(name, "is not a field of this form"));
            }
        }
    }
}

/// Stores the first value; a second one is rejected.
fn once<T>(place: &mut Option<T>, name: &str, value: T) -> Result<()> {
    if place.replace(value).is_some() {
        return Err(ApiError::field(name, "was sent twice"));
    }
    Ok(())
}

/// The trimmed content of a small field; `None` if it is empty, as browsers send it.
async fn small(name: &str, form: &mut Form<Payload>, idle: Duration) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = within(idle, form.chunk()).await?.map_err(|error| unreadable(&error))? {
        if bytes.len().saturating_add(chunk.len()) > FIELD_LIMIT {
            return Err(ApiError::field(name, format!("exceeds {FIELD_LIMIT} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(bytes).map_err(|_| ApiError::field(name, "is not UTF-8"))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

fn digest(text: &str) -> Result<Sha256> {
    text.to_ascii_lowercase().parse().map_err(|_| ApiError::field("sha256", "must be 64 hexadecimal digits"))
}

/// The file name: `filename*` (RFC 8187) if present, because it declares its encoding.
fn filename(disposition: &ContentDisposition) -> Option<String> {
    let extended = disposition.parameters.iter().find_map(|parameter| match parameter {
        DispositionParam::FilenameExt(value) if value.charset == Charset::Ext("UTF-8".to_owned()) => {
            String::from_utf8(value.value.clone()).ok()
        }
        DispositionParam::FilenameExt(value) if value.charset == Charset::Iso_8859_1 => {
            Some(value.value.iter().map(|byte| char::from(*byte)).collect())
        }
        _ => None,
    });
    extended.or_else(|| disposition.get_filename().map(str::to_owned))
}

/// Waits for a chunk of the form, with a timeout.
async fn within<T>(idle: Duration, piece: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(idle, piece)
        .await
        .map_err(|_| ApiError::bad_request(BodyError::Idle(idle).to_string()))
}

fn unreadable(error: &FormError) -> ApiError {
    match error {
        FormError::NoForm => ApiError::MediaType("multipart/form-data"),
        error => ApiError::bad_request(format!("The form is malformed: {error}.")),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
    use futures_util::stream;

    use super::*;

    const UUID: &str = "0198c2d5-7b1a-7000-8000-000000000001";

    async fn read(parts: &[(&str, &str)]) -> Result<Fields> {
        let mut raw = String::new();
        for (disposition, content) in parts {
            raw += "--sep\r\nContent-Disposition: form-data; ";
            raw += disposition;
            raw += "\r\n\r\n";
            raw += content;
            raw += "\r\n";
        }
        raw.push_str("--sep--\r\n");
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("multipart/form-data; boundary=sep"));
        let payload = stream::iter([Ok::<_, PayloadError>(Bytes::from(raw))]);
        read_fields(&headers, payload, Duration::from_secs(5)).await
    }

    async fn code(parts: &[(&str, &str)]) -> &'static str {
        read(parts).await.err().unwrap().code().as_str()
    }

    const FILE: (&str, &str) = ("name=\"file\"; filename=\"a.txt\"", "x");

    #[actix_web::test]
    async fn known_fields_before_the_file_are_read() {
        let hash = "A".repeat(64);
        let fields = read(&[
            ("name=\"folder_id\"", UUID),
            ("name=\"sha256\"", &hash),
            ("name=\"on_conflict\"", "rename"),
            FILE,
        ])
        .await
        .unwrap();
        assert_eq!(fields.folder, FolderRef::Id(UUID.parse().unwrap()));
        assert_eq!(fields.sha256.unwrap().to_string(), hash.to_lowercase());
        assert_eq!((fields.on_conflict, fields.filename.as_str()), (OnConflict::Rename, "a.txt"));
    }

    #[actix_web::test]
    async fn empty_fields_count_as_absent() {
        let fields = read(&[("name=\"folder_id\"", ""), ("name=\"sha256\"", ""), FILE]).await.unwrap();
        assert_eq!((fields.folder, fields.sha256), (FolderRef::Root, None));
    }

    #[actix_web::test]
    async fn forbidden_form_content_is_rejected() {
        let long = "x".repeat(FIELD_LIMIT + 1);
        for parts in [
            vec![],
            vec![("name=\"folder_id\"", "root")],
            vec![("name=\"folder_id\"", "root"), ("name=\"folder_id\"", "root"), FILE],
            vec![("name=\"sha256\"", "abc"), FILE],
            vec![("name=\"sha256\"", long.as_str()), FILE],
            vec![("name=\"on_conflict\"", "replace"), FILE],
            vec![("name=\"folder_id\"", "../x"), FILE],
            vec![("name=\"color\"", "red"), FILE],
            vec![("name=\"file\"", "x")],
        ] {
            assert_eq!(code(&parts).await, "VALIDATION_FAILED", "{parts:?}");
        }
        assert_eq!(code(&[("filename=\"a\"", "x")]).await, "BAD_REQUEST");
    }

    #[actix_web::test]
    async fn file_names_are_accepted_in_all_common_encodings() {
        for (disposition, name) in [
            ("filename=\"Übergröße €.txt\"", "Übergröße €.txt"),
            ("filename=\"a\\\"b.txt\"", "a\"b.txt"),
            ("filename=\"x\"; filename*=UTF-8''%C3%9C%20b.txt", "Ü b.txt"),
            ("filename*=utf-8''%E2%82%AC", "€"),
            ("filename*=iso-8859-1''%A3; filename=\"x\"", "£"),
            ("filename*=koi8-r''%C1; filename=\"x\"", "x"),
        ] {
            let disposition = format!("name=\"file\"; {disposition}");
            assert_eq!(read(&[(&disposition, "x")]).await.unwrap().filename, name, "{disposition}");
        }
    }
}
