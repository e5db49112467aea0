//! Rate limits: by network for `/api/auth/`, by caller elsewhere. Counted in memory, or in a Redis shared by several
//! instances; while Redis is unavailable, each instance counts on its own. No request fails because of Redis.

mod memory;
mod shared;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use governor::Quota;
use metrics::counter;
use nightferry_core::clock::Clock;
use nightferry_core::config::LimitsConfig;
use nightferry_core::ids::UserId;

use self::memory::Memory;
use self::shared::Shared;

/// Requests of monitoring systems: never limited, and logged at a lower level.
pub(crate) const MONITORING_PATHS: [&str; 4] = ["/health", "/health/ready", "/api/health", "/metrics"];
/// Authentication requests.
const AUTH: &str = "/api/auth/";

/// Limit that a request is counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Limit for requests that establish an identity, counted per network.
    Auth,
    /// Limit for all other requests, counted per caller.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Account(UserId),
    Network(IpAddr),
    /// A client without a known address: a local socket.
    Nobody,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(id) => write!(f, "u:{id}"),
            Self::Network(network) => write!(f, "n:{network}"),
            Self::Nobody => f.write_str("n:-"),
        }
    }
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Other => "api",
        }
    }
}

/// A burst of this many requests, and this many per `period`.
#[derive(Debug, Clone, Copy)]
struct Rate {
    most: NonZeroU32,
    period: Duration,
}

impl Rate {
    fn new(most: u32, period: Duration) -> Self {
        Self { most: NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN), period }
    }

    /// The interval between requests at the sustained rate.
    fn interval(self) -> Duration {
        (self.period / self.most.get()).max(Duration::from_nanos(1))
    }

    fn quota(self) -> Quota {
        // `None` only for a zero period, which an interval never is.
        Quota::with_period(self.interval()).unwrap_or(Quota::per_second(self.most)).allow_burst(self.most)
    }
}

/// The result of counting a request, for the response headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    limit: u32,
    remaining: u32,
    /// How long the caller has to wait, if the request was rejected.
    pub(crate) retry_after: Option<Duration>,
    /// The window of the limit, in seconds.
    window: u64,
}

impl Verdict {
    /// Sets the RateLimit headers (draft-ietf-httpapi-ratelimit-headers).
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        let wait = self.retry_after.map_or(0, |wait| wait.as_millis().div_ceil(1000));
        let policy = format!("\"default\";q={};w={}", self.limit, self.window);
        let state = format!("\"default\";r={};t={wait}", self.remaining);
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

/// The rate limiter, unless nothing is limited. One per server.
pub(crate) struct Limits(Option<Tables>);

struct Tables {
    auth: Memory,
    other: Memory,
    shared: Option<Shared>,
}

impl Limits {
    pub(crate) fn new(config: &LimitsConfig, clock: &Clock) -> Self {
        if !config.enabled {
            return Self(None);
        }
        let table =
            |most, period| Memory::new(Rate::new(most, period), config.tracked_callers, clock.clone());
        let shared = config.redis_url.as_ref().and_then(|url| {
            Shared::open(url, config.redis_timeout)
                .inspect_err(|error| tracing::error!(%error, "limits.redis_url cannot be used; requests are counted in memory"))
                .ok()
        });
        Self(Some(Tables {
            auth: table(config.auth_requests_per_minute, Duration::from_secs(60)),
            other: table(config.requests_per_second, Duration::from_secs(1)),
            shared,
        }))
    }

    /// The limit for a path as the router reads it, or `None` if the path is not limited.
    pub(crate) fn kind_of(&self, path: &str) -> Option<Kind> {
        if self.0.is_none() || MONITORING_PATHS.contains(&path) {
            return None;
        }
        Some(if path.starts_with(AUTH) { Kind::Auth } else { Kind::Other })
    }

    /// Counts a request of this caller. Returns `None` if nothing is limited.
    pub(crate) async fn check(&self, kind: Kind, caller: &Key) -> Option<Verdict> {
        let verdict = self.0.as_ref()?.count(kind, caller).await;
        if verdict.retry_after.is_some() {
            counter!("nightferry_rate_limited_total", "kind" => kind.as_str()).increment(1);
        }
        Some(verdict)
    }
}

impl Tables {
    async fn count(&self, kind: Kind, key: &Key) -> Verdict {
        let table = match kind {
            Kind::Auth => &self.auth,
            Kind::Other => &self.other,
        };
        if let Some(shared) = &self.shared
            && let Some(verdict) = shared.check(kind, key, table.rate()).await
        {
            return verdict;
        }
        table.check(key)
    }
}
