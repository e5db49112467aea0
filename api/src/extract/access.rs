//! Who may call a route, as a type. The same type stands in the route table and in the handler's first argument; where
//! they differ, or where a handler names none, the program does not compile ([`Asks`]).

use std::marker::PhantomData;
use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use nightferry_core::auth::permission::{self, Need, Scope};
use nightferry_core::auth::token::Claims;
use nightferry_core::error::Error;
use std::future::{Ready, ready};

use crate::error_response::{ApiError, Result};

/// Who may call a route.
pub(crate) trait Access: 'static {
    /// What is asked of the caller; nothing of anybody when there is none.
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
    /// Everybody, also without an account.
    Public = None;
    /// Whoever proves who they are, by a session or any personal access token.
    SignedIn = Some(Need::SignedIn);
    /// Whoever signed in; no personal access token.
    Session = Some(Need::Session);
    /// Administrators who signed in; no personal access token.
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

/// The first argument of a handler that everybody may call.
pub(crate) struct Anyone;

/// The first argument of every other handler: somebody who may call it.
pub(crate) struct Caller<A: Access>(permission::Caller, PhantomData<A>);

impl<A: Access> Caller<A> {
    /// Gives the caller away.
    pub(crate) fn into_inner(self) -> permission::Caller {
        self.0
    }
}

impl Caller<Session> {
    /// What the session's access token says.
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

impl FromRequest for Anyone {
    type Error = ApiError;
    type Future = Ready<Result<Self>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self))
    }
}

impl<A: Access> FromRequest for Caller<A> {
    type Error = ApiError;
    type Future = Ready<Result<Self>>;

    /// Takes whom the route's door let in, and asks once more whether they may.
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

/// That the first of a handler's arguments states the access `A`.
pub(crate) trait Asks<A: Access> {
    /// Puts the caller as they are now in place of the one that was let in before.
    fn renew(&mut self, caller: permission::Caller);
}

macro_rules! asks {
    ($($other:ident)*) => {
        impl<$($other),*> Asks<Public> for (Anyone, $($other,)*) {
            fn renew(&mut self, _: permission::Caller) {}
        }

        impl<A: Access, $($other),*> Asks<A> for (Caller<A>, $($other,)*) {
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

    /// Does not compile when `$args` asks for `$access`: then `either` would be ambiguous.
    macro_rules! does_not_ask {
        ($args:ty, $access:ty) => {{
            trait Either<Which> {
                fn either() {}
            }
            impl<T> Either<()> for T {}
            struct Asking;
            impl<T: Asks<$access>> Either<Asking> for T {}
            <$args as Either<_>>::either();
        }};
    }

    fn asks<A: Access, Args: Asks<A>>() {}

    #[test]
    fn a_route_takes_only_handlers_that_state_its_access_first() {
        asks::<Public, (Anyone, String)>();
        asks::<Admin, (Caller<Admin>,)>();
        does_not_ask!((), Public);
        does_not_ask!((String,), Public);
        does_not_ask!((String, Anyone), Public);
        does_not_ask!((Anyone,), FilesRead);
        does_not_ask!((String,), FilesRead);
        does_not_ask!((Caller<FilesRead>, String), FilesWrite);
        does_not_ask!((Caller<FilesRead>,), Admin);
        does_not_ask!((String, Caller<Admin>), Admin);
    }
}
