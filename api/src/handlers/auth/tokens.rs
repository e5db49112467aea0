//! The caller's personal access tokens. Requires a session: a token that could create tokens could not be revoked
//! effectively. Also the public keys that verify access tokens.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use nightferry_api_types::token::{MadeToken, MakeToken, TokenList, TokenView};
use nightferry_core::auth::{keys, personal_token};
use nightferry_core::ids::PersonalTokenId;

use crate::error_response::Result;
use crate::extract::access::Session;
use crate::extract::{Call, Id, Json, PublicCall};

/// Shorter than the minimum of `auth.signing_key_lead`, so that a cached set contains each key before it signs.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// The public keys that verify access tokens, as a JWK set (RFC 7517). Empty while the algorithm is HS256.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "get_jwks", tag = "accounts",
    responses((status = 200, description = "The keys", content_type = "application/json", body = serde_json::Value)))]
pub(crate) async fn jwks(call: PublicCall) -> Result<HttpResponse> {
    let keys = keys::public(&call.accounts).await?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, CACHE)).json(keys))
}

/// Lists the caller's personal access tokens, newest first, including expired ones.
#[utoipa::path(get, path = "/api/auth/tokens", operation_id = "list_tokens", tag = "accounts",
    responses((status = 200, description = "All of them", body = TokenList)))]
pub(crate) async fn list(call: Call<Session>) -> Result<HttpResponse> {
    let rows = personal_token::list(&call.context, call.user().id).await?;
    let now = call.context.clock.now();
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
pub(crate) async fn create(call: Call<Session>, Json(body): Json<MakeToken>) -> Result<HttpResponse> {
    let user = call.user().id;
    let session = call.session()?.sid;
    let wanted = body.wanted()?;
    let (secret, row) =
        personal_token::create(&call.context, user, wanted, Some(session), &call.origin()).await?;
    let view = TokenView::new(&row, call.context.clock.now());
    Ok(HttpResponse::Created().json(MadeToken::new(&secret, view)))
}

/// Revokes one of the caller's personal access tokens.
#[utoipa::path(delete, path = "/api/auth/tokens/{id}", operation_id = "revoke_token", tag = "accounts",
    params(("id" = uuid::Uuid, Path, description = "The token")),
    responses((status = 204, description = "It was revoked")))]
pub(crate) async fn revoke(call: Call<Session>, Id(id): Id<PersonalTokenId>) -> Result<HttpResponse> {
    let user = call.user().id;
    personal_token::revoke(&call.context, id, Some(user), Some(user), &call.origin()).await?;
    Ok(HttpResponse::NoContent().finish())
}
