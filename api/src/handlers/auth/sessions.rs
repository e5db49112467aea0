//! The caller's sessions.

use actix_web::{HttpResponse, web};
use nightferry_api_types::PageQuery;
use nightferry_api_types::account::{SessionPage, SessionView};
use nightferry_core::auth::session_list;
use nightferry_core::ids::SessionId;

use crate::cursor;
use crate::error_response::Result;
use crate::extract::access::Session;
use crate::extract::{Caller, ClientOrigin, Id, Query};
use crate::state::Api;

/// Lists the caller's active sessions, newest first.
#[utoipa::path(get, path = "/api/auth/sessions", operation_id = "list_sessions", tag = "accounts", params(PageQuery),
    responses((status = 200, description = "A page", body = SessionPage)))]
pub(crate) async fn list(
    caller: Caller<Session>,
    api: web::Data<Api>,
    Query(query): Query<PageQuery>,
) -> Result<HttpResponse> {
    let current = caller.session()?.sid;
    let (limit, before) = cursor::page("session", query.limit.as_deref(), query.cursor.as_deref())?;
    let (rows, more) = session_list::page(&api.context, caller.user.id, before, limit).await?;
    let next_cursor = cursor::next(&rows, more, |last| cursor::at("session", last.id))?;
    let sessions = rows.iter().map(|row| SessionView::new(row, Some(current))).collect();
    Ok(HttpResponse::Ok().json(SessionPage { sessions, next_cursor }))
}

/// Ends one of the caller's sessions: its tokens are rejected from now on.
#[utoipa::path(delete, path = "/api/auth/sessions/{id}", operation_id = "end_session", tag = "accounts",
    params(("id" = uuid::Uuid, Path, description = "The session")),
    responses((status = 204, description = "It has ended")))]
pub(crate) async fn end(
    caller: Caller<Session>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    Id(id): Id<SessionId>,
) -> Result<HttpResponse> {
    let user = caller.user.id;
    session_list::end(&api.context, id, user, Some(user), &origin.0).await?;
    Ok(HttpResponse::NoContent().finish())
}
