//! The domain of Nightferry. Knows no HTTP server, no terminal and no cron.
