//! Extractors for handlers. Every failure is an [`crate::error_response::ApiError`], so that clients only see problem
//! documents.

pub(crate) mod access;
pub(crate) mod authenticate;
mod body;
mod path;
mod query;

pub(crate) use access::{Call, PublicCall};
pub(crate) use body::{Json, OptionalJson, holds_nul};
pub(crate) use path::Id;
pub(crate) use query::{Query, choice, flag, page_size, whole_number};
