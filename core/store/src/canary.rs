//! Canaries: whether the store verifies the checksums sent with content, found out by sending a few bytes with a wrong
//! one. A store that does not may return a checksum in its response that it has only copied from the request.
//!
//! Each kind of request is tried twice: with the right checksum, which the store must accept and store unchanged, and
//! with a wrong one, which it must refuse. So a store that refuses everything proves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use uuid::Uuid;

use super::chunked::TrailerCrc;
use super::{
    Body, CompletedPart, Condition, ObjectKey, PutOptions, PutReceipt, Store, StoreError, StoreErrorKind,
    UploadId, Verdict,
};
use crate::checksum::{Crc64Nvme, Sha256};

/// The content whose checksums are sent as wrong ones.
const OTHER: &[u8] = b"This is not what was sent.";
/// More than a canary has.
const LIMIT: usize = 1024;

/// A kind of request that carries a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// `PutObject` with a SHA-256.
    PutSha256,
    /// `PutObject` with a CRC-64/NVME.
    PutCrc64Nvme,
    /// `PutObject` with a CRC-64/NVME after the content.
    PutTrailer,
    /// `UploadPart` with a CRC-64/NVME.
    Part,
    /// `UploadPart` with a CRC-64/NVME after the content.
    PartTrailer,
    /// `CompleteMultipartUpload` with the CRC-64/NVME of the whole object.
    Completion,
}

impl Check {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 6] = [
        Self::PutSha256,
        Self::PutCrc64Nvme,
        Self::PutTrailer,
        Self::PartTrailer,
        Self::Part,
        Self::Completion,
    ];

    /// The name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PutSha256 => "put-sha256",
            Self::PutCrc64Nvme => "put-crc64nvme",
            Self::PutTrailer => "put-trailer",
            Self::Part => "part",
            Self::PartTrailer => "part-trailer",
            Self::Completion => "completion",
        }
    }
}

/// A way of sending an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SendMode {
    /// In one request, with the SHA-256.
    Whole,
    /// In one request, with the CRC-64/NVME: small encrypted objects.
    WholeEncrypted,
    /// In one request, with the CRC-64/NVME after the content: larger encrypted objects.
    WholeTrailed,
    /// In parts with their checksums.
    Parts,
    /// In parts of which some have their checksums after the content: encrypted objects, and uploads that are passed
    /// through.
    TrailedParts,
}

impl SendMode {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Whole, Self::WholeEncrypted, Self::WholeTrailed, Self::Parts, Self::TrailedParts];

    /// The name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::WholeEncrypted => "whole-encrypted",
            Self::WholeTrailed => "whole-streamed",
            Self::Parts => "parts",
            Self::TrailedParts => "parts-streamed",
        }
    }

    /// The kinds of requests that carry its checksums. The last one is answered with that of the whole object.
    pub const fn checks(self) -> &'static [Check] {
        match self {
            Self::Whole => &[Check::PutSha256],
            Self::WholeEncrypted => &[Check::PutCrc64Nvme],
            Self::WholeTrailed => &[Check::PutTrailer],
            Self::Parts => &[Check::Part, Check::Completion],
            Self::TrailedParts => &[Check::Part, Check::PartTrailer, Check::Completion],
        }
    }
}

/// The evidence that an object was stored unchanged, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// The checksum in the response to the upload.
    Response,
    /// The checksum in the response to a HEAD request.
    Head,
    /// Reading the object.
    Read,
}

impl Evidence {
    /// The name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Head => "head",
            Self::Read => "read",
        }
    }

    /// Requests per object in addition to the upload.
    pub const fn requests(self) -> u32 {
        match self {
            Self::Response => 0,
            Self::Head => 1,
            Self::Read => 2,
        }
    }
}

/// What a store did with one kind of request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It refuses a wrong checksum, or reports the right one.
    Refuses,
    /// It accepts a wrong checksum.
    Accepts,
    /// It acknowledges content and stores other content.
    Alters,
    /// It could not be found out, for this reason.
    Unknown(String),
}

impl Outcome {
    /// The name in reports.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Refuses => "refuses",
            Self::Accepts => "accepts",
            Self::Alters => "alters",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// What a store did with the canaries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Canary {
    outcomes: BTreeMap<Check, Outcome>,
    /// Whether HEAD returned a checksum after each kind of request.
    heads: BTreeMap<Check, bool>,
    /// Whether HEAD returned a checksum that is not that of the stored bytes.
    heads_lie: bool,
    /// Whether no canary was answered, now or before.
    failed: bool,
}

impl Canary {
    /// A store that verifies every checksum, as if the canaries had shown that.
    pub fn strict() -> Self {
        let outcomes = Check::ALL.map(|check| (check, Outcome::Refuses));
        Self {
            outcomes: outcomes.into(),
            heads: Check::ALL.map(|check| (check, true)).into(),
            ..Self::default()
        }
    }

