//! How many requests anybody may make: by network below `/api/auth/`, by caller elsewhere. Counted in memory, or in a
//! Redis that several instances share; while that is away each counts for itself. No request fails because of it.

mod memory;
mod shared;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use governor::Quota;
use metrics::counter;
use nightferry_core::clock::Clock;
use nightferry_core::config::LimitsConfig;
use nightferry_core::ids::UserId;

use self::memory::Memory;
use self::shared::Shared;

/// Requests of monitors, which must get through when it matters most.
const FREE: [&str; 4] = ["/health", "/health/ready", "/api/health", "/metrics"];
/// The requests that prove who somebody is.
const AUTH: &str = "/api/auth/";

/// Which limit a request is counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// That of requests that prove who somebody is, counted by network.
    Auth,
    /// That of all others, counted by caller.
    Other,
}

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// An account.
    Account(UserId),
    /// A network.
    Network(IpAddr),
    /// A client whose address is not known: a local socket.
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

/// So many requests at once, and so many more in each `period`.
#[derive(Debug, Clone, Copy)]
struct Rate {
    most: NonZeroU32,
    period: Duration,
}

impl Rate {
    fn new(most: u32, period: Duration) -> Self {
        Self { most: NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN), period }
    }

    /// The time that one request has to itself.
    fn interval(self) -> Duration {
        (self.period / self.most.get()).max(Duration::from_nanos(1))
    }

    fn quota(self) -> Quota {
        // None only for a period of nothing, which an interval never is.
        Quota::with_period(self.interval()).unwrap_or(Quota::per_second(self.most)).allow_burst(self.most)
    }
}

/// What became of a request, for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Requests at once.
    limit: u32,
    /// How many more may come now.
    remaining: u32,
    /// When there is room again for one that had to be refused.
    retry_after: Option<Duration>,
    /// Seconds of the window that the limit is for.
    window: u64,
}

impl Verdict {
    /// How long the caller has to wait, if it must.
    pub(crate) fn retry_after(self) -> Option<Duration> {
        self.retry_after
    }

    /// Tells clients where they stand (draft-ietf-httpapi-ratelimit-headers).
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

/// See the module. One for each server.
pub(crate) struct Limits {
    tables: Option<Tables>,
}

struct Tables {
    auth: Table,
    other: Table,
    shared: Option<Arc<Shared>>,
}

struct Table {
    rate: Rate,
    memory: Memory,
}

impl Limits {
    /// As configured.
    pub(crate) fn new(config: &LimitsConfig, clock: &Clock) -> Self {
        if !config.enabled {
            return Self { tables: None };
        }
        let table = |most, period| {
            let rate = Rate::new(most, period);
            Table { rate, memory: Memory::new(rate, config.tracked_callers, clock.clone()) }
        };
        let shared = config.redis_url.as_ref().and_then(|url| {
            Shared::open(url, config.redis_timeout)
                .inspect_err(|error| tracing::error!(%error, "limits.redis_url cannot be used; requests are counted in memory"))
                .ok()
        });
        Self {
            tables: Some(Tables {
                auth: table(config.auth_requests_per_minute, Duration::from_secs(60)),
                other: table(config.requests_per_second, Duration::from_secs(1)),
                shared: shared.map(Arc::new),
            }),
        }
    }

    /// Which limit holds for a path, as the router reads it. None where nothing is limited.
    pub(crate) fn kind_of(&self, path: &str) -> Option<Kind> {
        if self.tables.is_none() || FREE.contains(&path) {
            return None;
        }
        Some(if path.starts_with(AUTH) { Kind::Auth } else { Kind::Other })
    }

    /// Counts a request of this caller. None where nothing is limited.
    pub(crate) async fn check(&self, kind: Kind, caller: &Key) -> Option<Verdict> {
        let verdict = self.tables.as_ref()?.count(kind, caller).await;
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
            && let Some(verdict) = shared.check(kind, key, table.rate).await
        {
            return verdict;
        }
        table.memory.check(key)
    }
}
