//! The JSON shapes of Nightferry, each defined once: what the HTTP API takes and returns, and what the command line prints
//! with `--json`. Stable names in `snake_case`, exact bytes, times in RFC 3339. Adding a field is fine; renaming one breaks
//! other programs. Nothing in here decides anything; each shape says from which type of the domain it is made.

/// A document that one place makes: an object with these members, in this order.
#[macro_export]
macro_rules! document {
    ($($name:ident: $value:expr),+ $(,)?) => {{
        #[allow(non_camel_case_types, reason = "each member has a type parameter of its name")]
        let document = {
            #[derive(serde::Serialize)]
            struct Document<$($name),+> { $($name: $name),+ }
            Document { $($name: $value),+ }
        };
        document
    }};
}

pub mod account;
pub mod audit;
pub mod catalog;
pub mod file;
pub mod health;
pub mod key;
pub mod placement;
pub mod plan;
pub mod problem;
pub mod rebalance;
pub mod run;
pub mod store;
pub mod token;

use serde::Deserialize;
use utoipa::IntoParams;

/// Paging parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// 1 to 200; 50 when absent.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    pub limit: Option<String>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
}
