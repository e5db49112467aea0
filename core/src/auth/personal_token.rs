//! Personal access tokens: for programs that act for an account, limited to their scopes.
//!
//! A token is `nf_pat_`, 43 random letters and digits (256 bits), and six more with their CRC-32: secret scanners find
//! it with `nf_pat_[0-9A-Za-z]{49}` and can distinguish it from a placeholder offline.

use chrono::{DateTime, Duration, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use secrecy::{ExposeSecret as _, SecretString};

use super::permission::{Caller, Proof, Scope};
use super::random;
use super::token::hash;
use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::enums::UserRole;
use crate::db::personal_tokens::{self, NewPersonalToken, PersonalToken};
use crate::db::sessions;
use crate::db::users::{self, User};
use crate::error::{Error, FieldError, Noun, Result};
use crate::ids::{PersonalTokenId, SessionId, UserId};

/// The prefix of every token.
pub const PREFIX: &str = "nf_pat_";

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM: usize = 43;
const CHECKSUM: usize = 6;
/// Minimum interval between updates of the last use.
const USE_RECORD_INTERVAL: Duration = Duration::minutes(10);
/// Maximum lifetime.
const MAX_LIFETIME: Duration = Duration::days(3660);
/// Minimum lifetime.
const MIN_LIFETIME: Duration = Duration::minutes(1);

/// The parameters of a new token.
#[derive(Debug)]
pub struct Wanted {
    /// Name in messages.
    pub name: String,
    /// Role.
    pub scopes: Vec<Scope>,
    /// Lifetime; `None`: until it is revoked.
    pub expires_in: Option<Duration>,
}

/// Creates a token for an account: for its owner in a session, or without one for the operator. The secret is returned
/// only here.
///
/// # Errors
/// [`Error::Validation`]; [`Error::Forbidden`] for the scope `admin` without the role; [`Error::TokenRevoked`] if the
/// session has ended; [`Error::Conflict`] if the account has reached the maximum number of tokens.
pub async fn create(
    context: &Context,
    user: UserId,
    wanted: Wanted,
    session: Option<SessionId>,
    origin: &Origin,
) -> Result<(SecretString, PersonalToken)> {
    let (name, scopes) = check(&wanted)?;
    let secret = generate()?;
    let token_hash = hash(secret.expose_secret());
    let most = i64::from(context.config.auth.personal_tokens_per_user);
    let mut conn = context.db.conn().await?;
    let now = context.clock.now();
    let expires_at = wanted.expires_in.map(|life| now + life);
    let row = conn
        .transaction(async move |conn| {
            // Locked, so that of two concurrent requests the second one counts the token of the first.
            let owner = users::lock(conn, user).await?.ok_or(Error::NotFound(Noun::User))?;
            if let Some(session) = session {
                require_live(conn, &owner, session, now).await?;
            }
            if scopes.contains(&Scope::Admin) && owner.role != UserRole::Admin {
                return Err(Error::Forbidden("Only administrators may create tokens with the scope admin."));
            }
            if personal_tokens::count(conn, user).await? >= most {
                return Err(Error::Conflict(format!(
                    "The account has {most} personal access tokens, which is the maximum. Revoke one \
                        first."
                )));
            }
            let names: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
            let new = NewPersonalToken {
                id: PersonalTokenId::new(),
                user_id: user,
                name: &name,
                token_hash: &token_hash,
                scopes: &names.join(" "),
                created_at: now,
                expires_at,
            };
            let row = personal_tokens::insert(conn, &new).await?;
            let actor = session.map(|_| user);
            record(conn, actor, "token.create", &row, origin).await?;
            Ok(row)
        })
        .await?;
    Ok((secret, row))
}

/// Locks the owner's session until the end of the transaction, and rejects a session that has ended: after all sessions
/// are ended and all tokens revoked, no token of an earlier request may appear.
async fn require_live(
    conn: &mut AsyncPgConnection,
    owner: &User,
    session: SessionId,
    now: DateTime<Utc>,
) -> Result<()> {
    let live = sessions::lock(conn, session).await?.is_some_and(|session| {
        session.user_id == owner.id && session.revoked_at.is_none() && session.expires_at > now
    });
    if live && owner.disabled_at.is_none() { Ok(()) } else { Err(Error::TokenRevoked) }
}

/// The tokens of an account that have not been revoked, newest first.
pub async fn list(context: &Context, user: UserId) -> Result<Vec<PersonalToken>> {
    personal_tokens::of_user(&mut *context.db.conn().await?, user).await
}

/// Revokes a token of `user`, or of any account if none is given.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn revoke(
    context: &Context,
    id: PersonalTokenId,
    user: Option<UserId>,
    actor: Option<UserId>,
    origin: &Origin,
) -> Result<PersonalToken> {
    let mut conn = context.db.conn().await?;
    let now = context.clock.now();
    conn.transaction(async move |conn| {
        let row = personal_tokens::revoke(conn, id, user, now).await?.ok_or(Error::NotFound(Noun::Token))?;
        record(conn, actor, "token.revoke", &row, origin).await?;
        Ok(row)
    })
    .await
}

