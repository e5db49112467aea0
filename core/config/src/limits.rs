//! Request limits, and limits of failed sign-ins.

use std::time::Duration;

use super::declare::settings;
use super::validators;
use secrecy::SecretString;

settings! {
    /// The `[limits]` section.
    pub struct LimitsConfig {
        /// Whether request rates are limited. Disable this if a reverse proxy limits them. Password guessing is always
        /// limited.
        pub enabled: bool = true;
        /// Maximum number of failed sign-ins for one account from one address (IPv6: /64 network) within the window;
        /// after that, the address is locked out, initially for the duration of the window, then for longer periods.
        pub failed_logins: u32 = 10, range(1, 1000);
        /// The window for counting failed sign-ins.
        pub failed_login_window: Duration = "15m", lasts("10s", "1d");
        /// Maximum number of failed sign-ins for one account from all addresses within the window; after that, only
        /// addresses from which the owner has signed in before may try.
        pub failed_logins_everywhere: u32 = 100, range(1, 100_000);
        /// Maximum number of requests per minute below `/api/auth/` from one address (IPv6: /64 network).
        pub auth_requests_per_minute: u32 = 600, range(1, 10_000_000);
        /// Maximum number of other requests per caller and second: per account, or per address for clients that are not
        /// signed in.
        pub requests_per_second: u32 = 100, range(1, 10_000_000);
        /// Maximum number of callers tracked in memory, at about 200 bytes each. Beyond that, new callers share a
        /// common limit.
        pub tracked_callers: usize = 100_000, range(100, 100_000_000);
        /// A Redis or Valkey for counting requests across all API instances. While it is unavailable, each instance
        /// counts on its own.
        pub redis_url: Option<SecretString>,
            text("a URL such as \"redis://127.0.0.1:6379/0\"", validators::redis_url),
            unset("each API instance counts on its own");
        /// Time limit for Redis to count a request; if it is exceeded, the request is counted in memory.
        pub redis_timeout: Duration = "100ms", lasts("5ms", "10s");
    }
}
