//! Sign-in with an OpenID Connect provider: redirects the browser to the provider, and handles its return.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use nightferry_core::auth::oidc::{self, Answer, Finished};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::cookies;
use crate::error_response::Result;
use crate::extract::{PublicCall, Query};

/// The destination after signing in.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Start {
    /// A path of this service, `/` by default; or a URL on one of `auth.cookie_origins`.
    return_to: Option<String>,
}

/// The parameters with which the provider redirects back. Providers may add others.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Callback {
    /// The code to exchange for tokens.
    code: Option<String>,
    /// The state of the attempt.
    state: Option<String>,
    /// The provider (RFC 9207).
    iss: Option<String>,
    /// The error, if there is no code.
    error: Option<String>,
}

/// Redirects the browser to the provider. For navigations, not for programs.
#[utoipa::path(get, path = "/api/auth/oidc/{provider}/start", operation_id = "start_oidc", tag = "accounts",
    params(("provider" = String, Path, description = "Name of the provider in the configuration"), Start),
    responses(
        (status = 303, description = "Redirect to the provider", headers(("Location" = String, description = "The \
            URL of the provider"))),
        (status = 502, description = "`PROVIDER_ERROR`"),
    ))]
pub(crate) async fn start(
    call: PublicCall,
    provider: web::Path<String>,
    Query(query): Query<Start>,
) -> Result<HttpResponse> {
    let redirect = redirect_uri(&call, &provider);
    let started = oidc::start(&call.accounts, &provider, query.return_to.as_deref(), &redirect).await?;
    let mut response = HttpResponse::SeeOther().insert_header((LOCATION, started.address.as_str())).finish();
    cookies::set_attempt(&mut response, &call.context.config.auth, &started.attempt)?;
    Ok(response)
}

/// The redirect URI of the provider: checks the response, sets the session cookies, and redirects the browser.
#[utoipa::path(get, path = "/api/auth/oidc/{provider}/callback", operation_id = "finish_oidc", tag = "accounts",
    params(("provider" = String, Path, description = "Name of the provider in the configuration"), Callback),
    responses(
        (status = 303, description = "Signed in",
            headers(("Location" = String, description = "The destination of the sign-in"), ("Set-Cookie" = String, description = "The tokens"))),
        (status = 401, description = "`INVALID_CREDENTIALS`: not started in this browser, rejected by the \
            provider, or an invalid response"),
        (status = 502, description = "`PROVIDER_ERROR`"),
    ))]
pub(crate) async fn callback(
    call: PublicCall,
    provider: web::Path<String>,
    Query(query): Query<Callback>,
) -> Result<HttpResponse> {
    let auth = &call.context.config.auth;
    let attempt = cookies::read(&call.request, auth, cookies::Name::Attempt);
    let answer = Answer { code: query.code, state: query.state, issuer: query.iss, error: query.error };
    let redirect = redirect_uri(&call, &provider);
    let finished =
        oidc::finish(&call.accounts, &provider, attempt.as_deref(), &answer, &redirect, &call.origin()).await;
    let Finished { session, return_to } = finished?;
    let mut response = HttpResponse::SeeOther().insert_header((LOCATION, return_to)).finish();
    cookies::set(&mut response, auth, &session)?;
    cookies::set_attempt(&mut response, auth, "")?;
    Ok(response)
}

fn redirect_uri(call: &PublicCall, provider: &str) -> String {
    format!("{}/api/auth/oidc/{provider}/callback", call.base_url)
}
