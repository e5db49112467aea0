//! Creates an account on sign-up, if enabled.

use actix_web::{HttpResponse, web};
use nightferry_api_types::account::{SignedUp, Signup, UserSummary};
use nightferry_core::auth::account::{self, NewAccount};
use nightferry_core::db::enums::UserRole;
use nightferry_core::error::Error;

use crate::error_response::Result;
use crate::extract::{ClientOrigin, Json, PublicCaller};
use crate::state::Api;

/// Creates an account.
#[utoipa::path(post, path = "/api/auth/signup", operation_id = "signup", tag = "accounts", request_body = Signup,
    responses(
        (status = 201, description = "The account was created", body = SignedUp),
        (status = 403, description = "`FORBIDDEN`: sign-up is disabled"),
        (status = 409, description = "`EMAIL_TAKEN`"),
    ))]
pub(crate) async fn signup(
    _: PublicCaller,
    api: web::Data<Api>,
    origin: ClientOrigin,
    Json(body): Json<Signup>,
) -> Result<HttpResponse> {
    if !api.context.config.auth.signup {
        return Err(Error::Forbidden("Sign-up is disabled. Ask an administrator for an account.").into());
    }
    let new =
        NewAccount { email: body.email, password: body.password, name: body.name, role: UserRole::User };
    let user = account::create(&api.accounts, new, None, &origin.0).await?;
    let answer = SignedUp {
        message: "The account was created. You can now sign in.",
        user_id: user.id.0,
        user: UserSummary::from(&user),
    };
    Ok(HttpResponse::Created().json(answer))
}
