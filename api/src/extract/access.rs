//! The access levels of routes, as types. The same type appears in the route table and in the first argument of the
//! handler; if they differ, or if a handler declares none, the program does not compile ([`RequiresAccess`]).

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::http::header::USER_AGENT;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use nightferry_core::auth::permission::{Caller, Need, Scope};
use nightferry_core::auth::token::Claims;
use nightferry_core::db::audit::{Channel, Origin};
use nightferry_core::db::users::User;
use nightferry_core::error::Error;
use nightferry_core::ids::UserId;

use crate::client::Client;
use crate::error_response::{ApiError, Result};
use crate::state::Api;

/// Maximum length of a stored user agent, in characters.
const MAX_USER_AGENT_LENGTH: usize = 256;

/// The access level of a route.
pub(crate) trait Access: 'static {
    /// The permission that the caller needs; `None` for public routes.
    const NEED: Option<Need>;
}

macro_rules! access {
    ($($(#[$doc:meta])* $name:ident = $need:expr;)+) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl Access for $name {
            const NEED: Option<Need> = $need;
        }
    )+};
}

access! {
    /// Everyone, without an account.
    Public = None;
    /// All authenticated callers, with a session or any personal access token.
    SignedIn = Some(Need::SignedIn);
    /// Callers with a session; no personal access tokens.
    Session = Some(Need::Session);
    /// Administrators with a session; no personal access tokens.
    AdminSession = Some(Need::AdminSession);
    /// Sessions, and tokens with the scope `files:read`.
    FilesRead = Some(Need::Scope(Scope::FilesRead));
    /// Sessions, and tokens with the scope `files:write`.
    FilesWrite = Some(Need::Scope(Scope::FilesWrite));
    /// Sessions, and tokens with the scope `sync`.
    Sync = Some(Need::Scope(Scope::Sync));
    /// Administrators: their sessions, and their tokens with the scope `admin`.
    Admin = Some(Need::Scope(Scope::Admin));
}

/// A request and the state of the service: the first argument of the handler of a public route.
pub(crate) struct PublicCall {
    pub(crate) request: HttpRequest,
    api: web::Data<Api>,
}

impl PublicCall {
    fn of(request: &HttpRequest) -> Result<Self> {
        let api = request.app_data::<web::Data<Api>>().cloned();
        let api = api.ok_or_else(|| Error::Internal("a route without its state".to_owned()))?;
        Ok(Self { request: request.clone(), api })
    }

    /// The address of the client and its user agent, for the audit log.
    pub(crate) fn origin(&self) -> Origin {
        let client = self.request.extensions().get::<Client>().copied();
        let ip = client.and_then(|client| client.ip).map(|ip| ip.to_string()).unwrap_or_default();
        let user_agent = self.request.headers().get(USER_AGENT).map(|value| {
            String::from_utf8_lossy(value.as_bytes()).chars().take(MAX_USER_AGENT_LENGTH).collect()
        });
        Origin { ip, user_agent: user_agent.unwrap_or_default(), channel: Channel::Api }
    }
}

impl Deref for PublicCall {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

/// The same with the authorized caller: the first argument of all other handlers.
pub(crate) struct Call<A: Access> {
    pub(crate) caller: Caller,
    inner: PublicCall,
    access: PhantomData<A>,
}

impl<A: Access> Call<A> {
    /// The account of the caller.
    pub(crate) fn user(&self) -> &User {
        &self.caller.user
    }

    /// The account that acts.
    pub(crate) fn actor(&self) -> UserId {
        self.caller.user.id
    }

    /// Whose files the caller may see: `None` for an administrator, who may see all.
    pub(crate) fn owner(&self) -> Option<UserId> {
        (!self.caller.is_admin()).then(|| self.actor())
    }
}

impl Call<Session> {
    /// The claims of the session's access token.
    pub(crate) fn session(&self) -> Result<&Claims> {
        Ok(self.caller.claims().ok_or(Error::Unauthenticated)?)
    }
}

impl<A: Access> Deref for Call<A> {
    type Target = PublicCall;

    fn deref(&self) -> &PublicCall {
        &self.inner
    }
}

impl FromRequest for PublicCall {
    type Error = ApiError;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}

impl<A: Access> FromRequest for Call<A> {
    type Error = ApiError;
    type Future = Ready<Result<Self>>;

    /// Takes the caller authorized for the route, and authorizes it again.
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let known = request.extensions().get::<Caller>().cloned();
        ready(known.zip(A::NEED).ok_or(ApiError::from(Error::Unauthenticated)).and_then(|(caller, need)| {
            caller.may(need)?;
            Ok(Self { caller, inner: PublicCall::of(request)?, access: PhantomData })
        }))
    }
}

/// Implemented if the first handler argument declares the access level `A`.
pub(crate) trait RequiresAccess<A: Access> {
    /// Replaces the caller stored in the request by its current state.
    fn renew(&mut self, caller: Caller);
}

macro_rules! asks {
    ($($other:ident)*) => {
        impl<$($other),*> RequiresAccess<Public> for (PublicCall, $($other,)*) {
            fn renew(&mut self, _: Caller) {}
        }

        impl<A: Access, $($other),*> RequiresAccess<A> for (Call<A>, $($other,)*) {
            fn renew(&mut self, caller: Caller) {
                self.0.caller = caller;
            }
        }
    };
}

asks!();
asks!(B);
asks!(B C);
asks!(B C D);
asks!(B C D E);
asks!(B C D E F);
asks!(B C D E F G);

#[cfg(test)]
mod tests {
    use super::*;

    /// Does not compile if `$args` declares `$access`: then `either` would be ambiguous.
    macro_rules! does_not_ask {
        ($args:ty, $access:ty) => {{
            trait Either<Which> {
                fn either() {}
            }
            impl<T> Either<()> for T {}
            struct Asking;
            impl<T: RequiresAccess<$access>> Either<Asking> for T {}
            <$args as Either<_>>::either();
        }};
    }

    fn asks<A: Access, Args: RequiresAccess<A>>() {}

    #[test]
    fn a_route_takes_only_handlers_that_state_its_access_first() {
        asks::<Public, (PublicCall, String)>();
        asks::<Admin, (Call<Admin>,)>();
        does_not_ask!((), Public);
        does_not_ask!((String,), Public);
        does_not_ask!((String, PublicCall), Public);
        does_not_ask!((PublicCall,), FilesRead);
        does_not_ask!((String,), FilesRead);
        does_not_ask!((Call<FilesRead>, String), FilesWrite);
        does_not_ask!((Call<FilesRead>,), Admin);
        does_not_ask!((String, Call<Admin>), Admin);
    }
}
