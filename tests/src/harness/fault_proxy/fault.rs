//! The faults that a test can inject, and the affected requests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Method;

use super::gate::Gate;
use super::record::Request;

type Condition = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

/// A request matcher. All conditions must hold; without conditions it matches every request.
#[derive(Clone, Default)]
pub struct Match {
    conditions: Vec<Condition>,
}

impl fmt::Debug for Match {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Match({} conditions)", self.conditions.len())
    }
}

impl Match {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests with this method.
    pub fn method(method: Method) -> Self {
        Self::any().and_method(method)
    }

    /// Adds the condition: the method.
    #[must_use]
    pub fn and_method(self, method: Method) -> Self {
        self.and(move |request| request.method == method)
    }

    /// Requests that delete objects: one, or several at once.
    pub fn deletions() -> Self {
        Self::any().and(|request| {
            let is_one = request.method == Method::DELETE && request.parameter("uploadId").is_none();
            is_one || is_batch(request)
        })
    }

    /// Requests that delete several objects.
    pub fn batch_deletions() -> Self {
        Self::any().and(is_batch)
    }

    /// Adds the condition: the decoded path (`/bucket/key`) contains this text.
    #[must_use]
    pub fn key_contains(self, part: impl Into<String>) -> Self {
        let part = part.into();
        self.and(move |request| request.path.contains(&part))
    }

    /// Adds the condition: the raw query contains this text, such as `partNumber=2&` or `uploads`.
    #[must_use]
    pub fn query_contains(self, part: impl Into<String>) -> Self {
        let part = part.into();
        self.and(move |request| request.query.contains(&part))
    }

    /// Adds the condition: the query has a parameter with this name.
    #[must_use]
    pub fn has_parameter(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.and(move |request| request.parameter(&name).is_some())
    }

    /// Adds the condition: the query parameter has this value.
    #[must_use]
    pub fn parameter(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        self.and(move |request| request.parameter(&name) == Some(&value))
    }

    /// Adds any condition on the request.
    #[must_use]
    pub fn and(mut self, condition: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.conditions.push(Arc::new(condition));
        self
    }

    /// Whether this request matches.
    pub fn holds(&self, request: &Request) -> bool {
        self.conditions.iter().all(|condition| condition(request))
    }
}

fn is_batch(request: &Request) -> bool {
    request.method == Method::POST && request.parameter("delete").is_some()
}

/// The effect of a fault.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// Respond with an S3 error; the store does not receive the request.
    Status { status: u16, code: String, retry_after: Option<u64> },
    /// Never respond.
    Hang,
    /// Forward, but reset the connection after this many bytes of the request body.
    ResetRequest(u64),
    /// Forward, but reset the connection after this many bytes of the response body.
    ResetResponse(u64),
    /// Forward only this many bytes to the store, and return success to the client.
    CutAndLie { bytes: u64, etag: String },
    /// Forward nothing to the store, and return success to the client.
    SwallowAndLie { etag: String },
    /// Invert one byte of the request body.
    FlipRequest(u64),
    /// Invert one byte of the response body.
    FlipResponse(u64),
    /// Forward after a delay.
    Delay(Duration),
    /// Wait at a gate.
    Hold(Gate, Hold),
}

/// Where a request waits at a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Before anything is sent to the store.
    Request,
    /// After the store has received this many bytes of the body.
    RequestBody(u64),
    /// After the store has responded, before the client receives the response.
    Answer,
    /// After the client has received this many bytes of the response body.
    ResponseBody(u64),
}

/// A fault, with the number and the matcher of affected requests.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(super) action: Action,
    pub(super) matches: Match,
    pub(super) skip: usize,
    pub(super) times: Option<usize>,
}

impl Fault {
    fn new(action: Action) -> Self {
        Self { action, matches: Match::any(), skip: 0, times: None }
    }

    /// Responds with this status and S3 error code; the store does not receive the request.
    pub fn status(status: u16, code: &str) -> Self {
        Self::new(Action::Status { status, code: code.to_owned(), retry_after: None })
    }

