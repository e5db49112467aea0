//! Whose request one is, for counting: an account that its token proves, else the network it comes from. A token is
//! believed only when it is signed: whoever makes up tokens stays one caller.

use std::fmt;
use std::net::IpAddr;

use actix_web::HttpMessage;
use actix_web::dev::ServiceRequest;
use actix_web::http::header::AUTHORIZATION;
use nightferry_core::auth::network;
use nightferry_core::auth::personal_token::is_personal;
use nightferry_core::context::Context;
use nightferry_core::ids::UserId;

use crate::client::Client;
use crate::cookies;
use crate::extract::authenticate;

/// One who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Account(UserId),
    Network(IpAddr),
    /// Of a client whose address is not known: a local socket.
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

impl Key {
    /// The network that a request comes from.
    pub(super) fn network(request: &ServiceRequest) -> Self {
        let client = request.extensions().get::<Client>().copied();
        client.and_then(|client| client.ip).map_or(Self::Nobody, |ip| Self::Network(network::of(ip)))
    }

    /// The account whose session makes a request, else the network that it comes from. Whether a personal access token is
    /// genuine only the database knows, which is not asked for those who may be sent away: they count as their network.
    pub(super) async fn caller(context: &Context, request: &ServiceRequest) -> Self {
        let Some(token) = access_token(context, request) else { return Self::network(request) };
        match context.tokens.check(&context.db, &token, context.clock.now()).await {
            Ok(claims) => Self::Account(claims.sub),
            Err(_) => Self::network(request),
        }
    }
}

/// A session's access token, in the header or the cookie.
fn access_token(context: &Context, request: &ServiceRequest) -> Option<String> {
    let token = if request.headers().contains_key(AUTHORIZATION) {
        authenticate::bearer(request.request())?
    } else {
        cookies::read(request.request(), &context.config.auth, cookies::Name::Access)?
    };
    (!is_personal(&token)).then_some(token)
}
