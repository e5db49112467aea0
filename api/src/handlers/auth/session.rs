//! Sessions: sign in, refresh, sign out, list.

use actix_web::HttpResponse;
use nightferry_api_types::PageQuery;
use nightferry_api_types::account::{Login, Refresh, SessionPage, SessionView, Tokens};
use nightferry_core::auth::{session, session_list};
use nightferry_core::ids::SessionId;
use secrecy::SecretString;

use crate::error_response::{ApiError, Result};
use crate::extract::access::Session;
use crate::extract::{Call, Id, Json, OptionalJson, PublicCall, Query};
use crate::{cookies, cross_site, cursor};

/// Signs in.
///
/// Wrong credentials, an unknown account and a disabled one are deliberately indistinguishable.
#[utoipa::path(post, path = "/api/auth/login", operation_id = "login", tag = "accounts", request_body = Login,
    responses(
        (status = 200, description = "Signed in", body = Tokens,
            headers(("Set-Cookie" = String, description = "The tokens, if `cookie` was requested"))),
        (status = 401, description = "`INVALID_CREDENTIALS`"),
        (status = 403, description = "`CSRF_REJECTED`: requests cookies from another site"),
    ))]
pub(crate) async fn login(call: PublicCall, Json(body): Json<Login>) -> Result<HttpResponse> {
    if body.cookie {
        cross_site::refuse_foreign(&call.request, &call)?;
    }
    let session = session::login(&call.accounts, &body.email, body.password, &call.origin()).await?;
    if !body.cookie {
        return Ok(HttpResponse::Ok().json(Tokens::from(&session)));
    }
    let mut response = HttpResponse::Ok().json(Tokens::in_cookies(&session));
    cookies::set(&mut response, &call.context.config.auth, &session)?;
    Ok(response)
}

/// Exchanges a refresh token for new tokens. The old one becomes invalid.
#[utoipa::path(post, path = "/api/auth/refresh", operation_id = "refresh", tag = "accounts", request_body = Option<Refresh>,
    responses(
        (status = 200, description = "New tokens of the same session", body = Tokens),
        (status = 401, description = "`UNAUTHENTICATED`: unknown token; `TOKEN_EXPIRED`; `TOKEN_REVOKED`; \
            `REFRESH_REUSED`: used before, so the whole session was ended"),
        (status = 403, description = "`CSRF_REJECTED`: with the cookie, but from another site"),
    ))]
pub(crate) async fn refresh(
    call: PublicCall,
    OptionalJson(body): OptionalJson<Refresh>,
) -> Result<HttpResponse> {
    if let Some(token) = body.refresh_token {
        let session = session::refresh(&call.accounts, &token, &call.origin()).await?;
        return Ok(HttpResponse::Ok().json(Tokens::from(&session)));
    }
    let auth = &call.context.config.auth;
    let Some(token) = cookies::read(&call.request, auth, cookies::Name::Refresh) else {
        return Err(ApiError::field("refresh_token", "must be given, in the body or as a cookie"));
    };
    cross_site::check(&call.request, &call)?;
    let session = session::refresh(&call.accounts, &SecretString::from(token), &call.origin()).await?;
    // A rejection does not change the cookies: if two tabs race, the cookies of the winner are the new ones.
    let mut response = HttpResponse::Ok().json(Tokens::in_cookies(&session));
    cookies::set(&mut response, auth, &session)?;
    Ok(response)
}

/// Ends the caller's session: its access token and its refresh tokens are rejected from now on.
#[utoipa::path(post, path = "/api/auth/logout", operation_id = "logout", tag = "accounts",
    responses((status = 204, description = "Signed out")))]
pub(crate) async fn logout(call: Call<Session>) -> Result<HttpResponse> {
    session::logout(&call.context, call.session()?, &call.origin()).await?;
    let mut response = HttpResponse::NoContent().finish();
    cookies::clear(&call.request, &mut response, &call.context.config.auth)?;
    Ok(response)
}

/// Ends all sessions of the caller, including this one. Their tokens are rejected from now on; personal access tokens
/// remain valid.
#[utoipa::path(post, path = "/api/auth/logout-all", operation_id = "logout_all", tag = "accounts",
    responses((status = 204, description = "Signed out everywhere")))]
pub(crate) async fn logout_all(call: Call<Session>) -> Result<HttpResponse> {
    let user = call.user().id;
    session_list::end_all(&call.context, user, false, Some(user), &call.origin()).await?;
    let mut response = HttpResponse::NoContent().finish();
    cookies::clear(&call.request, &mut response, &call.context.config.auth)?;
    Ok(response)
}

/// Lists the caller's active sessions, newest first.
#[utoipa::path(get, path = "/api/auth/sessions", operation_id = "list_sessions", tag = "accounts", params(PageQuery),
    responses((status = 200, description = "A page", body = SessionPage)))]
pub(crate) async fn list(call: Call<Session>, Query(query): Query<PageQuery>) -> Result<HttpResponse> {
    let current = call.session()?.sid;
    let (limit, before) = cursor::page("session", query.limit.as_deref(), query.cursor.as_deref())?;
    let (rows, more) = session_list::page(&call.context, call.user().id, before, limit).await?;
    let next_cursor = cursor::next(&rows, more, |last| cursor::at("session", last.id))?;
    let sessions = rows.iter().map(|row| SessionView::new(row, Some(current))).collect();
    Ok(HttpResponse::Ok().json(SessionPage { sessions, next_cursor }))
}

/// Ends one of the caller's sessions: its tokens are rejected from now on.
#[utoipa::path(delete, path = "/api/auth/sessions/{id}", operation_id = "end_session", tag = "accounts",
    params(("id" = uuid::Uuid, Path, description = "The session")),
    responses((status = 204, description = "It has ended")))]
pub(crate) async fn end(call: Call<Session>, Id(id): Id<SessionId>) -> Result<HttpResponse> {
    let user = call.user().id;
    session_list::end(&call.context, id, user, Some(user), &call.origin()).await?;
    Ok(HttpResponse::NoContent().finish())
}
