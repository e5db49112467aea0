//! Password hashing with bcrypt, off the async threads and bounded in number, because each takes a third of a
//! second of CPU. Never cuts a password short.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::turns::Turns;
use crate::error::{Error, FieldError, Result};

/// Shortest password taken, in bytes of UTF-8.
pub const SHORTEST: usize = 8;
/// Longest password taken, in bytes of UTF-8: bcrypt reads 72 bytes, the last of which is its terminator.
pub const LONGEST: usize = 71;

/// Checks a new password against the rules. The error names `field`.
///
/// # Errors
/// What is wrong, for the one who chose it.
pub fn check_rules(password: &SecretString, field: &str) -> std::result::Result<(), FieldError> {
    let password = password.expose_secret();
    if password.len() < SHORTEST {
        return Err(FieldError::new(field, format!("must have at least {SHORTEST} bytes")));
    }
    if password.len() > LONGEST {
        return Err(FieldError::new(
            field,
            format!("must have at most {LONGEST} bytes, it is never cut short"),
        ));
    }
    if password.contains('\0') {
        return Err(FieldError::new(field, "must not contain a zero byte"));
    }
    Ok(())
}

/// How long one waits for those before. More at once than can be hashed in that time are told to come back.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How many from one network wait at once: about as many as one core hashes in that time. More are told to come back.
const LONGEST_LINE: usize = 64;
/// Salt and hash of the decoy: well formed, of no password that anybody knows.
const DECOY: &str = "jKqDBMSnxU2ZWcVyOfLGYeT5vRbPu7QdN1iXo3hA0mEsCgFtwHk9i";

/// Hashes passwords at one cost, each on a thread of its own, at most on all cores but one at a time: however many want
/// to sign in, one core is left for everybody else. Networks take turns: however many come from one, who comes from another
/// waits for those that are being hashed, and not for those that wait.
#[derive(Debug, Clone)]
pub struct PasswordHasher {
    cost: u32,
    turns: Turns,
    /// A hash of nobody's password, checked when there is no account, so that both take the same time.
    decoy: Arc<str>,
}

impl PasswordHasher {
    /// A hasher of this bcrypt cost.
    pub fn new(cost: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let turns = Turns::new(cores.saturating_sub(1).max(1), LONGEST_LINE);
        Self { cost, turns, decoy: format!("$2b${cost:02}${DECOY}").into() }
    }

    /// Hashes a password that has passed [`check_rules`], for somebody who comes from `network`.
    ///
    /// # Errors
    /// [`Error::RateLimited`] when too many wait, [`Error::Internal`] when bcrypt refuses it.
    pub async fn hash(&self, network: &str, password: SecretString) -> Result<String> {
        let cost = self.cost;
        self.off_thread(network, move || bcrypt::non_truncating_hash(password.expose_secret(), cost)).await
    }

    /// Whether the password, of somebody who comes from `network`, is the one of the hash. Without a hash, and for a password
    /// that is too long to be anybody's, takes as long and answers no.
    ///
    /// # Errors
    /// [`Error::RateLimited`] when too many wait, [`Error::Internal`] when the stored hash is not one of bcrypt's.
    pub async fn verify(&self, network: &str, password: SecretString, hash: Option<String>) -> Result<bool> {
        let decoy = self.decoy.clone();
        self.off_thread(network, move || {
            let password = password.expose_secret();
            match hash {
                _ if password.len() > LONGEST => bcrypt::non_truncating_verify("", &decoy).map(|_| false),
                Some(hash) => bcrypt::non_truncating_verify(password, &hash),
                None => bcrypt::non_truncating_verify(password, &decoy).map(|_| false),
            }
        })
        .await
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        network: &str,
        work: impl FnOnce() -> std::result::Result<T, bcrypt::BcryptError> + Send + 'static,
    ) -> Result<T> {
        let turn = tokio::time::timeout(LONGEST_WAIT, self.turns.take(network))
            .await
            .ok()
            .flatten()
            .ok_or(Error::RateLimited { retry_after: LONGEST_WAIT })?;
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        })
        .await
        .map_err(|error| Error::Internal(format!("hashing a password panicked: {error}")))?
        .map_err(|error| Error::Internal(format!("hashing a password failed: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    #[test]
    fn lengths_are_counted_in_bytes_and_nothing_is_cut() {
        assert!(check_rules(&secret("1234567"), "password").is_err());
        assert!(check_rules(&secret("12345678"), "password").is_ok());
        assert!(check_rules(&secret(&"x".repeat(71)), "password").is_ok());
        assert!(check_rules(&secret(&"x".repeat(72)), "password").is_err());
        assert!(check_rules(&secret(&"ü".repeat(36)), "password").is_err());
    }

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let hasher = PasswordHasher::new(4);
        let hash = hasher.hash("here", secret("correct horse")).await.unwrap();
        assert!(hasher.verify("here", secret("correct horse"), Some(hash.clone())).await.unwrap());
        assert!(!hasher.verify("here", secret("correct hors"), Some(hash.clone())).await.unwrap());
        assert!(!hasher.verify("here", secret("correct horse"), None).await.unwrap());
        assert!(!hasher.verify("here", secret(&"x".repeat(72)), Some(hash)).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_password_that_is_nobodys_costs_a_hash_too() {
        let hasher = PasswordHasher::new(4);
        let mut all = Vec::new();
        while let Ok(turn) = tokio::time::timeout(Duration::from_secs(1), hasher.turns.take("there")).await {
            all.push(turn.unwrap());
        }
        let hash = Some("not looked at".to_owned());
        let refused = hasher.verify("here", secret(&"x".repeat(72)), hash).await;
        assert!(matches!(refused, Err(Error::RateLimited { .. })), "it was not in line: {refused:?}");
    }
}
