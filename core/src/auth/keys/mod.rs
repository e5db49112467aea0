//! The keys that sign access tokens: rows in the database, encrypted under a key derived from `auth.secret_key`, and
//! shared by all API instances. The latest key whose signing time has been reached signs; each key verifies until the
//! last token that it signed has expired.

mod key;
mod set;

use chrono::{DateTime, Duration, Utc};
use diesel_async::{AsyncConnection as _, AsyncPgConnection};

pub use self::key::SigningKey;
pub use self::set::{KeySet, SigningKeys};

use super::Accounts;
use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::signing_keys::{self, SigningKeyRow};
use crate::error::Result;

/// How much longer an old key verifies after its last token expires, because clocks differ.
const SKEW: Duration = Duration::minutes(1);

/// When a new key starts to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// After `auth.signing_key_lead`, once all verifiers have the key. Clients are not affected.
    Published,
    /// Immediately; everything signed by earlier keys is rejected from now on. For compromised keys.
    Immediate,
}

/// Creates a new key of the configured algorithm that replaces the others.
pub async fn rotate(accounts: &Accounts, takeover: Takeover, origin: &Origin) -> Result<SigningKeyRow> {
    let context = &accounts.context;
    let auth = &context.config.auth;
    context.compare_clocks().await?;
    let now = context.clock.now();
    let signs_from = match takeover {
        Takeover::Published => now + lead(context),
        Takeover::Immediate => now,
    };
    let row = SigningKey::generate(auth.algorithm, now, signs_from, accounts.tokens.keys().cipher()).await?;
    let old_until = match takeover {
        Takeover::Published => signs_from + accounts.tokens.lifetime() + SKEW,
        Takeover::Immediate => now,
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

/// Inserts a key that replaces the others, within a transaction that holds the lock.
async fn insert(
    conn: &mut AsyncPgConnection,
    row: &SigningKeyRow,
    old_until: DateTime<Utc>,
    takeover: Takeover,
    origin: &Origin,
) -> Result<()> {
    signing_keys::insert(conn, row).await?;
    signing_keys::retire(conn, &row.id, old_until).await?;
    let detail = serde_json::json!({
        "algorithm": row.algorithm,
        "signs_from": row.signs_from,
        "immediately": takeover == Takeover::Immediate,
    });
    audit::record(conn, origin, None, "keys.rotate", ("signing_key", &row.id), detail).await
}

/// Prepares a process that signs: creates the first key, and if another algorithm has been configured, a key for it.
pub async fn prepare(accounts: &Accounts) -> Result<()> {
    let context = &accounts.context;
    context.compare_clocks().await?;
    let now = context.clock.now();
    let keys = accounts.tokens.keys().current(&context.db, now).await?;
    let wanted = context.config.auth.algorithm;
    if keys.live(now).any(|key| key.algorithm == wanted && key.row.verifies_until.is_none()) {
        return Ok(());
    }
    let signs_from = now + lead(context);
    let old_until = signs_from + accounts.tokens.lifetime() + SKEW;
    let row = SigningKey::generate(wanted, now, signs_from, accounts.tokens.keys().cipher()).await?;
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| -> Result<()> {
        signing_keys::lock(conn).await?;
        let others = signing_keys::live(conn, now).await?;
        // Another instance may have created it while this one was waiting.
        if others.iter().any(|key| key.algorithm == row.algorithm && key.verifies_until.is_none()) {
            return Ok(());
        }
        insert(conn, &row, old_until, Takeover::Published, &Origin::default()).await?;
        tracing::info!(key = %row.id, algorithm = %row.algorithm, %signs_from, "created a key of the new \
            algorithm");
        Ok(())
    })
    .await?;
    accounts.tokens.keys().forget();
    Ok(())
}

/// The keys that sign or verify.
pub async fn list(context: &Context) -> Result<Vec<SigningKeyRow>> {
    signing_keys::live(&mut *context.db.conn().await?, context.clock.now()).await
}

/// Whether this process can decrypt a key: not if it was encrypted with another `auth.secret_key`.
pub fn opens(accounts: &Accounts, row: &SigningKeyRow) -> bool {
    SigningKey::open(row.clone(), accounts.tokens.keys().cipher()).is_some()
}

/// The state of a key at `now`, among `rows`, which are in signing order.
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

/// The public keys as a JWK set (RFC 7517 section 5). Empty for a symmetric algorithm.
pub async fn public(accounts: &Accounts) -> Result<jsonwebtoken::jwk::JwkSet> {
    let context = &accounts.context;
    let now = context.clock.now();
    let keys = accounts.tokens.keys().current(&context.db, now).await?;
    Ok(jsonwebtoken::jwk::JwkSet { keys: keys.live(now).filter_map(|key| key.public().cloned()).collect() })
}

fn lead(context: &Context) -> Duration {
    Duration::from_std(context.config.auth.signing_key_lead).unwrap_or(Duration::minutes(15))
}
