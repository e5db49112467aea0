//! The route table: every path of the service, its methods, access levels and handlers. Only these routes are
//! reachable, and the OpenAPI document is generated from the same table.
//!
//! A line reads `"/path" Timeout { METHOD Access => handler, … }`. `Access` is one of the types of
//! [`crate::extract::access`]: `Public`, `SignedIn`, `Session`, `AdminSession`, `Admin`, or the scope that a personal
//! access token needs (`FilesRead`, `FilesWrite`, `Sync`). The first argument of the handler must be `Caller<Access>`,
//! or `PublicCaller` for `Public`; otherwise it does not compile. The caller is authorized before the rest of the
//! request is read (see [`crate::authorize`]).

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, web};
use nightferry_core::auth::permission::Need;
use nightferry_core::error::{Error, Noun};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::authorize;
use crate::error_response::ApiError;
use crate::extract::access::{self, Access as _};
use crate::handlers;
use crate::middleware::{Timeout, guard};

/// Generates the routing and the list of OpenAPI paths from lines `"/path" Timeout { METHOD Access => handler, … }`.
macro_rules! routes {
    ($( $path:literal $pace:ident { $( $method:ident $access:ident => $($handler:ident)::+ ),+ } )+) => {
        fn table(config: &mut web::ServiceConfig) {
            $(
                config.service(
                    web::resource($path)
                        $(.route(authorize::route::<access::$access, _, _>(Method::$method, handlers::$($handler)::+)))+
                        .default_service(web::to(|| async {
                            refuse_method(routes!(@allowed $($method)+))
                        }))
                        .wrap(from_fn(|request, next| guard($path, Timeout::$pace, request, next))),
                );
            )+
        }

        /// Paths of the OpenAPI document.
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($(handlers::$($handler)::+),+),+))]
        pub(crate) struct Documented;

        /// Every method and path, with its access level.
        pub(crate) const TABLE: &[(Method, &str, Option<Need>)] =
            &[$($((Method::$method, $path, access::$access::NEED)),+),+];
    };
    (@allowed $first:ident $($other:ident)*) => {
        concat!(stringify!($first) $(, ", ", stringify!($other))*)
    };
}

routes! {
    "/api/auth/signup" Standard { POST Public => auth::signup::signup }
    "/api/auth/login" Standard { POST Public => auth::login::login }
    "/api/auth/refresh" Standard { POST Public => auth::refresh::refresh }
    "/api/auth/logout" Standard { POST Session => auth::logout::logout }
    "/api/auth/logout-all" Standard { POST Session => auth::logout_all::logout_all }
    "/api/auth/password" Standard { POST Session => auth::password::change }
    "/api/auth/sessions" Standard { GET Session => auth::sessions::list }
    "/api/auth/sessions/{id}" Standard { DELETE Session => auth::sessions::end }
    "/api/auth/tokens" Standard { GET Session => auth::tokens::list, POST Session => auth::tokens::create }
    "/api/auth/tokens/{id}" Standard { DELETE Session => auth::tokens::revoke }
    "/api/auth/me" Standard { GET SignedIn => auth::me::show, PATCH Session => auth::me::change }

    "/api/auth/oidc/{provider}/start" Standard { GET Public => auth::oidc::start }
    "/api/auth/oidc/{provider}/callback" Standard { GET Public => auth::oidc::callback }
    "/.well-known/jwks.json" Standard { GET Public => auth::jwks::jwks }

    "/api/files" Standard { GET FilesRead => files::list::list }
    "/api/files/upload" Streaming { POST FilesWrite => files::upload::upload }
    "/api/files/{id}" Standard {
        GET FilesRead => files::show::show, PATCH FilesWrite => files::change::change, DELETE FilesWrite => files::delete::delete
    }
    "/api/files/{id}/download" Streaming { GET FilesRead => files::download::download, HEAD FilesRead => files::download::head }
    "/api/files/{id}/download-url" Standard { POST FilesRead => files::download_url::download_url }
    "/api/files/{id}/placement" Standard { GET FilesRead => files::placement::placement }
    "/api/files/{id}/sync" Standard { POST Sync => files::sync::sync }

    "/api/admin/sync" Standard { POST Admin => admin::sync::start::start }
    "/api/admin/sync/plan" Streaming { POST Admin => admin::sync::plan::make }
    "/api/admin/sync/plans/{id}" Standard { GET Admin => admin::sync::plan::show }
    "/api/admin/sync/runs" Standard { GET Admin => admin::sync::list::list }
    "/api/admin/sync/runs/{id}" Standard { GET Admin => admin::sync::show::show }
    "/api/admin/sync/runs/{id}/cancel" Standard { POST Admin => admin::sync::cancel::cancel }
    "/api/admin/sync/runs/{id}/failures" Standard { GET Admin => admin::sync::failures::failures }

    "/api/admin/users" Standard { GET Admin => admin::users::list::list, POST AdminSession => admin::users::create::create }
    "/api/admin/users/{id}" Standard { GET Admin => admin::users::show::show, PATCH AdminSession => admin::users::change::change }
    "/api/admin/audit" Standard { GET Admin => admin::audit::list }
    "/api/admin/stores" Standard { GET Admin => admin::stores::list::list }
    "/api/admin/stores/rebalance" Streaming {
        GET Admin => admin::stores::rebalance::plan, POST Admin => admin::stores::rebalance::begin,
        DELETE Admin => admin::stores::rebalance::stop
    }
    "/api/admin/stores/{name}/drain" Standard {
        POST Admin => admin::stores::drain::drain, DELETE Admin => admin::stores::undrain::undrain
    }

    "/health" Standard { GET Public => health::live::live }
    "/health/ready" Standard { GET Public => health::ready::ready }
    "/api/health" Standard { GET Public => health::ready::ready_in_api }
    "/metrics" Standard { GET Public => metrics::metrics }
    "/api/openapi.json" Standard { GET Public => docs::openapi }
}

/// All routes, the browsable documentation, and the fallback.
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