    /// No canary was answered.
    pub fn failed(why: &str) -> Self {
        let outcomes = Check::ALL.map(|check| (check, Outcome::Unknown(why.to_owned())));
        Self { outcomes: outcomes.into(), failed: true, ..Self::default() }
    }

    /// With what the canaries `before` showed about HEAD, if these showed nothing about it.
    #[must_use]
    pub fn after(self, before: Option<&Self>) -> Self {
        match before {
            Some(before) if self.heads.is_empty() => {
                Self { heads_lie: before.heads_lie, failed: self.failed && before.failed, ..self }
            }
            _ => self,
        }
    }

    /// What the store did with each kind of request.
    pub fn outcomes(&self) -> impl Iterator<Item = (Check, &Outcome)> {
        self.outcomes.iter().map(|(check, outcome)| (*check, outcome))
    }

    /// Whether HEAD returns checksums that are not those of the stored bytes.
    pub const fn heads_lie(&self) -> bool {
        self.heads_lie
    }

    /// Whether the checksum in the response to a HEAD request is evidence. A store that refuses canaries is believed.
    pub const fn trusts_head(&self) -> bool {
        !self.heads_lie && !self.failed
    }

    /// Whether everything was found out.
    pub fn is_conclusive(&self) -> bool {
        !self.outcomes.is_empty()
            && !self.outcomes.values().any(|outcome| matches!(outcome, Outcome::Unknown(_)))
    }

    /// Whether the checksum in the response to an object sent in this way is evidence.
    pub fn is_trusted(&self, sending: SendMode) -> bool {
        let mut checks = sending.checks().iter();
        checks.all(|check| self.outcomes.get(check) == Some(&Outcome::Refuses))
    }

    /// The evidence for an object sent in this way.
    pub fn evidence(&self, sending: SendMode) -> Evidence {
        let last = sending.checks().last();
        let has_head = last.and_then(|check| self.heads.get(check)).is_none_or(|has_head| *has_head);
        if self.is_trusted(sending) {
            Evidence::Response
        } else if !self.trusts_head() || !has_head {
            Evidence::Read
        } else {
            Evidence::Head
        }
    }

    /// The most expensive evidence of all ways of sending.
    pub fn worst(&self) -> Evidence {
        SendMode::ALL.into_iter().map(|sending| self.evidence(sending)).max().unwrap_or(Evidence::Head)
    }
}

impl Store {
    /// What the store did with the last canaries of this process; `None` before them.
    pub fn canary(&self) -> Option<Arc<Canary>> {
        self.0.canary.read().clone()
    }

    /// Uses the result of canaries from now on.
    pub fn use_canary(&self, canary: Canary) {
        *self.0.canary.write() = Some(Arc::new(canary));
    }

    /// Whether the checksum in the response to an object sent in this way is evidence: not before a canary proved it.
    pub fn trusts_response(&self, sending: SendMode) -> bool {
        self.canary().is_some_and(|canary| canary.is_trusted(sending))
    }

    /// Whether the checksum in the response to a HEAD request is evidence: not before the first canaries, and not if one
    /// disproved it.
    pub fn trusts_head(&self) -> bool {
        self.canary().is_some_and(|canary| canary.trusts_head())
    }

    /// Sends canaries of all kinds: about 25 requests with a few bytes, under a key of their own, which is deleted
    /// afterwards. Does not use the result. Never fails: what cannot be found out is unknown.
    pub async fn send_canaries(&self) -> Canary {
        let id = Uuid::now_v7();
        let mut sent = Canaries {
            store: self,
            key: ObjectKey::of_canary(id),
            content: Bytes::from(format!("nightferry canary {id}\n")),
            found: Canary::default(),
        };
        for check in [Check::PutSha256, Check::PutCrc64Nvme, Check::PutTrailer] {
            let outcome = sent.whole(check).await;
            // A full store responds: it refuses canaries.
            if let Err(error) = &outcome
                && error.is_outage()
                && error.condition() != Some(Condition::Quota)
            {
                return Canary::failed(&error.to_string());
            }
            sent.note(check, outcome);
        }
        sent.multipart().await;
        // Leftovers are a few bytes; reconcile ignores them.
        let _ = self.delete(&sent.key).await;
        sent.found
    }
}

/// Whether a checksum is that of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sum {
    Right,
    Wrong,
}

struct Canaries<'s> {
    store: &'s Store,
    key: ObjectKey,
    content: Bytes,
    found: Canary,
}

