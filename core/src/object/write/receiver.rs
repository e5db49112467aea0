//! Receives the content of an upload: counts, limits and hashes it. Independent of stores.

use std::time::Duration;

use bytes::Bytes;

use crate::checksum::UploadHasher;
use crate::error::{Error, Result};

/// The incoming content of an upload, with bounds on the remaining size.
pub trait Incoming {
    /// The next bytes; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, BodyError>>>;
    /// The minimum number of remaining bytes, unless the client disconnects.
    fn at_least(&self) -> u64;
    /// The maximum number of remaining bytes, if known.
    fn at_most(&self) -> Option<u64>;
    /// The exact number of remaining bytes, assuming a conventional end of the form; `None` if unknown.
    fn expected(&self) -> Option<u64> {
        self.at_most()
    }
}

/// Why the content ended.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client disconnected or sent malformed data.
    #[error("the request body is incomplete: {0}")]
    Broken(String),
    /// The client was inactive for too long.
    #[error("no byte arrived for {} s", .0.as_secs())]
    Idle(Duration),
}

/// The content of the request, counted and hashed, with a lookahead of one chunk.
pub(crate) struct Receiver<'b, B> {
    body: &'b mut B,
    ahead: Option<Bytes>,
    ended: bool,
    pub(super) hasher: UploadHasher,
    /// Rejects a number of received bytes that is too large.
    check_size: &'b (dyn Fn(u64) -> Result<()> + Sync),
}

impl<'b, B: Incoming> Receiver<'b, B> {
    pub(crate) fn new(body: &'b mut B, check_size: &'b (dyn Fn(u64) -> Result<()> + Sync)) -> Self {
        Self { body, ahead: None, ended: false, hasher: UploadHasher::new(), check_size }
    }

    /// The next chunk without consuming it; empty at the end.
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

    /// Reads at most `most` bytes; `None` at the end.
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
