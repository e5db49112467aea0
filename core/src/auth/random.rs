//! Random bytes from the operating system.

use rand::TryRngCore as _;

use crate::error::{Error, Result};

/// Fills `bytes`.
///
/// # Errors
/// [`Error::Internal`] if the system random number generator fails.
pub(super) fn fill(bytes: &mut [u8]) -> Result<()> {
    rand::rngs::OsRng
        .try_fill_bytes(bytes)
        .map_err(|error| Error::Internal(format!("the system's random source failed: {error}")))
}
