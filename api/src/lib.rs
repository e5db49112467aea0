//! The HTTP API of Nightferry: routes, handlers, middleware and the OpenAPI document. All HTTP-specific code is here;
//! domain rules are in the core crate.

mod authorize;
mod client;
mod cookies;
mod cors;
mod cross_site;
mod cursor;
mod error_response;
mod extract;
mod handlers;
mod health;
mod http;
mod limits;
mod metrics;
mod middleware;
mod openapi;
mod routes;
mod server;
mod state;
mod upload;

pub use openapi::document as openapi_document;
pub use server::{Server, ServerError, bind};
