//! Lists audit events.

use actix_web::HttpResponse;
use chrono::{DateTime, Utc};
use nightferry_api_types::audit::{AuditEvent, AuditPage, AuditQuery};
use nightferry_core::audit;
use nightferry_core::db::audit::{Filter, Position};
use nightferry_core::error::Error;

use crate::cursor;
use crate::error_response::{ApiError, Result};
use crate::extract::access::Admin;
use crate::extract::{Call, Query, page_size};

/// Lists audit events, newest first.
#[utoipa::path(get, path = "/api/admin/audit", operation_id = "list_audit", tag = "administration", params(AuditQuery),
    responses((status = 200, description = "A page", body = AuditPage)))]
pub(crate) async fn list(call: Call<Admin>, Query(query): Query<AuditQuery>) -> Result<HttpResponse> {
    let limit = page_size(query.limit.as_deref())?;
    let who = match &query.actor {
        None => None,
        Some(text) => match audit::who(&call.context, text).await {
            // No account has that address.
            Err(Error::NotFound(_)) => {
                return Ok(HttpResponse::Ok().json(AuditPage { events: Vec::new(), next_cursor: None }));
            }
            found => Some(found?),
        },
    };
    let filter = Filter {
        who,
        since: time("since", query.since.as_deref())?,
        until: time("until", query.until.as_deref())?,
        before: query.cursor.as_deref().map(position).transpose()?,
        action: query.action,
        target_type: query.target_type,
        target_id: query.target_id,
    };
    let (events, more) = audit::page(&call.context, &filter, limit).await?;
    let next_cursor = cursor::next(&events, more, |(last, _)| Position { at: last.at, id: last.id })?;
    let events = events.iter().map(AuditEvent::from).collect();
    Ok(HttpResponse::Ok().json(AuditPage { events, next_cursor }))
}

fn position(text: &str) -> Result<Position> {
    let position: Position = cursor::read(text)?;
    cursor::storable(position.at).map(|_| position).ok_or_else(cursor::refused)
}

fn time(field: &str, text: Option<&str>) -> Result<Option<DateTime<Utc>>> {
    let parse = |text: &str| {
        DateTime::parse_from_rfc3339(text)
            .map(|time| time.to_utc())
            .map_err(|_| ApiError::field(field, "must be a time such as 2026-01-31T12:00:00Z"))
    };
    text.map(parse).transpose()
}
