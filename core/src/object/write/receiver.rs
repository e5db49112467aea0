//! The bytes of an upload on their way in: counted, limited and hashed. Knows nothing of stores.

use std::time::Duration;

use bytes::Bytes;

use crate::checksum::UploadHasher;
use crate::error::{Error, Result};

/// The bytes of an upload as they come in, with what can be said about those still to come.
pub trait Incoming {
    /// The next bytes; none at the end.
    fn next(&mut self) -> impl Future<Output = Option<std::result::Result<Bytes, BodyError>>>;
    /// At least this many bytes are still to come, unless the client goes away.
    fn at_least(&self) -> u64;
    /// At most this many bytes are still to come, if that is known.
    fn at_most(&self) -> Option<u64>;
    /// Exactly this many bytes are still to come if the end is what it nearly always is; none where nothing is known.
    fn expected(&self) -> Option<u64> {
        self.at_most()
    }
}

/// Why the bytes stopped coming.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client went away or sent something unreadable.
    #[error("the request's body broke off: {0}")]
    Broken(String),
    /// The client sent nothing for too long.
    #[error("no byte arrived for {} s", .0.as_secs())]
    Idle(Duration),
}

/// The bytes of the request, counted, hashed and with the possibility to look ahead by one chunk.
pub(crate) struct Receiver<'b, B> {
    body: &'b mut B,
    ahead: Option<Bytes>,
    ended: bool,
    pub(super) hasher: UploadHasher,
    /// Refuses a number of received bytes that is too large.
    check_size: &'b (dyn Fn(u64) -> Result<()> + Sync),
}

impl<'b, B: Incoming> Receiver<'b, B> {
    pub(crate) fn new(body: &'b mut B, check_size: &'b (dyn Fn(u64) -> Result<()> + Sync)) -> Self {
        Self { body, ahead: None, ended: false, hasher: UploadHasher::new(), check_size }
    }

    /// The next chunk without taking it; empty at the end.
    pub(crate) async fn peek(&mut self) -> Result<&[u8]> {
        while self.ahead.is_none() && !self.ended {
            match self.body.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => self.ahead = Some(chunk),
                Some(Err(error)) => return Err(Error::BadRequest(error.to_string())),
                None => self.ended = true,
            }
        }
        Ok(self.ahead.as_deref().unwrap_or_default())
    }

    /// Takes at most `most` bytes; none at the end.
    pub(super) async fn take(&mut self, most: u64) -> Result<Option<Bytes>> {
        self.peek().await?;
        let Some(mut chunk) = self.ahead.take() else { return Ok(None) };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if chunk.len() > most {
            self.ahead = Some(chunk.split_off(most));
        }
        self.hasher.update(&chunk);
        (self.check_size)(self.hasher.size())?;
        Ok(Some(chunk))
    }

    fn ahead(&self) -> u64 {
        self.ahead.as_ref().map_or(0, |chunk| u64::try_from(chunk.len()).unwrap_or(u64::MAX))
    }

    pub(super) fn at_least(&self) -> u64 {
        self.body.at_least().saturating_add(self.ahead())
    }

    pub(super) fn at_most(&self) -> Option<u64> {
        Some(self.body.at_most()?.saturating_add(self.ahead()))
    }

    pub(super) fn expected(&self) -> Option<u64> {
        Some(self.body.expected()?.saturating_add(self.ahead()))
    }
}
