//! Request limits, and limits of failed sign-ins.

use std::time::Duration;

use super::declare::settings;
use super::validators;
use secrecy::SecretString;

settings! {
    /// The `[limits]` section.
    pub struct LimitsConfig {
        /// Whether the number of requests is limited. False where a proxy in front does it. Password guessing is
        /// always limited.
        pub enabled: bool = true;
        /// Maximum number of failed sign-ins for one account from one address (IPv6: /64 network) within the window;
        /// then the address is locked out, at first for the duration of the window, then longer.
        pub failed_logins: u32 = 10, range(1, 1000);
        /// The window for counting failed sign-ins.
        pub failed_login_window: Duration = "15m", lasts("10s", "1d");
        /// Maximum number of failed sign-ins for one account from all addresses together within the window; then only
        /// addresses from which its owner has signed in before may try.
        pub failed_logins_everywhere: u32 = 100, range(1, 100_000);
        /// Requests below `/api/auth/` that one address (of IPv6: one /64) may make in a minute.
        pub auth_requests_per_minute: u32 = 600, range(1, 10_000_000);
        /// Maximum number of other requests per caller and second: per account, or per address for clients that are not
        /// signed in.
        pub requests_per_second: u32 = 100, range(1, 10_000_000);
        /// Callers that are tracked in memory, at about 200 bytes each. Beyond that, new ones share what is left.
        pub tracked_callers: usize = 100_000, range(100, 100_000_000);
        /// A Redis or Valkey for counting requests across all API instances. While it is unavailable, each instance
        /// counts on its own.
        pub redis_url: Option<SecretString>,
            text("a URL such as \"redis://127.0.0.1:6379/0\"", validators::redis_url),
            unset("each API instance counts on its own");
        /// Timeout of Redis for counting a request; after that, the request is counted in memory.
        pub redis_timeout: Duration = "100ms", lasts("5ms", "10s");
    }
}
