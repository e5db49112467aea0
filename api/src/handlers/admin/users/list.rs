//! Lists accounts.

use actix_web::{HttpResponse, web};
use nightferry_api_types::account::{Account, AccountPage, AccountQuery};
use nightferry_core::auth::administration;
use nightferry_core::db::enums::UserRole;
use nightferry_core::db::users::UserFilter;

use crate::cursor;
use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, Query, choice};
use crate::state::Api;

/// Lists accounts in the order of their creation.
#[utoipa::path(get, path = "/api/admin/users", operation_id = "list_users", tag = "administration", params(AccountQuery),
    responses((status = 200, description = "A page", body = AccountPage)))]
pub(crate) async fn list(
    _: Caller<Admin>,
    api: web::Data<Api>,
    Query(query): Query<AccountQuery>,
) -> Result<HttpResponse> {
    let (limit, after) = cursor::page("user", query.limit.as_deref(), query.cursor.as_deref())?;
    let roles = [("user", UserRole::User), ("admin", UserRole::Admin)];
    let filter = UserFilter {
        role: choice("role", query.role.as_deref(), &roles)?,
        disabled: choice("disabled", query.disabled.as_deref(), &[("true", true), ("false", false)])?,
        text: query.q,
        after,
    };
    let (users, more) = administration::list(&api.context, &filter, limit).await?;
    let next_cursor = cursor::next(&users, more, |last| cursor::at("user", last.id))?;
    Ok(HttpResponse::Ok().json(AccountPage { users: users.iter().map(Account::from).collect(), next_cursor }))
}
