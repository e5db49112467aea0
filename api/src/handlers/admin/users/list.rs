//! Lists accounts.

use actix_web::{HttpResponse, web};
use nightferry_core::auth::administration;
use nightferry_core::db::enums::UserRole;
use nightferry_core::db::users::UserFilter;
use nightferry_core::ids::UserId;
use serde::{Deserialize, Serialize};

use crate::cursor;
use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, Query, choice, page_size};
use crate::state::Api;
use crate::wire::administration::{Account, AccountPage, AccountQuery};

/// Where a page of accounts ended.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    user: UserId,
}

/// Lists accounts in the order of their making.
#[utoipa::path(get, path = "/api/admin/users", operation_id = "list_users", tag = "administration", params(AccountQuery),
    responses((status = 200, description = "A page", body = AccountPage)))]
pub(crate) async fn list(
    _: Caller<Admin>,
    api: web::Data<Api>,
    Query(query): Query<AccountQuery>,
) -> Result<HttpResponse> {
    let limit = page_size(query.limit.as_deref())?;
    let after = query.cursor.as_deref().map(cursor::read::<Position>).transpose()?;
    let roles = [("user", UserRole::User), ("admin", UserRole::Admin)];
    let filter = UserFilter {
        role: choice("role", query.role.as_deref(), &roles)?,
        disabled: choice("disabled", query.disabled.as_deref(), &[("true", true), ("false", false)])?,
        text: query.q,
        after: after.map(|position| position.user),
    };
    let (users, more) = administration::list(&api.context, &filter, limit).await?;
    let next_cursor = cursor::next(&users, more, |last| Position { user: last.id })?;
    Ok(HttpResponse::Ok()
        .json(AccountPage { users: users.into_iter().map(Account::from).collect(), next_cursor }))
}
