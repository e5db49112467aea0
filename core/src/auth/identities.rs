//! Identities linked to an account: list and unlink.

use diesel_async::AsyncConnection as _;

use super::session_list;
use crate::config::AuthConfig;
use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::identities::{self, Identity};
use crate::error::{Error, Noun, Result};
use crate::ids::UserId;

/// The identities linked to an account, in the order of linking.
pub async fn list(context: &Context, user: UserId) -> Result<Vec<Identity>> {
    identities::of_user(&mut *context.db.conn().await?, user).await
}

/// The provider of an identity: its name in the configuration, or its issuer if it is no longer configured.
pub fn provider<'a>(auth: &'a AuthConfig, identity: &'a Identity) -> &'a str {
    let issuer = identity.issuer.trim_end_matches('/');
    let named = auth.oidc.iter().find(|(_, provider)| provider.issuer == issuer);
    named.map_or(&identity.issuer, |(name, _)| name)
}

/// The display id of an identity: its provider, a slash, and the subject.
pub fn id(auth: &AuthConfig, identity: &Identity) -> String {
    format!("{}/{}", provider(auth, identity), identity.subject)
}

/// Unlinks an identity by its [`id`], and ends all sessions of the account, because it is unknown which of them it
/// started. Returns the link and the number of ended sessions.
///
/// # Errors
/// [`Error::NotFound`] if no such identity is linked to the account.
pub async fn unlink(
    context: &Context,
    user: UserId,
    wanted: &str,
    origin: &Origin,
) -> Result<(Identity, usize)> {
    let auth = &context.config.auth;
    let mut conn = context.db.conn().await?;
    let now = context.clock.now();
    conn.transaction(async move |conn| {
        let linked = identities::of_user(conn, user).await?;
        let found = linked.into_iter().find(|identity| id(auth, identity) == wanted);
        let identity = found.ok_or(Error::NotFound(Noun::Identity))?;
        if !identities::remove(conn, user, &identity.issuer, &identity.subject).await? {
            return Err(Error::NotFound(Noun::Identity));
        }
        let ended = session_list::end_all_in(conn, user, None, now).await?;
        let detail = serde_json::json!({
            "issuer": identity.issuer,
            "subject": identity.subject,
            "sessions_ended": ended,
        });
        audit::record(conn, origin, None, "identity.unlink", ("user", user), detail).await?;
        Ok((identity, ended))
    })
    .await
}
