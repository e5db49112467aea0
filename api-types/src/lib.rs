//! The JSON types of Nightferry, each defined once: requests and responses of the HTTP API, and the output of the CLI
//! with `--json`. Names are stable and in `snake_case`, sizes are exact numbers of bytes, times are RFC 3339. Fields
//! may be added; renaming one breaks clients. The types contain no logic; each has a constructor from its domain type.

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

/// Declares a type and its constructor, `from` or `new`, from domain types: each field with its value.
macro_rules! view {
    (
        $(#[$meta:meta])*
        pub struct $name:ident: $constructor:ident($($argument:ident: $of:ty),+) {$(
            $(#[$field_meta:meta])*
            $visibility:vis $field:ident: $type:ty = $value:expr,
        )+}
    ) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* $visibility $field: $type,)+
        }

        view! { @$constructor $name($($argument: $of),+) { $($field: $value,)+ } }
    };
    (@from $name:ident($argument:ident: $of:ty) $fields:tt) => {
        impl From<$of> for $name {
            fn from($argument: $of) -> Self {
                Self $fields
            }
        }
    };
    (@new $name:ident($($argument:ident: $of:ty),+) $fields:tt) => {
        impl $name {
            /// Creates the view.
            pub fn new($($argument: $of),+) -> Self {
                Self $fields
            }
        }
    };
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
    /// 1 to 200, by default 50.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    pub limit: Option<String>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
}
