//! Ids in the path. A malformed id results in 404, like an id that does not exist.

use std::future::{Ready, ready};
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use nightferry_core::error::{Error, Noun};
use nightferry_core::ids::{FileId, PersonalTokenId, PlanId, RunId, SessionId, UserId};

use crate::error_response::{ApiError, Result};

/// The `{id}` of the path.
pub(crate) struct Id<T>(pub(crate) T);

/// An id, and what it names.
pub(crate) trait Named: FromStr {
    /// The kind of item that does not exist if the id is unknown.
    const NOUN: Noun;
}

macro_rules! named {
    ($($id:ident: $noun:ident),+) => { $(impl Named for $id { const NOUN: Noun = Noun::$noun; })+ };
}

named!(FileId: File, RunId: Run, UserId: User, PlanId: Plan, SessionId: Session, PersonalTokenId: Token);

/// The `{name}` of the path: a syntactically valid store name, which may not exist.
pub(crate) struct StoreName(pub(crate) String);

impl FromRequest for StoreName {
    type Error = ApiError;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let name = request.match_info().get("name").and_then(|name| name.parse().ok());
        let name = name.map(|name: nightferry_core::store::StoreName| Self(name.as_str().to_owned()));
        ready(name.ok_or_else(|| Error::NotFound(Noun::Store).into()))
    }
}

impl<T: Named> FromRequest for Id<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").and_then(|text| text.parse().ok());
        ready(id.map(Self).ok_or_else(|| Error::NotFound(T::NOUN).into()))
    }
}
