//! Opens a Postgres connection: timeout, TLS as configured, session limits. Used by the pool and the listener.

use std::sync::Arc;

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use secrecy::ExposeSecret;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{DatabaseConfig, DatabaseTls};

/// Connects within the configured time and sets the session limits, so that neither a slow query nor a transaction
/// abandoned by a cancelled task can hold locks forever.
pub(super) async fn connect(config: DatabaseConfig) -> ConnectionResult<AsyncPgConnection> {
    let connected = tokio::time::timeout(config.connect_timeout, establish(&config)).await;
    connected.unwrap_or_else(|_| Err(bad("connecting took longer than database.connect_timeout")))
}

async fn establish(config: &DatabaseConfig) -> ConnectionResult<AsyncPgConnection> {
    let mut options: tokio_postgres::Config =
        config.url.expose_secret().parse().map_err(|error: tokio_postgres::Error| bad(error))?;
    options.ssl_mode(match config.tls {
        DatabaseTls::Disable => SslMode::Disable,
        DatabaseTls::Prefer => SslMode::Prefer,
        DatabaseTls::Require => SslMode::Require,
    });
    if options.get_application_name().is_none() {
        options.application_name("nightferry");
    }
    let tls = MakeRustlsConnect::new(tls_config(config.tls)?);
    let (client, connection) = options.connect(tls).await.map_err(|error| bad(in_words(&error)))?;
    let mut conn = AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
    let statement_ms = config.statement_timeout.as_millis();
    conn.batch_execute(&format!(
        "SET statement_timeout = {statement_ms}; SET lock_timeout = {statement_ms}; \
         SET idle_in_transaction_session_timeout = '60s'; SET timezone = 'UTC'"
    ))
    .await
    .map_err(bad)?;
    Ok(conn)
}

/// With `require`, the certificate of the server is verified with the system's roots; with `prefer`, any certificate is
/// accepted, as in libpq: this protects against eavesdropping, not against impersonation.
fn tls_config(mode: DatabaseTls) -> ConnectionResult<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(bad)?;
    if mode == DatabaseTls::Require {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let verifier = Arc::new(AnyCertificate(provider));
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn bad(error: impl std::fmt::Display) -> ConnectionError {
    ConnectionError::BadConnection(error.to_string())
}

/// The details of a tokio-postgres error are in its source.
fn in_words(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
