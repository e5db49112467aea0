//! The access levels of routes, as types. The same type appears in the route table and in the first argument of the
//! handler; if they differ, or if a handler declares none, the program does not compile ([`RequiresAccess`]).

use std::marker::PhantomData;
use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use nightferry_core::auth::permission::{self, Need, Scope};
use nightferry_core::auth::token::Claims;
use nightferry_core::error::Error;
use std::future::{Ready, ready};

use crate::error_response::{ApiError, Result};

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

/// The first argument of the handler of a public route.
pub(crate) struct PublicCaller;

/// The first argument of all other handlers: the authorized caller.
pub(crate) struct Caller<A: Access>(permission::Caller, PhantomData<A>);

impl<A: Access> Caller<A> {
    /// Returns the caller.
    pub(crate) fn into_inner(self) -> permission::Caller {
        self.0
    }
}

impl Caller<Session> {
    /// The claims of the session's access token.
    pub(crate) fn session(&self) -> Result<&Claims> {
        Ok(self.0.claims().ok_or(Error::Unauthenticated)?)
    }
}

impl<A: Access> Deref for Caller<A> {
    type Target = permission::Caller;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl FromRequest for PublicCaller {
    type Error = ApiError;
    type Future = Ready<Result<Self>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self))
    }
}

impl<A: Access> FromRequest for Caller<A> {
    type Error = ApiError;
    type Future = Ready<Result<Self>>;

    /// Takes the caller authorized for the route, and authorizes it again.
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let known = request.extensions().get::<permission::Caller>().cloned();
        ready(match (known, A::NEED) {
            (Some(caller), Some(need)) => {
                caller.may(need).map(|()| Self(caller, PhantomData)).map_err(ApiError::from)
            }
            _ => Err(Error::Unauthenticated.into()),
        })
    }
}

/// Implemented if the first handler argument declares the access level `A`.
pub(crate) trait RequiresAccess<A: Access> {
    /// Replaces the caller stored in the request by its current state.
    fn renew(&mut self, caller: permission::Caller);
}

macro_rules! asks {
    ($($other:ident)*) => {
        impl<$($other),*> RequiresAccess<Public> for (PublicCaller, $($other,)*) {
            fn renew(&mut self, _: permission::Caller) {}
        }

        impl<A: Access, $($other),*> RequiresAccess<A> for (Caller<A>, $($other,)*) {
            fn renew(&mut self, caller: permission::Caller) {
                self.0 = Caller(caller, PhantomData);
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
    fn the_first_argument_of_a_handler_is_the_access_of_its_route() {
        asks::<Public, (PublicCaller, String)>();
        asks::<Admin, (Caller<Admin>,)>();
        does_not_ask!((), Public);
        does_not_ask!((String,), Public);
        does_not_ask!((String, PublicCaller), Public);
        does_not_ask!((PublicCaller,), FilesRead);
        does_not_ask!((String,), FilesRead);
        does_not_ask!((Caller<FilesRead>, String), FilesWrite);
        does_not_ask!((Caller<FilesRead>,), Admin);
        does_not_ask!((String, Caller<Admin>), Admin);
    }
}
