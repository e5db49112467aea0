//! The listening server: bound first, so that its address is known, then run until it is told to stop.

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

/// How long a connection that is to be closed is still read from, so that a client that is sending sees the answer
/// instead of a reset; and how long closing may take.
const LINGER: Duration = Duration::from_secs(10);

/// When the signing keys are prepared again after that failed.
const KEYS_AGAIN: Duration = Duration::from_secs(5);

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address} (server.host, server.port): {source}")]
    Bind {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server broke while it ran.
    #[error("the HTTP server failed: {0}")]
    Run(#[from] io::Error),
}

/// A server that listens already and answers as soon as it is run.
pub struct Server {
    services: Services,
    listener: TcpListener,
    address: SocketAddr,
}

/// Listens on `server.host` and `server.port`; port 0 takes a free one.
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
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is cancelled, then ends what is in flight within `server.shutdown_grace`. Must be
    /// called within a multi-thread tokio runtime, which then also carries the connections to database and stores:
    /// the server's own threads end with it.
    ///
    /// # Errors
    /// [`ServerError::Run`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServerError> {
        let address = self.address;
        let Services { context, accounts, files, .. } = self.services.clone();
        let running = self.start(shutdown)?;
        tracing::info!(%address, "the API is listening");
        // Until the last download has begun.
        let served = CancellationToken::new();
        tokio::spawn(prepare_keys(accounts, served.clone()));
        let watching = tokio::spawn(health::watch(context, "api", served.clone()));
        let noting = tokio::spawn(access::keep_flushing(files, served.clone()));
        let outcome = running.await;
        served.cancel();
        if let Err(error) = noting.await {
            tracing::warn!(%error, "noting when files are read ended badly");
        }
        if let Err(error) = watching.await {
            tracing::warn!(%error, "watching the stores ended badly");
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

/// Makes the signing keys that the configuration wants, as soon as the database is there.
async fn prepare_keys(accounts: Accounts, served: CancellationToken) {
    while let Err(error) = keys::prepare(&accounts).await {
        tracing::warn!(%error, "the signing keys could not be prepared, that is tried again");
        if served.run_until_cancelled(tokio::time::sleep(KEYS_AGAIN)).await.is_none() {
            return;
        }
    }
}

/// A client that takes no byte of its download for so long is cut off by the kernel (`TCP_USER_TIMEOUT`, RFC 5482):
/// that costs nothing per chunk, and works while nobody polls the connection.
fn give_up_on_deaf_clients(connection: &dyn Any, after: Duration) {
    let Some(stream) = connection.downcast_ref::<rt::net::TcpStream>() else { return };
    #[cfg(target_os = "linux")]
    if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(after)) {
        tracing::debug!(%error, "a connection's idle timeout could not be set");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (SockRef::from(stream), after);
}
