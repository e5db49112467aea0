//! Ids in the path, and names of stores. A malformed one results in 404, like one that does not exist.

use std::future::{Ready, ready};
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use nightferry_core::error::{Error, Noun};
use nightferry_core::ids::{FileId, PersonalTokenId, PlanId, RunId, SessionId, UserId};
use nightferry_core::store::StoreName;

use crate::error_response::{ApiError, Result};

/// The `{id}` or the `{name}` of the path.
pub(crate) struct Id<T>(pub(crate) T);

/// An id, and what it names.
pub(crate) trait Named: FromStr {
    /// The kind of item that does not exist if the id is unknown.
    const NOUN: Noun;
}

macro_rules! named {
    ($($id:ident: $noun:ident),+) => { $(impl Named for $id { const NOUN: Noun = Noun::$noun; })+ };
}

named!(FileId: File, RunId: Run, UserId: User, PlanId: Plan, SessionId: Session, PersonalTokenId: Token, StoreName: Store);

impl<T: Named> FromRequest for Id<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let parameters = request.match_info();
        let text = parameters.get("id").or_else(|| parameters.get("name"));
        let id = text.and_then(|text| text.parse().ok());
        ready(id.map(Self).ok_or_else(|| Error::NotFound(T::NOUN).into()))
    }
}
