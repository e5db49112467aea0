//! Counters in a Redis shared by several instances: one script, one round trip, Redis's own clock. While Redis is
//! unavailable, nothing waits for it, and requests are counted in memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisResult, Script};
use secrecy::{ExposeSecret, SecretString};

use super::Key;
use super::{Kind, Rate, Verdict};

/// How long Redis is not used after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// The prefix of all keys, for a Redis shared with other applications.
const PREFIX: &str = "nightferry:limit:";

/// The generic cell rate algorithm: the value of a key is the time when the full burst is available again, in
/// microseconds of Redis's clock. A key expires when it is no longer needed.
const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[1])
local whole = interval * tonumber(ARGV[2])
local at = tonumber(redis.call('GET', KEYS[1]) or now)
if at < now then at = now end
-- The clock was moved back: at most the whole burst is used.
if at > now + whole then at = now + whole end
local after = at + interval
if after - whole > now then
    return {0, 0, after - whole - now}
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, math.floor((now + whole - after) / interval), 0}
";

pub(super) struct Shared {
    client: Client,
    timeout: Duration,
    script: Script,
    connection: std::sync::OnceLock<ConnectionManager>,
    began: Instant,
    /// Until when Redis is not used, in milliseconds since `began`.
    paused_until: AtomicU64,
    away: AtomicBool,
}

impl Shared {
    /// Prepares the connection; opens it at the first request.
    pub(super) fn open(url: &SecretString, timeout: Duration) -> RedisResult<Self> {
        let client = Client::open(url.expose_secret())?;
        gauge!("nightferry_limits_redis_up").set(1.0);
        Ok(Self {
            client,
            timeout,
            script: Script::new(SCRIPT),
            connection: std::sync::OnceLock::new(),
            began: Instant::now(),
            paused_until: AtomicU64::new(0),
            away: AtomicBool::new(false),
        })
    }

    /// Counts one request; `None` if Redis does not respond.
    pub(super) async fn check(&self, kind: Kind, key: &Key, rate: Rate) -> Option<Verdict> {
        if self.millis() < self.paused_until.load(Ordering::Relaxed) {
            counter!("nightferry_limits_fallback_total").increment(1);
            return None;
        }
        match tokio::time::timeout(self.timeout, self.ask(kind, key, rate)).await {
            Ok(Ok(verdict)) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    gauge!("nightferry_limits_redis_up").set(1.0);
                    tracing::info!("Redis is available again: requests are counted across all instances");
                }
                Some(verdict)
            }
            Ok(Err(error)) => self.gone(&error.to_string()),
            Err(_) => self.gone("no response within limits.redis_timeout"),
        }
    }

    async fn ask(&self, kind: Kind, key: &Key, rate: Rate) -> RedisResult<Verdict> {
        let mut connection = self.connection()?;
        let micros = rate.interval().as_micros().max(1);
        let limit = rate.most.get();
        let (allowed, remaining, wait): (u8, u32, u64) = self
            .script
            .key(format!("{PREFIX}{}:{key}", kind.as_str()))
            .arg(u64::try_from(micros).unwrap_or(u64::MAX))
            .arg(limit)
            .invoke_async(&mut connection)
            .await?;
        let retry_after = (allowed == 0).then(|| Duration::from_micros(wait));
        Ok(Verdict { limit, remaining, retry_after, window: rate.period.as_secs() })
    }

    /// The connection, which reconnects automatically. Created on the runtime that outlives requests.
    fn connection(&self) -> RedisResult<ConnectionManager> {
        if let Some(connection) = self.connection.get() {
            return Ok(connection.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_response_timeout(Some(self.timeout))
            .set_connection_timeout(Some(self.timeout));
        let made = ConnectionManager::new_lazy_with_config(self.client.clone(), config)?;
        Ok(self.connection.get_or_init(|| made).clone())
    }

    fn gone(&self, error: &str) -> Option<Verdict> {
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        self.paused_until.store(self.millis().saturating_add(pause), Ordering::Relaxed);
        counter!("nightferry_limits_fallback_total").increment(1);
        if !self.away.swap(true, Ordering::Relaxed) {
            gauge!("nightferry_limits_redis_up").set(0.0);
            tracing::warn!(error, "Redis is unavailable: each instance counts requests on its own");
        }
        None
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
