//! The caller's personal access tokens. Requires a session: a token that could create tokens could not be revoked
//! effectively.

use actix_web::{HttpResponse, web};
use nightferry_api_types::token::{MadeToken, MakeToken, TokenList, TokenView};
use nightferry_core::auth::personal_token;
use nightferry_core::ids::PersonalTokenId;

use crate::error_response::Result;
use crate::extract::access::Session;
use crate::extract::{Caller, ClientOrigin, Id, Json};
use crate::state::Api;

/// Lists the caller's personal access tokens, newest first, including expired ones.
#[utoipa::path(get, path = "/api/auth/tokens", operation_id = "list_tokens", tag = "accounts",
    responses((status = 200, description = "All of them", body = TokenList)))]
pub(crate) async fn list(caller: Caller<Session>, api: web::Data<Api>) -> Result<HttpResponse> {
    let rows = personal_token::list(&api.context, caller.user.id).await?;
    let now = api.context.clock.now();
    Ok(HttpResponse::Ok()
        .json(TokenList { tokens: rows.iter().map(|row| TokenView::new(row, now)).collect() }))
}

/// Creates a personal access token. Its secret is returned only in this response.
#[utoipa::path(post, path = "/api/auth/tokens", operation_id = "create_token", tag = "accounts", request_body = MakeToken,
    responses(
        (status = 201, description = "The token with its secret", body = MadeToken),
        (status = 403, description = "`FORBIDDEN`: not for personal access tokens; the scope `admin` \
            requires the administrator role"),
        (status = 409, description = "`CONFLICT`: the account has reached its maximum number of tokens"),
    ))]
pub(crate) async fn create(
    caller: Caller<Session>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    Json(body): Json<MakeToken>,
) -> Result<HttpResponse> {
    let user = caller.user.id;
    let session = caller.session()?.sid;
    let wanted = body.wanted()?;
    let (secret, row) = personal_token::create(&api.context, user, wanted, Some(session), &origin.0).await?;
    let view = TokenView::new(&row, api.context.clock.now());
    Ok(HttpResponse::Created().json(MadeToken::new(&secret, view)))
}

/// Revokes one of the caller's personal access tokens.
#[utoipa::path(delete, path = "/api/auth/tokens/{id}", operation_id = "revoke_token", tag = "accounts",
    params(("id" = uuid::Uuid, Path, description = "The token")),
    responses((status = 204, description = "It was revoked")))]
pub(crate) async fn revoke(
    caller: Caller<Session>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    Id(id): Id<PersonalTokenId>,
) -> Result<HttpResponse> {
    let user = caller.user.id;
    personal_token::revoke(&api.context, id, Some(user), Some(user), &origin.0).await?;
    Ok(HttpResponse::NoContent().finish())
}
