//! The route table: every path of the service, its methods, access levels and handlers. Only these routes are
//! reachable, and the OpenAPI document is generated from the same table.
//!
//! A line reads `"/path" Timeout { METHOD Access => handler, … }`. `Access` is one of the types of
//! [`crate::extract::access`]: `Public`, `SignedIn`, `Session`, `AdminSession`, `Admin`, or the scope that a personal
//! access token needs (`FilesRead`, `FilesWrite`, `Sync`). The first argument of the handler must be `Call<Access>`, or
//! `PublicCall` for `Public`; otherwise it does not compile. The caller is authorized before the rest of the
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
    "/api/auth/signup" Standard { POST Public => auth::account::signup }
    "/api/auth/login" Standard { POST Public => auth::session::login }
    "/api/auth/refresh" Standard { POST Public => auth::session::refresh }
    "/api/auth/logout" Standard { POST Session => auth::session::logout }
    "/api/auth/logout-all" Standard { POST Session => auth::session::logout_all }
    "/api/auth/password" Standard { POST Session => auth::account::change_password }
    "/api/auth/sessions" Standard { GET Session => auth::session::list }
    "/api/auth/sessions/{id}" Standard { DELETE Session => auth::session::end }
    "/api/auth/tokens" Standard { GET Session => auth::tokens::list, POST Session => auth::tokens::create }
    "/api/auth/tokens/{id}" Standard { DELETE Session => auth::tokens::revoke }
    "/api/auth/me" Standard { GET SignedIn => auth::account::show, PATCH Session => auth::account::change }

    "/api/auth/oidc/{provider}/start" Standard { GET Public => auth::oidc::start }
    "/api/auth/oidc/{provider}/callback" Standard { GET Public => auth::oidc::callback }
    "/.well-known/jwks.json" Standard { GET Public => auth::tokens::jwks }

    "/api/files" Standard { GET FilesRead => files::list::list }
    "/api/files/upload" Streaming { POST FilesWrite => files::file::upload }
    "/api/files/{id}" Standard {
        GET FilesRead => files::file::show, PATCH FilesWrite => files::file::change, DELETE FilesWrite => files::file::delete
    }
    "/api/files/{id}/download" Streaming { GET FilesRead => files::download::download, HEAD FilesRead => files::download::head }
    "/api/files/{id}/download-url" Standard { POST FilesRead => files::download::download_url }
    "/api/files/{id}/placement" Standard { GET FilesRead => files::file::placement }
    "/api/files/{id}/sync" Standard { POST Sync => files::file::sync }

    "/api/admin/sync" Standard { POST Admin => admin::sync::start }
    "/api/admin/sync/plan" Streaming { POST Admin => admin::sync::make_plan }
    "/api/admin/sync/plans/{id}" Standard { GET Admin => admin::sync::show_plan }
    "/api/admin/sync/runs" Standard { GET Admin => admin::sync::list }
    "/api/admin/sync/runs/{id}" Standard { GET Admin => admin::sync::show }
    "/api/admin/sync/runs/{id}/cancel" Standard { POST Admin => admin::sync::cancel }
    "/api/admin/sync/runs/{id}/failures" Standard { GET Admin => admin::sync::failures }

    "/api/admin/users" Standard { GET Admin => admin::users::list, POST AdminSession => admin::users::create }
    "/api/admin/users/{id}" Standard { GET Admin => admin::users::show, PATCH AdminSession => admin::users::change }
    "/api/admin/audit" Standard { GET Admin => admin::audit::list }
    "/api/admin/stores" Standard { GET Admin => admin::stores::list }
    "/api/admin/stores/rebalance" Streaming {
        GET Admin => admin::stores::plan_rebalance, POST Admin => admin::stores::rebalance,
        DELETE Admin => admin::stores::stop_rebalance
    }
    "/api/admin/stores/{name}/drain" Standard {
        POST Admin => admin::stores::drain, DELETE Admin => admin::stores::undrain
    }

    "/health" Standard { GET Public => service::live }
    "/health/ready" Standard { GET Public => service::ready }
    "/api/health" Standard { GET Public => service::ready_in_api }
    "/metrics" Standard { GET Public => service::metrics }
    "/api/openapi.json" Standard { GET Public => service::openapi }
}

/// All routes, the browsable documentation, and the fallback.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    table(config);
    config
        .route("/", web::get().to(handlers::service::to_docs))
        .route("/api/docs", web::get().to(handlers::service::to_docs))
        .service(SwaggerUi::new("/api/docs/{_:.*}").config(Config::from("/api/openapi.json")))
        .default_service(web::to(|| async {
            Err::<HttpResponse, _>(ApiError::from(Error::NotFound(Noun::Address)))
        }));
}

fn refuse_method(allowed: &'static str) -> Result<HttpResponse, ApiError> {
    Err(ApiError::MethodNotAllowed(allowed))
}