async fn record(
    conn: &mut AsyncPgConnection,
    actor: Option<UserId>,
    action: &'static str,
    row: &PersonalToken,
    origin: &Origin,
) -> Result<()> {
    let detail = serde_json::json!({ "user_id": row.user_id, "name": row.name, "scopes": row.scopes });
    audit::record(conn, origin, actor, action, ("token", row.id), detail).await
}

/// Whether a text has the prefix of such a token.
pub fn is_personal(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Validates a token. Its last use is recorded at intervals, not on each request.
pub(super) async fn authenticate(context: &Context, token: &str) -> Result<Caller> {
    if !is_well_formed(token) {
        return Err(Error::Unauthenticated);
    }
    let mut conn = context.db.conn().await?;
    let now = context.clock.now();
    let (row, user) =
        personal_tokens::by_hash(&mut conn, &hash(token)).await?.ok_or(Error::Unauthenticated)?;
    if row.revoked_at.is_some() || user.disabled_at.is_some() {
        return Err(Error::TokenRevoked);
    }
    if row.expires_at.is_some_and(|end| end <= now) {
        return Err(Error::TokenExpired);
    }
    let stale = now - USE_RECORD_INTERVAL;
    if row.last_used_at.is_none_or(|noted| noted <= stale) {
        personal_tokens::touch(&mut conn, row.id, now, stale).await?;
    }
    let proof = Proof::PersonalToken { id: row.id, scopes: scopes_of(&row) };
    Ok(Caller { user, proof })
}

/// The scopes of a token. Unknown names are ignored.
pub fn scopes_of(row: &PersonalToken) -> Vec<Scope> {
    row.scopes.split(' ').filter_map(|name| name.parse().ok()).collect()
}

fn check(wanted: &Wanted) -> Result<(String, Vec<Scope>)> {
    let mut wrong = Vec::new();
    let name = wanted.name.trim().to_owned();
    if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        wrong
            .push(FieldError::new("name", "must have 1 to 100 characters, none of them a control character"));
    }
    let mut scopes = wanted.scopes.clone();
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        wrong.push(FieldError::new("scopes", "must name at least one scope"));
    }
    if wanted.expires_in.is_some_and(|life| !(MIN_LIFETIME..=MAX_LIFETIME).contains(&life)) {
        let (least, most) = (MIN_LIFETIME.num_seconds(), MAX_LIFETIME.num_seconds());
        wrong.push(FieldError::new("expires_in", format!("must be {least} to {most} seconds")));
    }
    if wrong.is_empty() { Ok((name, scopes)) } else { Err(Error::Validation(wrong)) }
}

fn generate() -> Result<SecretString> {
    let mut random = String::with_capacity(RANDOM);
    while random.len() < RANDOM {
        let mut bytes = [0_u8; 64];
        random::fill(&mut bytes)?;
        // Six bits of each byte; two values are not used, so that all characters are equally likely.
        let digits = bytes.iter().filter_map(|byte| DIGITS.get(usize::from(byte >> 2)));
        random.extend(digits.take(RANDOM - random.len()).map(|digit| char::from(*digit)));
    }
    let checksum = checksum(&random);
    Ok(SecretString::from(format!("{PREFIX}{random}{checksum}")))
}

fn is_well_formed(token: &str) -> bool {
    let Some(rest) = token.strip_prefix(PREFIX) else { return false };
    match rest.split_at_checked(RANDOM) {
        Some((random, said)) if rest.is_ascii() => checksum(random) == said,
        _ => false,
    }
}

/// CRC-32 (ISO-HDLC) in base 62, most significant digit first.
fn checksum(random: &str) -> String {
    let mut rest = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, random.as_bytes());
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        let value = usize::try_from(rest % 62).unwrap_or_default();
        *digit = DIGITS.get(value).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

/// The state of a token at `now`, for display: whether it is valid.
pub fn is_live(row: &PersonalToken, now: DateTime<Utc>) -> bool {
    row.revoked_at.is_none() && row.expires_at.is_none_or(|end| end > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_recognised_and_mistyped_ones_are_not() {
        let token = generate().unwrap();
        let token = token.expose_secret();
        assert_eq!(token.len(), PREFIX.len() + RANDOM + CHECKSUM);
        assert!(token.bytes().skip(PREFIX.len()).all(|byte| byte.is_ascii_alphanumeric()));
        assert!(is_well_formed(token));
        assert_ne!(token, generate().unwrap().expose_secret());
        let last = token.chars().last().unwrap();
        let other = if last == 'a' { 'b' } else { 'a' };
        let mistyped = format!("{}{other}", token.get(..token.len() - 1).unwrap());
        for wrong in [mistyped.as_str(), &token[..token.len() - 1], &format!("{token}0"), PREFIX, "", "ü"] {
            assert!(!is_well_formed(wrong), "{wrong}");
        }
        assert!(!is_well_formed(&format!("{PREFIX}{}", "ü".repeat(25))));
    }

    #[test]
    fn the_checksum_is_stable() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(checksum("123456789").len(), CHECKSUM);
        let value = checksum("123456789")
            .bytes()
            .fold(0, |sum, digit| sum * 62 + DIGITS.iter().position(|d| *d == digit).unwrap());
        assert_eq!(value, 0xCBF4_3926);
    }
}
