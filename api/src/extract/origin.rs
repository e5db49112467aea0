//! The origin of a request, for the audit log.

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::USER_AGENT;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use nightferry_core::db::audit::{Channel, Origin};

use crate::client::Client;

/// Maximum length of a stored user agent, in characters.
const MAX_USER_AGENT_LENGTH: usize = 256;

/// The address of the client, and its user agent.
pub(crate) struct ClientOrigin(pub(crate) Origin);

impl FromRequest for ClientOrigin {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let client = request.extensions().get::<Client>().copied();
        let ip = client.and_then(|client| client.ip).map(|ip| ip.to_string()).unwrap_or_default();
        let user_agent = request
            .headers()
            .get(USER_AGENT)
            .map(|value| {
                String::from_utf8_lossy(value.as_bytes()).chars().take(MAX_USER_AGENT_LENGTH).collect()
            })
            .unwrap_or_default();
        ready(Ok(Self(Origin { ip, user_agent, channel: Channel::Api })))
    }
}
