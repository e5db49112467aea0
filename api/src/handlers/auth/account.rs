//! The caller's own account: sign up, show, change.

use actix_web::HttpResponse;
use nightferry_api_types::account::{ChangeMe, ChangePassword, Me, SignedUp, Signup, UserSummary};
use nightferry_core::auth::account::{self, NewAccount};
use nightferry_core::db::enums::UserRole;
use nightferry_core::error::Error;

use crate::error_response::Result;
use crate::extract::access::{Session, SignedIn};
use crate::extract::{Call, Json, PublicCall};

/// Creates an account.
#[utoipa::path(post, path = "/api/auth/signup", operation_id = "signup", tag = "accounts", request_body = Signup,
    responses(
        (status = 201, description = "The account was created", body = SignedUp),
        (status = 403, description = "`FORBIDDEN`: sign-up is disabled"),
        (status = 409, description = "`EMAIL_TAKEN`"),
    ))]
pub(crate) async fn signup(call: PublicCall, Json(body): Json<Signup>) -> Result<HttpResponse> {
    if !call.context.config.auth.signup {
        return Err(Error::Forbidden("Sign-up is disabled. Ask an administrator for an account.").into());
    }
    let new =
        NewAccount { email: body.email, password: body.password, name: body.name, role: UserRole::User };
    let user = account::create(&call.accounts, new, None, &call.origin()).await?;
    let answer = SignedUp {
        message: "The account was created. You can now sign in.",
        user_id: user.id.0,
        user: UserSummary::from(&user),
    };
    Ok(HttpResponse::Created().json(answer))
}

/// Shows the caller's own account.
#[utoipa::path(get, path = "/api/auth/me", operation_id = "get_me", tag = "accounts",
    responses((status = 200, description = "The account", body = Me)))]
pub(crate) async fn show(call: Call<SignedIn>) -> HttpResponse {
    HttpResponse::Ok().json(Me::from(call.user()))
}

/// Changes the caller's own account.
#[utoipa::path(patch, path = "/api/auth/me", operation_id = "change_me", tag = "accounts", request_body = ChangeMe,
    responses((status = 200, description = "The new state of the account", body = Me)))]
pub(crate) async fn change(call: Call<Session>, Json(body): Json<ChangeMe>) -> Result<HttpResponse> {
    let user = match body.name {
        Some(name) => account::rename(&call.context, call.user().id, &name).await?,
        None => call.caller.user,
    };
    Ok(HttpResponse::Ok().json(Me::from(&user)))
}

/// Changes the caller's password. All other sessions of the account end.
#[utoipa::path(post, path = "/api/auth/password", operation_id = "change_password", tag = "accounts",
    request_body = ChangePassword,
    responses(
        (status = 204, description = "The password was changed"),
        (status = 401, description = "`INVALID_CREDENTIALS`: not the current password; otherwise \
            `UNAUTHENTICATED`, `TOKEN_EXPIRED`, `TOKEN_REVOKED`"),
        (status = 409, description = "`CONFLICT`: changed concurrently"),
    ))]
pub(crate) async fn change_password(
    call: Call<Session>,
    Json(body): Json<ChangePassword>,
) -> Result<HttpResponse> {
    let keep = call.session()?.sid;
    let ChangePassword { current_password, new_password } = body;
    let (user, origin) = (call.user(), call.origin());
    account::change_password(&call.accounts, user, keep, current_password, new_password, &origin).await?;
    Ok(HttpResponse::NoContent().finish())
}
