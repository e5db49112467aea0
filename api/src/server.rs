//! The HTTP server: bound first, so that its address is known, then run until shutdown.

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::middleware::{Compat, from_fn};
use actix_web::{App, HttpServer, rt, web};
use nightferry_core::auth::{Accounts, keys};
use nightferry_core::file::access;
use nightferry_core::object::health;
use nightferry_core::services::Services;
use socket2::SockRef;
use tokio_util::sync::CancellationToken;

use crate::cors::cors;
use crate::middleware::{around, limit};
use crate::routes;
use crate::state::Api;

/// How long a closing connection is still read, so that a client that is sending sees the response instead of a reset;
/// and the time limit for closing.
const LINGER: Duration = Duration::from_secs(10);

/// Interval between attempts to prepare the signing keys.
const KEY_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Why the server failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be bound.
    #[error("cannot listen on {address} (server.host, server.port): {source}")]
    Bind {
        /// As configured.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The server failed while running.
    #[error("the HTTP server failed: {0}")]
    Run(#[from] io::Error),
}

/// A bound server that handles requests once it is run.
pub struct Server {
    services: Services,
    listener: TcpListener,
    address: SocketAddr,
}

/// Binds `server.host` and `server.port`; port 0 selects a free one.
///
/// # Errors
/// [`ServerError::Bind`].
pub fn bind(services: Services) -> Result<Server, ServerError> {
    let address = services.context.config.server.address();
    let bound = TcpListener::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (actual, listener) = bound.map_err(|source| ServerError::Bind { address, source })?;
    Ok(Server { services, listener, address: actual })
}

impl Server {
    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is cancelled, then finishes requests in flight within `server.shutdown_grace`. Must be
    /// called within a multi-thread tokio runtime, which also runs the connections to the database and the stores: the
    /// server's own threads end with it.
    ///
    /// # Errors
    /// [`ServerError::Run`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServerError> {
        let address = self.address;
        let Services { context, accounts, files, .. } = self.services.clone();
        let running = self.start(shutdown)?;
        tracing::info!(%address, "the API is listening");
        // Until the last download has started.
        let served = CancellationToken::new();
        tokio::spawn(prepare_keys(accounts, served.clone()));
        let watching = tokio::spawn(health::watch(context, "api", served.clone()));
        let noting = tokio::spawn(access::keep_flushing(files, served.clone()));
        let outcome = running.await;
        served.cancel();
        if let Err(error) = noting.await {
            tracing::warn!(%error, "the task that records read times failed");
        }
        if let Err(error) = watching.await {
            tracing::warn!(%error, "the task that checks the stores failed");
        }
        outcome?;
        tracing::info!("the API has stopped");
        Ok(())
    }

    fn start(self, shutdown: CancellationToken) -> Result<actix_web::dev::Server, ServerError> {
        let config = self.services.context.config.server.clone();
        let api = web::Data::new(Api::new(self.services, self.address, tokio::runtime::Handle::current()));
        let idle = config.client_idle_timeout;
        let mut server = HttpServer::new(move || {
            App::new()
                .app_data(api.clone())
                .wrap(from_fn(limit))
                .wrap(Compat::new(cors(&api.context.config.server.cors)))
                .wrap(from_fn(around))
                .configure(routes::configure)
        })
        .on_connect(move |connection, _| give_up_on_deaf_clients(connection, idle))
        .keep_alive(idle)
        .client_request_timeout(config.request_timeout)
        .client_disconnect_timeout(LINGER)
        .shutdown_timeout(config.shutdown_grace.as_secs())
        .shutdown_signal(shutdown.cancelled_owned());
        if config.workers > 0 {
            server = server.workers(config.workers);
        }
        Ok(server.listen(self.listener)?.run())
    }
}

/// Creates the configured signing keys as soon as the database is available.
async fn prepare_keys(accounts: Accounts, served: CancellationToken) {
    while let Err(error) = keys::prepare(&accounts).await {
        tracing::warn!(%error, "cannot prepare the signing keys; retrying");
        if served.run_until_cancelled(tokio::time::sleep(KEY_RETRY_INTERVAL)).await.is_none() {
            return;
        }
    }
}

/// A client that receives nothing for so long is disconnected by the kernel (`TCP_USER_TIMEOUT`, RFC 5482): this costs
/// nothing per chunk, and works while the connection is not polled.
fn give_up_on_deaf_clients(connection: &dyn Any, after: Duration) {
    let Some(stream) = connection.downcast_ref::<rt::net::TcpStream>() else { return };
    #[cfg(target_os = "linux")]
    if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(after)) {
        tracing::debug!(%error, "cannot set the idle timeout of a connection");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (SockRef::from(stream), after);
}
