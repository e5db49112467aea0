//! Whose request one is, for counting: an account that its token proves, else the network it comes from. A token is
//! believed only when it is signed: whoever makes up tokens stays one caller.

use std::fmt;
use std::net::IpAddr;

use actix_web::HttpMessage;
use actix_web::dev::ServiceRequest;
use actix_web::http::header::AUTHORIZATION;
use nightferry_core::auth::network;
use nightferry_core::context::Context;
use nightferry_core::ids::UserId;

use crate::client::Client;

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

    /// The account that makes a request, else the network that it comes from.
    pub(super) fn caller(context: &Context, request: &ServiceRequest) -> Self {
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.trim().split_once(' ')).map(|(_, token)| token.trim());
        match token.map(|token| context.tokens.check(token, context.clock.now())) {
            Some(Ok(claims)) => Self::Account(claims.sub),
            _ => Self::network(request),
        }
    }
}
