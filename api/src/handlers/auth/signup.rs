//! Makes an account for whoever asks, where that is allowed.

use actix_web::{HttpResponse, web};
use nightferry_core::auth::account::{self, NewAccount};
use nightferry_core::db::enums::UserRole;
use nightferry_core::error::Error;

use crate::error_response::Result;
use crate::extract::{Anyone, ClientOrigin, Json};
use crate::state::Api;
use crate::wire::account::{SignedUp, Signup, UserSummary};

/// Makes an account.
#[utoipa::path(post, path = "/api/auth/signup", operation_id = "signup", tag = "accounts", request_body = Signup,
    responses(
        (status = 201, description = "The account was made", body = SignedUp),
        (status = 403, description = "`FORBIDDEN`: accounts are made by an administrator here"),
        (status = 409, description = "`EMAIL_TAKEN`"),
    ))]
pub(crate) async fn signup(
    _: Anyone,
    api: web::Data<Api>,
    origin: ClientOrigin,
    Json(body): Json<Signup>,
) -> Result<HttpResponse> {
    if !api.context.config.auth.signup {
        return Err(Error::Forbidden(
            "Signing up is switched off here. Ask an administrator for an account.",
        )
        .into());
    }
    let new =
        NewAccount { email: body.email, password: body.password, name: body.name, role: UserRole::User };
    let user = account::create(&api.accounts, new, None, &origin.0).await?;
    let answer = SignedUp {
        message: "The account was made. Sign in with it.",
        user_id: user.id.0,
        user: UserSummary::from(&user),
    };
    Ok(HttpResponse::Created().json(answer))
}