    /// Adds `Retry-After` in seconds to a status.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        if let Action::Status { retry_after, .. } = &mut self.action {
            *retry_after = Some(seconds);
        }
        self
    }

    /// 503 `SlowDown` with `Retry-After` in seconds.
    pub fn slow_down(retry_after: u64) -> Self {
        Self::new(Action::Status { status: 503, code: "SlowDown".to_owned(), retry_after: Some(retry_after) })
    }

    /// 501 for requests that delete several objects, as of a store that does not support them.
    pub fn no_batch_deletions() -> Self {
        Self::status(501, "NotImplemented").matching(Match::batch_deletions())
    }

    /// Reads the request and never responds.
    pub fn hang() -> Self {
        Self::new(Action::Hang)
    }

    /// Resets the connection after the store has received this many bytes of the request body.
    pub fn reset_request_after(bytes: u64) -> Self {
        Self::new(Action::ResetRequest(bytes))
    }

    /// Resets the connection after the client has received this many bytes of the response body.
    pub fn reset_response_after(bytes: u64) -> Self {
        Self::new(Action::ResetResponse(bytes))
    }

    /// Sends only the first bytes of the body to the store, and responds with 200 and an invented `ETag`.
    pub fn cut_and_lie(bytes: u64) -> Self {
        Self::new(Action::CutAndLie { bytes, etag: made_up_etag() })
    }

    /// Reads the whole request, sends nothing to the store, and responds with 200 and an invented `ETag`.
    pub fn swallow_and_acknowledge() -> Self {
        Self::new(Action::SwallowAndLie { etag: made_up_etag() })
    }

    /// Inverts the byte at this offset of the request body.
    pub fn flip_request_byte(offset: u64) -> Self {
        Self::new(Action::FlipRequest(offset))
    }

    /// Inverts the byte at this offset of the response body.
    pub fn flip_response_byte(offset: u64) -> Self {
        Self::new(Action::FlipResponse(offset))
    }

    /// Forwards after this delay.
    pub fn delay(time: Duration) -> Self {
        Self::new(Action::Delay(time))
    }

    pub(super) fn hold(gate: Gate, at: Hold) -> Self {
        Self::new(Action::Hold(gate, at))
    }

    /// Responds with this `ETag` (without quotes) instead of an obviously invented one.
    #[must_use]
    pub fn with_etag(mut self, value: &str) -> Self {
        if let Action::CutAndLie { etag, .. } | Action::SwallowAndLie { etag } = &mut self.action {
            value.clone_into(etag);
        }
        self
    }

    /// Applies only to these requests.
    #[must_use]
    pub fn matching(mut self, matches: Match) -> Self {
        self.matches = matches;
        self
    }

    /// Applies only to requests with this method.
    #[must_use]
    pub fn on(mut self, method: Method) -> Self {
        self.matches = self.matches.and_method(method);
        self
    }

    /// Applies only to requests whose decoded path contains this text.
    #[must_use]
    pub fn key_contains(mut self, part: impl Into<String>) -> Self {
        self.matches = self.matches.key_contains(part);
        self
    }

    /// Applies only to requests whose query contains this text.
    #[must_use]
    pub fn query_contains(mut self, part: impl Into<String>) -> Self {
        self.matches = self.matches.query_contains(part);
        self
    }

    /// Applies to at most this many requests.
    #[must_use]
    pub const fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    /// Skips the first matching requests.
    #[must_use]
    pub const fn after(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }
}

fn made_up_etag() -> String {
    "0".repeat(32)
}

/// An active fault.
#[derive(Debug)]
pub(super) struct Armed {
    fault: Fault,
    seen: usize,
    pub(super) struck: Arc<AtomicUsize>,
}

impl Armed {
    pub(super) fn new(fault: Fault) -> Self {
        Self { fault, seen: 0, struck: Arc::default() }
    }

    /// The effect on this request if the fault applies; counts it.
    pub(super) fn strike(&mut self, request: &Request) -> Option<Action> {
        let struck = self.struck.load(Ordering::SeqCst);
        if self.fault.times.is_some_and(|times| struck >= times) || !self.fault.matches.holds(request) {
            return None;
        }
        self.seen += 1;
        if self.seen <= self.fault.skip {
            return None;
        }
        self.struck.store(struck + 1, Ordering::SeqCst);
        Some(self.fault.action.clone())
    }
}
