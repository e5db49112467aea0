//! Password hashing with bcrypt, on separate threads and with bounded concurrency, because each hash takes a third of a
//! second of CPU. Passwords are never truncated.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::fair_queue::FairQueue;
use crate::error::{Error, FieldError, Result};

/// Minimum password length, in bytes of UTF-8.
pub const MIN_LENGTH: usize = 8;
/// Maximum password length, in bytes of UTF-8: bcrypt reads 72 bytes, the last of which is the terminator.
pub const MAX_LENGTH: usize = 71;

/// Checks a new password against the rules. The error names `field`.
///
/// # Errors
/// The error message for the user.
pub fn check_rules(password: &SecretString, field: &str) -> Result<(), FieldError> {
    let password = password.expose_secret();
    let fault = if password.len() < MIN_LENGTH {
        format!("must have at least {MIN_LENGTH} bytes")
    } else if password.len() > MAX_LENGTH {
        format!("must have at most {MAX_LENGTH} bytes; passwords are never truncated")
    } else if password.contains('\0') {
        "must not contain a zero byte".to_owned()
    } else {
        return Ok(());
    };
    Err(FieldError::new(field, fault))
}

/// Maximum waiting time for a hash. Requests that would wait longer are rejected and can be retried.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Maximum number of waiting requests per network: about as many as one core hashes in that time. Further ones are
/// rejected and can be retried.
const MAX_WAITING: usize = 64;
/// Salt and hash of the decoy: valid, but of no known password.
const DECOY: &str = "jKqDBMSnxU2ZWcVyOfLGYeT5vRbPu7QdN1iXo3hA0mEsCgFtwHk9i";

/// Hashes passwords at one cost, each on its own thread, on all cores but one: however many users sign in, one core
/// remains free. Networks are served fairly: a request waits only for hashes in progress, not for the queue of another
/// network.
#[derive(Debug, Clone)]
pub struct PasswordHasher {
    cost: u32,
    queue: FairQueue,
    /// A decoy hash that is checked if there is no account, so that both cases take the same time.
    decoy: Arc<str>,
}

impl PasswordHasher {
    /// Creates a hasher with this bcrypt cost.
    pub fn new(cost: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let queue = FairQueue::new(cores.saturating_sub(1).max(1), MAX_WAITING);
        Self { cost, queue, decoy: format!("$2b${cost:02}${DECOY}").into() }
    }

    /// Hashes a password that has passed [`check_rules`], for a client in `network`.
    ///
    /// # Errors
    /// [`Error::RateLimited`] if too many requests are waiting, [`Error::Internal`] if bcrypt fails.
    pub async fn hash(&self, network: &str, password: SecretString) -> Result<String> {
        let cost = self.cost;
        self.on_hash_thread(network, move || bcrypt::non_truncating_hash(password.expose_secret(), cost))
            .await
    }

    /// Whether the password matches the hash, for a client in `network`. Without a hash, and for a password that
    /// exceeds the maximum length, takes as long and returns false.
    ///
    /// # Errors
    /// [`Error::RateLimited`] if too many requests are waiting, [`Error::Internal`] if the stored hash is invalid.
    pub async fn verify(&self, network: &str, password: SecretString, hash: Option<String>) -> Result<bool> {
        let decoy = self.decoy.clone();
        self.on_hash_thread(network, move || {
            let password = password.expose_secret();
            match hash {
                _ if password.len() > MAX_LENGTH => bcrypt::non_truncating_verify("", &decoy).map(|_| false),
                Some(hash) => bcrypt::non_truncating_verify(password, &hash),
                None => bcrypt::non_truncating_verify(password, &decoy).map(|_| false),
            }
        })
        .await
    }

    async fn on_hash_thread<T: Send + 'static>(
        &self,
        network: &str,
        work: impl FnOnce() -> Result<T, bcrypt::BcryptError> + Send + 'static,
    ) -> Result<T> {
        let turn = tokio::time::timeout(MAX_WAIT, self.queue.acquire(network))
            .await
            .ok()
            .flatten()
            .ok_or(Error::RateLimited { retry_after: MAX_WAIT })?;
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
    fn lengths_are_counted_in_bytes_and_passwords_are_not_truncated() {
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
    async fn a_password_beyond_the_maximum_length_costs_a_hash_too() {
        let hasher = PasswordHasher::new(4);
        let mut all = Vec::new();
        while let Ok(turn) = tokio::time::timeout(Duration::from_secs(1), hasher.queue.acquire("there")).await
        {
            all.push(turn.unwrap());
        }
        let hash = Some("not checked".to_owned());
        let refused = hasher.verify("here", secret(&"x".repeat(72)), hash).await;
        assert!(matches!(refused, Err(Error::RateLimited { .. })), "it was not in the queue: {refused:?}");
    }
}