impl Canaries<'_> {
    fn note(&mut self, check: Check, outcome: Result<Outcome, StoreError>) {
        let outcome = outcome.unwrap_or_else(|error| Outcome::Unknown(error.to_string()));
        self.found.outcomes.insert(check, outcome);
    }

    /// Tries one kind of `PutObject`.
    async fn whole(&mut self, check: Check) -> Result<Outcome, StoreError> {
        self.put(check, Sum::Right).await?;
        if !self.is_stored(check).await? {
            return Ok(Outcome::Alters);
        }
        let outcome = verdict(self.put(check, Sum::Wrong).await)?;
        if outcome == Outcome::Accepts {
            self.is_stored(check).await?;
        }
        Ok(outcome)
    }

    async fn put(&self, check: Check, sum: Sum) -> Result<(), StoreError> {
        let body = Body::from(self.content.clone());
        let mut options = self.options();
        match check {
            Check::PutSha256 => options.sha256 = Some(Sha256::of(self.checked(sum))),
            Check::PutCrc64Nvme => options.crc64nvme = Some(Crc64Nvme::of(self.checked(sum))),
            Check::PutTrailer | Check::Part | Check::PartTrailer | Check::Completion => {
                return self
                    .store
                    .put_trailing_with(&self.key, body, &options, trailer(sum))
                    .await
                    .map(|_| ());
            }
        }
        self.store.put(&self.key, body, &options).await.map(|_| ())
    }

    /// Tries both kinds of `UploadPart`, and `CompleteMultipartUpload`.
    async fn multipart(&mut self) {
        let upload = match self.store.create_multipart(&self.key, &self.options()).await {
            Ok(upload) => upload,
            Err(error) => {
                for check in [Check::PartTrailer, Check::Part, Check::Completion] {
                    self.found.outcomes.insert(check, Outcome::Unknown(error.to_string()));
                }
                return;
            }
        };
        let mut last = None;
        for check in [Check::PartTrailer, Check::Part] {
            let outcome = self.parts(check, &upload, &mut last).await;
            self.note(check, outcome);
        }
        let outcome = self.completion(&upload, last).await;
        self.note(Check::Completion, outcome);
        // A completed or missing upload is not an error.
        let _ = self.store.abort_multipart(&self.key, &upload).await;
    }

    /// The wrong part first, so that the upload ends with a right one.
    async fn parts(
        &mut self,
        check: Check,
        upload: &UploadId,
        last: &mut Option<PutReceipt>,
    ) -> Result<Outcome, StoreError> {
        let wrong = self.put_part(check, upload, Sum::Wrong).await;
        *last = Some(self.put_part(check, upload, Sum::Right).await?);
        verdict(wrong.map(|_| ()))
    }

    async fn put_part(&self, check: Check, upload: &UploadId, sum: Sum) -> Result<PutReceipt, StoreError> {
        let body = Body::from(self.content.clone());
        if check == Check::PartTrailer {
            return self.store.put_part_trailing_with(&self.key, upload, 1, body, trailer(sum)).await;
        }
        let crc = Some(Crc64Nvme::of(self.checked(sum)));
        self.store.put_part(&self.key, upload, 1, body, crc).await
    }

    /// The wrong completion first. A store that refuses it keeps the upload.
    async fn completion(
        &mut self,
        upload: &UploadId,
        part: Option<PutReceipt>,
    ) -> Result<Outcome, StoreError> {
        let Some(part) = part else {
            return Ok(Outcome::Unknown("the store accepts no part with a checksum".to_owned()));
        };
        let crc = Crc64Nvme::of(&self.content);
        let parts = [CompletedPart { number: 1, etag: part.etag, crc64nvme: Some(crc) }];
        let wrong = Some(Crc64Nvme::of(OTHER));
        let outcome =
            verdict(self.store.complete_multipart(&self.key, upload, &parts, wrong).await.map(|_| ()))?;
        if outcome == Outcome::Refuses {
            match self.store.complete_multipart(&self.key, upload, &parts, Some(crc)).await {
                Ok(_) => {}
                // It was completed by the first attempt, whose response contained the right checksum.
                Err(error) if error.is_no_such_upload() => {}
                Err(error) => return Err(error),
            }
        }
        let is_right = self.is_stored(Check::Completion).await?;
        Ok(if is_right { outcome } else { Outcome::Alters })
    }

    /// Reads the object. Returns whether it has the right content, and records what HEAD says about it.
    async fn is_stored(&mut self, check: Check) -> Result<bool, StoreError> {
        let mut body = self.store.get(&self.key, None).await?.body;
        let mut held = Vec::new();
        while let Some(chunk) = body.next().await {
            held.extend_from_slice(&chunk?);
            if held.len() > LIMIT {
                break;
            }
        }
        if let Some(head) = self.store.head(&self.key).await? {
            let is_false = head.sha256.is_some_and(|told| told != Sha256::of(&held))
                || head.crc64nvme.is_some_and(|told| told != Crc64Nvme::of(&held));
            self.found.heads_lie |= is_false;
            self.found.heads.insert(check, head.sha256.is_some() || head.crc64nvme.is_some());
        }
        Ok(self.content == held)
    }

    /// The content whose checksum is sent.
    fn checked(&self, sum: Sum) -> &[u8] {
        match sum {
            Sum::Right => &self.content,
            Sum::Wrong => OTHER,
        }
    }

    fn options(&self) -> PutOptions {
        PutOptions {
            // It is read at once: the storage class of the files may be an archive.
            storage_class: self.store.settings().storage_class.as_ref().map(|_| "STANDARD".to_owned()),
            ..PutOptions::default()
        }
    }
}

