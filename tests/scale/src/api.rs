//! An API in this process for one request: `/metrics` reuses its counts for some time, so each measurement starts its own.

use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow};
use nightferry_core::services::Services;
use tokio_util::sync::CancellationToken;

/// A running API. It uses its own connections to the database, which end with it.
pub struct Api {
    base: String,
    shutdown: CancellationToken,
    thread: JoinHandle<Result<()>>,
}

impl Api {
    /// Starts an API with these services, which nothing else may use: its connections belong to its own runtime.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn start(services: Services) -> Result<Self> {
        let server = nightferry_api::bind(services)?;
        let base = format!("http://{}", server.address());
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        // The actix server stays on the thread on which it was started.
        let thread = std::thread::spawn(move || -> Result<()> {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(server.run(stop))?;
            Ok(())
        });
        Ok(Self { base, shutdown, thread })
    }

    /// The body of a successful response.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get(&self, path: &str) -> Result<String> {
        // A connection of its own, which is closed at once: the API waits for open ones when it stops.
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
        let response = client.get(format!("{}{path}", self.base)).send().await?.error_for_status()?;
        Ok(response.text().await?)
    }

    /// Stops it and waits for its end.
    ///
    /// # Errors
    /// If it failed.
    pub async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        let joined =
            tokio::task::spawn_blocking(move || self.thread.join()).await.context("joining the API")?;
        joined.map_err(|_| anyhow!("the API panicked"))?
    }
}
