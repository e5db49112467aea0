//! The URL table: every address of the service, its methods, who may call them and who handles them. Nothing is reachable
//! that does not stand here, and the OpenAPI document is made from the same table.
//!
//! A line reads `"/path" Pace { METHOD Access => handler, … }`. `Access` is one of the types of
//! [`crate::extract::access`]: `Public`, `SignedIn`, `Session`, `AdminSession`, `Admin`, or the scope that a personal
//! access token needs (`FilesRead`, `FilesWrite`, `Sync`). The handler's first argument must say the same:
//! `Caller<Access>`, or `Anyone` for `Public`; else it does not compile. Who calls is asked before the rest of the request
//! is read (see [`crate::door`]).

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, web};
use nightferry_core::auth::permission::Need;
use nightferry_core::error::{Error, Noun};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::door;
use crate::error_response::ApiError;
use crate::extract::access::{self, Access as _};
use crate::handlers;
use crate::middleware::{Pace, guard};

/// Makes, of lines `"/path" Pace { METHOD Access => handler, … }`, the routing and the list of the OpenAPI document's paths.
macro_rules! routes {
    ($( $path:literal $pace:ident { $( $method:ident $access:ident => $($handler:ident)::+ ),+ } )+) => {
        fn table(config: &mut web::ServiceConfig) {
            $(
                config.service(
                    web::resource($path)
                        $(.route(door::route::<access::$access, _, _>(Method::$method, handlers::$($handler)::+)))+
                        .default_service(web::to(|| async {
                            refuse_method(routes!(@allowed $($method)+))
                        }))
                        .wrap(from_fn(|request, next| guard($path, Pace::$pace, request, next))),
                );
            )+
        }

        /// Paths of the OpenAPI document.
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($(handlers::$($handler)::+),+),+))]
        pub(crate) struct Documented;

        /// Every method and path, and what is asked of the caller.
        pub(crate) const TABLE: &[(Method, &str, Option<Need>)] =
            &[$($((Method::$method, $path, access::$access::NEED)),+),+];
    };
    (@allowed $first:ident $($other:ident)*) => {
        concat!(stringify!($first) $(, ", ", stringify!($other))*)
    };
}

routes! {
    "/api/auth/signup" Quick { POST Public => auth::signup::signup }
    "/api/auth/login" Quick { POST Public => auth::login::login }
    "/api/auth/refresh" Quick { POST Public => auth::refresh::refresh }
    "/api/auth/logout" Quick { POST Session => auth::logout::logout }
    "/api/auth/logout-all" Quick { POST Session => auth::logout_all::logout_all }
    "/api/auth/password" Quick { POST Session => auth::password::change }
    "/api/auth/sessions" Quick { GET Session => auth::sessions::list }
    "/api/auth/sessions/{id}" Quick { DELETE Session => auth::sessions::end }
    "/api/auth/tokens" Quick { GET Session => auth::tokens::list, POST Session => auth::tokens::create }
    "/api/auth/tokens/{id}" Quick { DELETE Session => auth::tokens::revoke }
    "/api/auth/me" Quick { GET SignedIn => auth::me::show, PATCH Session => auth::me::change }

    "/api/auth/oidc/{provider}/start" Quick { GET Public => auth::oidc::start }
    "/api/auth/oidc/{provider}/callback" Quick { GET Public => auth::oidc::callback }
    "/.well-known/jwks.json" Quick { GET Public => auth::jwks::jwks }

    "/api/files" Quick { GET FilesRead => files::list::list }
    "/api/files/upload" Streams { POST FilesWrite => files::upload::upload }
    "/api/files/{id}" Quick {
        GET FilesRead => files::show::show, PATCH FilesWrite => files::change::change, DELETE FilesWrite => files::delete::delete
    }
    "/api/files/{id}/download" Streams { GET FilesRead => files::download::download, HEAD FilesRead => files::download::head }
    "/api/files/{id}/download-url" Quick { POST FilesRead => files::download_url::download_url }
    "/api/files/{id}/placement" Quick { GET FilesRead => files::placement::placement }
    "/api/files/{id}/sync" Quick { POST Sync => files::sync::sync }

    "/api/admin/sync" Quick { POST Admin => admin::sync::start::start }
    "/api/admin/sync/plan" Streams { POST Admin => admin::sync::plan::make }
    "/api/admin/sync/plans/{id}" Quick { GET Admin => admin::sync::plan::show }
    "/api/admin/sync/runs" Quick { GET Admin => admin::sync::list::list }
    "/api/admin/sync/runs/{id}" Quick { GET Admin => admin::sync::show::show }
    "/api/admin/sync/runs/{id}/cancel" Quick { POST Admin => admin::sync::cancel::cancel }
    "/api/admin/sync/runs/{id}/failures" Quick { GET Admin => admin::sync::failures::failures }

    "/api/admin/users" Quick { GET Admin => admin::users::list::list, POST AdminSession => admin::users::create::create }
    "/api/admin/users/{id}" Quick { GET Admin => admin::users::show::show, PATCH AdminSession => admin::users::change::change }
    "/api/admin/audit" Quick { GET Admin => admin::audit::list }
    "/api/admin/stores" Quick { GET Admin => admin::stores::list::list }
    "/api/admin/stores/rebalance" Streams {
        GET Admin => admin::stores::rebalance::plan, POST Admin => admin::stores::rebalance::begin,
        DELETE Admin => admin::stores::rebalance::stop
    }
    "/api/admin/stores/{name}/drain" Quick {
        POST Admin => admin::stores::drain::drain, DELETE Admin => admin::stores::undrain::undrain
    }

    "/health" Quick { GET Public => health::live::live }
    "/health/ready" Quick { GET Public => health::ready::ready }
    "/api/health" Quick { GET Public => health::ready::ready_in_api }
    "/metrics" Quick { GET Public => metrics::metrics }
    "/api/openapi.json" Quick { GET Public => docs::openapi }
}

/// Every route, the browsable documentation, and an answer for everything else.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    table(config);
    config
        .route("/", web::get().to(handlers::docs::to_docs))
        .route("/api/docs", web::get().to(handlers::docs::to_docs))
        .service(SwaggerUi::new("/api/docs/{_:.*}").config(Config::from("/api/openapi.json")))
        .default_service(web::to(|| async {
            Err::<HttpResponse, _>(ApiError::from(Error::NotFound(Noun::Address)))
        }));
}

fn refuse_method(allowed: &'static str) -> Result<HttpResponse, ApiError> {
    Err(ApiError::MethodNotAllowed(allowed))
}
