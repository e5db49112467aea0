//! Lists files in pages.

use actix_web::HttpResponse;
use chrono::{DateTime, Utc};
use nightferry_api_types::file::{Direction, File, FilePage, ListFiles, SortBy};
use nightferry_core::db::files::{ListOrder, ListQuery};
use nightferry_core::file::details::FileView;
use nightferry_core::file::list::{self, FolderRef};
use nightferry_core::ids::{FileId, FolderId};
use serde::{Deserialize, Serialize};

use crate::cursor;
use crate::error_response::{ApiError, Result};
use crate::extract::access::FilesRead;
use crate::extract::{Call, Query, choice, flag, page_size};

/// Maximum length of a search string, in bytes: no name is longer.
const MAX_TEXT_LENGTH: usize = 255;

/// Lists the caller's files.
#[utoipa::path(get, path = "/api/files", operation_id = "list_files", tag = "files", params(ListFiles),
    responses(
        (status = 200, description = "A page", body = FilePage),
        (status = 404, description = "`NOT_FOUND`: no such folder"),
    ))]
pub(crate) async fn list(call: Call<FilesRead>, Query(query): Query<ListFiles>) -> Result<HttpResponse> {
    let order = Order::read(&query)?;
    let after = query.cursor.as_deref().map(|text| Position::read(text, order)).transpose()?;
    let folder = query.folder_id.as_deref().map(folder).transpose()?;
    let limit = page_size(query.limit.as_deref())?;
    let trashed = flag("trashed", query.trashed.as_deref())?;
    let name_contains = text("q", query.q)?;
    let location = text("location", query.location)?;
    let content_type = text("content_type", query.content_type)?;
    let folder = match folder {
        Some(folder) => Some(list::resolve_folder(&call.context, call.user().id, folder).await?),
        None => None,
    };
    let wanted = ListQuery {
        owner: call.user().id,
        folder,
        name_contains,
        location,
        content_type,
        trashed,
        order: order.with(after.as_ref())?,
        descending: order.direction == Direction::Desc,
        after: after.map(|position| position.id),
        limit,
    };
    let (files, more) = list::page(&call.context, wanted).await?;
    let next_cursor = cursor::next(&files, more, |last| Position::of(last, order))?;
    let files = files.iter().map(|file| File::new(file, &call.base_url));
    Ok(HttpResponse::Ok().json(FilePage { files: files.collect(), next_cursor }))
}

pub(crate) fn folder(text: &str) -> Result<FolderRef> {
    match text {
        "root" => Ok(FolderRef::Root),
        id => id
            .parse::<FolderId>()
            .map(FolderRef::Id)
            .map_err(|_| ApiError::field("folder_id", "must be the id of a folder, or root")),
    }
}

/// A filter string; an empty one has no effect.
fn text(field: &str, value: Option<String>) -> Result<Option<String>> {
    match value {
        Some(text) if text.len() > MAX_TEXT_LENGTH => {
            Err(ApiError::field(field, format!("must have at most {MAX_TEXT_LENGTH} bytes")))
        }
        value => Ok(value.filter(|text| !text.is_empty())),
    }
}

/// The order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    sort: SortBy,
    direction: Direction,
}

impl Order {
    fn read(query: &ListFiles) -> Result<Self> {
        let words = [("name", SortBy::Name), ("size", SortBy::Size), ("uploaded_at", SortBy::UploadedAt)];
        let sort = choice("sort", query.sort.as_deref(), &words)?.unwrap_or(SortBy::UploadedAt);
        let words = [("asc", Direction::Asc), ("desc", Direction::Desc)];
        let usual = if sort == SortBy::UploadedAt { Direction::Desc } else { Direction::Asc };
        let direction = choice("order", query.order.as_deref(), &words)?.unwrap_or(usual);
        Ok(Self { sort, direction })
    }