const fn trailer(sum: Sum) -> TrailerCrc {
    match sum {
        Sum::Right => TrailerCrc::OfBody,
        Sum::Wrong => TrailerCrc::Wrong,
    }
}

/// What the response to a wrong checksum shows. The same request with the right one is accepted.
fn verdict(response: Result<(), StoreError>) -> Result<Outcome, StoreError> {
    match response {
        Ok(()) => Ok(Outcome::Accepts),
        Err(error) if refuses(&error) => Ok(Outcome::Refuses),
        Err(error) => Err(error),
    }
}

/// Whether the store refused the checksum, or returned another one, which it must have computed.
fn refuses(error: &StoreError) -> bool {
    match error.kind() {
        StoreErrorKind::Mismatch => true,
        StoreErrorKind::Answer { status: 200 | 400..500, code } if !code.is_empty() => {
            !error.is_denied()
                && !error.is_credentials()
                && matches!(error.verdict(), Verdict::Corrupt | Verdict::Permanent)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn error(kind: StoreErrorKind) -> StoreError {
        StoreError::new(&"s3".parse().unwrap(), "PutObject", kind, "x")
    }

    fn answer(status: u16, code: &str) -> StoreError {
        error(StoreErrorKind::Answer { status, code: code.to_owned() })
    }

    #[test]
    fn a_refusal_of_the_checksum_is_no_other_failure() {
        for refusal in [answer(400, "BadDigest"), answer(200, "BadDigest"), answer(400, "InvalidRequest")] {
            assert!(refuses(&refusal), "{refusal}");
        }
        assert!(refuses(&error(StoreErrorKind::Mismatch)));
        for other in [
            answer(403, "AccessDenied"),
            answer(403, "InvalidAccessKeyId"),
            answer(404, "NoSuchKey"),
            answer(404, ""),
            answer(500, "InternalError"),
            answer(503, "SlowDown"),
            error(StoreErrorKind::Timeout),
        ] {
            assert!(!refuses(&other), "{other}");
        }
    }

    #[test]
    fn a_response_is_evidence_only_if_every_request_is_proven() {
        let strict = Canary::strict();
        assert_eq!(strict.worst(), Evidence::Response);
        let with = |check, outcome| {
            let mut canary = strict.clone();
            canary.outcomes.insert(check, outcome);
            canary
        };
        let lax = with(Check::Part, Outcome::Accepts);
        assert_eq!(lax.evidence(SendMode::Parts), Evidence::Head);
        assert_eq!(lax.evidence(SendMode::Whole), Evidence::Response);
        assert!(lax.is_conclusive());
        let unknown = with(Check::Completion, Outcome::Unknown("x".to_owned()));
        assert_eq!(unknown.evidence(SendMode::TrailedParts), Evidence::Head);
        assert!(!unknown.is_conclusive());
        let liar = Canary { heads_lie: true, ..with(Check::PutSha256, Outcome::Alters) };
        assert_eq!(liar.evidence(SendMode::Whole), Evidence::Read);
        assert_eq!(liar.worst(), Evidence::Read);
        assert_eq!(Canary::failed("x").worst(), Evidence::Read);
        assert!(!Canary::default().is_conclusive());
    }

    #[test]
    fn a_false_checksum_is_remembered_until_the_next_one_was_seen() {
        let strict = Canary::strict();
        let liar = Canary { heads_lie: true, ..strict.clone() };
        assert!(Canary::default().after(Some(&liar)).heads_lie(), "HEAD was not answered");
        assert!(!Canary::strict().after(Some(&liar)).heads_lie(), "it returns the right one");
        assert!(!Canary::failed("x").after(None).trusts_head(), "nothing is known yet");
        assert!(Canary::failed("x").after(Some(&strict)).trusts_head(), "as before");
        assert!(!Canary::failed("x").after(Some(&strict)).is_trusted(SendMode::Whole));
    }
}
