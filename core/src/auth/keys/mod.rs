//! The keys that sign access tokens: rows of the database, sealed with `auth.secret_key`, so that all API instances have the
//! same. Of those whose time has come the latest signs; each verifies until the last token that it signed has expired.

mod key;
mod set;

use chrono::{DateTime, Duration, Utc};
use diesel_async::{AsyncConnection as _, AsyncPgConnection};

pub use self::key::SigningKey;
pub use self::set::{KeySet, SigningKeys};

use super::Accounts;
use crate::config::SigningAlgorithm;
use crate::context::Context;
use crate::db::audit::{self, Event, Origin};
use crate::db::signing_keys::{self, SigningKeyRow};
use crate::error::Result;

/// How much longer than its last token an old key verifies: clocks differ.
const SKEW: Duration = Duration::minutes(1);

/// When a new key takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// After `auth.signing_key_lead`, when everybody who verifies tokens knows it. Nobody notices.
    Published,
    /// Now; what all earlier keys signed is refused from now on. For keys that are in wrong hands.
    AtOnce,
}

/// Makes a new key of the configured algorithm that takes over from the others.
///
/// # Errors
/// Whatever the database meets.
pub async fn rotate(accounts: &Accounts, takeover: Takeover, origin: &Origin) -> Result<SigningKeyRow> {
    let context = &accounts.context;
    let auth = &context.config.auth;
    let now = context.clock.now();
    let signs_from = match takeover {
        Takeover::Published => now + lead(context),
        Takeover::AtOnce => now,
    };
    let row = SigningKey::generate(auth.algorithm, now, signs_from, accounts.tokens.keys().sealer()).await?;
    let old_until = match takeover {
        Takeover::Published => signs_from + accounts.tokens.lifetime() + SKEW,
        Takeover::AtOnce => now,
    };
    let mut conn = context.db.conn().await?;
    let row = conn
        .transaction(async move |conn| -> Result<SigningKeyRow> {
            signing_keys::lock(conn).await?;
            insert(conn, &row, old_until, takeover, origin).await?;
            Ok(row)
        })
        .await?;
    accounts.tokens.keys().forget();
    Ok(row)
}

/// Inserts a key in place of the others, within a transaction that holds the lock.
async fn insert(
    conn: &mut AsyncPgConnection,
    row: &SigningKeyRow,
    old_until: DateTime<Utc>,
    takeover: Takeover,
    origin: &Origin,
) -> Result<()> {
    signing_keys::insert(conn, row).await?;
    signing_keys::retire(conn, &row.id, old_until).await?;
    let event = Event {
        actor: None,
        action: "keys.rotate",
        target_type: "signing_key",
        target_id: row.id.clone(),
        origin,
        detail: serde_json::json!({
            "algorithm": row.algorithm,
            "signs_from": row.signs_from,
            "at_once": takeover == Takeover::AtOnce,
        }),
    };
    audit::record(conn, event).await
}

/// Prepares a process that signs: its first key is there, and when another algorithm was configured, a key of that is on its
/// way.
///
/// # Errors
/// Whatever the database meets.
pub async fn prepare(accounts: &Accounts) -> Result<()> {
    let context = &accounts.context;
    let now = context.clock.now();
    let keys = accounts.tokens.keys().current(&context.db, now).await?;
    let wanted = context.config.auth.algorithm;
    if keys.live(now).any(|key| key.algorithm() == wanted && key.verifies_until().is_none()) {
        return Ok(());
    }
    let signs_from = now + lead(context);
    let old_until = signs_from + accounts.tokens.lifetime() + SKEW;
    let row = SigningKey::generate(wanted, now, signs_from, accounts.tokens.keys().sealer()).await?;
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| -> Result<()> {
        signing_keys::lock(conn).await?;
        let others = signing_keys::live(conn, now).await?;
        // Another instance that starts too may have made it while this one waited.
        if others.iter().any(|key| key.algorithm == row.algorithm && key.verifies_until.is_none()) {
            return Ok(());
        }
        insert(conn, &row, old_until, Takeover::Published, &Origin::default()).await?;
        tracing::info!(key = %row.id, algorithm = %row.algorithm, %signs_from, "a key of the new algorithm was made");
        Ok(())
    })
    .await?;
    accounts.tokens.keys().forget();
    Ok(())
}

/// The keys that are good for something.
///
/// # Errors
/// Whatever the database meets.
pub async fn list(context: &Context) -> Result<Vec<SigningKeyRow>> {
    let mut conn = context.db.conn().await?;
    signing_keys::live(&mut conn, context.clock.now()).await
}

/// Whether this process can open a key: not when it was made with another `auth.secret_key`.
pub fn opens(accounts: &Accounts, row: &SigningKeyRow) -> bool {
    SigningKey::open(row.clone(), accounts.tokens.keys().sealer()).is_some()
}

/// What a key does at `now`, of those in `rows`, which are in the order in which they sign.
pub fn state(rows: &[SigningKeyRow], row: &SigningKeyRow, now: DateTime<Utc>) -> &'static str {
    let signer = rows.iter().rev().find(|row| row.signs_from <= now);
    if signer.is_some_and(|signer| signer.id == row.id) {
        "signs"
    } else if row.signs_from > now {
        "published"
    } else {
        "verifies"
    }
}

/// The public halves of all keys, as a JWK set (RFC 7517 section 5). Empty for an algorithm that has none.
///
/// # Errors
/// Whatever the database meets.
pub async fn public(accounts: &Accounts) -> Result<jsonwebtoken::jwk::JwkSet> {
    let context = &accounts.context;
    let now = context.clock.now();
    let keys = accounts.tokens.keys().current(&context.db, now).await?;
    Ok(jsonwebtoken::jwk::JwkSet { keys: keys.live(now).filter_map(|key| key.public().cloned()).collect() })
}

fn lead(context: &Context) -> Duration {
    Duration::from_std(context.config.auth.signing_key_lead).unwrap_or(Duration::minutes(15))
}

impl SigningAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Hs256, Self::Rs256, Self::EdDsa];

    /// Its name (RFC 7518 section 3.1, RFC 8037 section 3.1).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}
