//! The administrator's account of `nightferry up`: created once, and never changed afterwards.

use nightferry_core::auth::Accounts;
use nightferry_core::auth::account::{self, NewAccount};
use nightferry_core::db::enums::UserRole;
use nightferry_core::db::users::User;
use nightferry_core::error::Error;
use secrecy::SecretString;

use super::UpArgs;
use crate::commands::{App, origin};
use crate::errors::{Failure, cannot};
use nightferry_devservers::DataDir;

/// The file in the data folder with the generated password.
pub(super) const PASSWORD_FILE: &str = "admin.password";

#[derive(Debug)]
pub(super) struct Admin {
    pub(super) email: String,
    /// The password, if it was generated here.
    pub(super) password: Option<String>,
}

/// Finds or creates the account. An existing account keeps its role and password.
pub(super) async fn ensure(
    app: &App,
    accounts: &Accounts,
    data: &DataDir,
    args: &UpArgs,
) -> Result<Admin, Failure> {
    match account::by_email(&accounts.context, &args.admin_email).await {
        Ok(user) => existing(app, accounts, data, args, user).await,
        Err(Error::NotFound(_)) => make(accounts, data, args).await,
        Err(error) => Err(cannot("look for the administrator's account")(error)),
    }
}

async fn make(accounts: &Accounts, data: &DataDir, args: &UpArgs) -> Result<Admin, Failure> {
    let made_up = match &args.admin_password {
        Some(_) => None,
        None => Some(data.secret(PASSWORD_FILE)?),
    };
    let password = made_up.as_ref().or(args.admin_password.as_ref()).cloned().unwrap_or_default();
    let new = NewAccount {
        email: args.admin_email.clone(),
        password: SecretString::from(password),
        name: None,
        role: UserRole::Admin,
    };
    let user = account::create(accounts, new, None, &origin())
        .await
        .map_err(cannot("create the administrator's account (--admin-email, --admin-password)"))?;
    Ok(Admin { email: user.email, password: made_up })
}

async fn existing(
    app: &App,
    accounts: &Accounts,
    data: &DataDir,
    args: &UpArgs,
    user: User,
) -> Result<Admin, Failure> {
    if user.role != UserRole::Admin {
        let text = format!("{} is not an administrator, which was not changed", user.email);
        app.output.warning_command(&text, &format!("user promote {}", user.email));
    }
    if let Some(given) = &args.admin_password
        && !is_password(accounts, given, &user).await?
    {
        let email = &user.email;
        app.output.warning(&format!("{email} exists with another password, which was not changed"));
    }
    if data.root().join(PASSWORD_FILE).exists() {
        let made_up = data.secret(PASSWORD_FILE)?;
        // The password may have been changed since, or belong to another account.
        if is_password(accounts, &made_up, &user).await? {
            return Ok(Admin { email: user.email, password: Some(made_up) });
        }
    }
    Ok(Admin { email: user.email, password: None })
}

async fn is_password(accounts: &Accounts, password: &str, user: &User) -> Result<bool, Failure> {
    accounts
        .passwords
        .verify("here", SecretString::from(password), Some(user.password_hash.clone()))
        .await
        .map_err(cannot("check the administrator's password"))
}