    fn with(self, after: Option<&Position>) -> Result<ListOrder> {
        Ok(match (self.sort, after.map(|position| &position.key)) {
            (SortBy::Name, None) => ListOrder::Name(None),
            (SortBy::Size, None) => ListOrder::Size(None),
            (SortBy::UploadedAt, None) => ListOrder::UploadedAt(None),
            (SortBy::Name, Some(Key::Name(name))) => ListOrder::Name(Some(name.clone())),
            (SortBy::Size, Some(Key::Size(size))) => ListOrder::Size(Some(*size)),
            (SortBy::UploadedAt, Some(Key::UploadedAt(micros))) => {
                ListOrder::UploadedAt(Some(time(*micros).ok_or_else(cursor::refused)?))
            }
            _ => return Err(cursor::refused()),
        })
    }
}

/// A time that every component of the service can represent.
fn time(micros: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros).and_then(cursor::storable)
}

/// The position after a page: the order of the list, and the sort key of the last file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    order: Direction,
    key: Key,
    id: FileId,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Key {
    Name(String),
    Size(i64),
    /// Microseconds since 1970, the precision of Postgres.
    UploadedAt(i64),
}

impl Position {
    fn of(file: &FileView, order: Order) -> Self {
        let key = match order.sort {
            SortBy::Name => Key::Name(file.row.filename.clone()),
            SortBy::Size => Key::Size(file.row.file_size),
            SortBy::UploadedAt => Key::UploadedAt(file.row.uploaded_at.timestamp_micros()),
        };
        Self { order: order.direction, key, id: file.row.id }
    }

    fn read(text: &str, order: Order) -> Result<Self> {
        let position: Self = cursor::read(text)?;
        let fits = match &position.key {
            Key::Name(name) => {
                order.sort == SortBy::Name && name.len() <= MAX_TEXT_LENGTH && !name.contains('\0')
            }
            Key::Size(size) => order.sort == SortBy::Size && *size >= 0,
            Key::UploadedAt(micros) => order.sort == SortBy::UploadedAt && time(*micros).is_some(),
        };
        if fits && position.order == order.direction { Ok(position) } else { Err(cursor::refused()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(sort: SortBy, direction: Direction) -> Order {
        Order { sort, direction }
    }

    fn cursor(order: Direction, key: Key) -> String {
        cursor::write(&Position { order, key, id: FileId::new() }).unwrap()
    }

    #[test]
    fn cursors_are_only_valid_for_their_sort_order() {
        let text = cursor(Direction::Asc, Key::Name("Ü".to_owned()));
        let by_name = order(SortBy::Name, Direction::Asc);
        let position = Position::read(&text, by_name).unwrap();
        assert_eq!(by_name.with(Some(&position)).unwrap(), ListOrder::Name(Some("Ü".to_owned())));
        assert!(Position::read(&text, order(SortBy::Name, Direction::Desc)).is_err());
        assert!(Position::read(&text, order(SortBy::Size, Direction::Asc)).is_err());
        assert!(Position::read(&text, order(SortBy::UploadedAt, Direction::Asc)).is_err());
    }

    #[test]
    fn cursors_with_values_invalid_in_the_database_are_rejected() {
        for (sort, key) in [
            (SortBy::Name, Key::Name("a\0b".to_owned())),
            (SortBy::Name, Key::Name("x".repeat(256))),
            (SortBy::Size, Key::Size(-1)),
            (SortBy::UploadedAt, Key::UploadedAt(i64::MIN)),
            (SortBy::UploadedAt, Key::UploadedAt(i64::MAX)),
        ] {
            let text = cursor(Direction::Asc, key);
            assert!(Position::read(&text, order(sort, Direction::Asc)).is_err(), "{sort:?}");
        }
    }

    #[test]
    fn the_default_order_is_newest_first() {
        let read = |sort: Option<&str>, direction: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            Order::read(&ListFiles { sort: owned(sort), order: owned(direction), ..ListFiles::default() })
        };
        assert_eq!(read(None, None).unwrap(), order(SortBy::UploadedAt, Direction::Desc));
        assert_eq!(read(Some("name"), None).unwrap(), order(SortBy::Name, Direction::Asc));
        assert_eq!(read(Some("size"), Some("desc")).unwrap(), order(SortBy::Size, Direction::Desc));
        assert!(read(Some("id"), None).is_err() && read(None, Some("up")).is_err());
    }
}
