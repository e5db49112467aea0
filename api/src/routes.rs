//! The URL table: every address of the service, its methods and who handles them. Nothing is reachable that does not
//! stand here, and the OpenAPI document is made from the same table.

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, web};
use nightferry_core::error::Error;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::error_response::ApiError;
use crate::handlers;
use crate::middleware::{Pace, guard};

/// Makes, of lines `"/path" Pace { METHOD => handler, … }`, the routing and the list of the OpenAPI document's paths.
macro_rules! routes {
    ($( $path:literal $pace:ident { $( $method:ident => $($handler:ident)::+ ),+ } )+) => {
        fn table(config: &mut web::ServiceConfig) {
            $(
                config.service(
                    web::resource($path)
                        $(.route(web::method(Method::$method).to(handlers::$($handler)::+)))+
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

        /// Every method and path.
        #[cfg(test)]
        pub(crate) const TABLE: &[(Method, &str)] = &[$($((Method::$method, $path)),+),+];
    };
    (@allowed $first:ident $($other:ident)*) => {
        concat!(stringify!($first) $(, ", ", stringify!($other))*)
    };
}

routes! {
    "/api/auth/signup" Quick { POST => auth::signup::signup }
    "/api/auth/login" Quick { POST => auth::login::login }
    "/api/auth/refresh" Quick { POST => auth::refresh::refresh }
    "/api/auth/logout" Quick { POST => auth::logout::logout }
    "/api/auth/me" Quick { GET => auth::me::show, PATCH => auth::me::change }

    "/api/files" Quick { GET => files::list::list }
    "/api/files/upload" Streams { POST => files::upload::upload }
    "/api/files/{id}" Quick {
        GET => files::show::show, PATCH => files::change::change, DELETE => files::delete::delete
    }
    "/api/files/{id}/download" Streams { GET => files::download::download, HEAD => files::download::head }
    "/api/files/{id}/download-url" Quick { POST => files::download_url::download_url }
    "/api/files/{id}/placement" Quick { GET => files::placement::placement }
    "/api/files/{id}/sync" Quick { POST => files::sync::sync }

    "/api/admin/sync" Quick { POST => admin::sync::start::start }
    "/api/admin/sync/plan" Streams { POST => admin::sync::plan::make }
    "/api/admin/sync/plans/{id}" Quick { GET => admin::sync::plan::show }
    "/api/admin/sync/runs" Quick { GET => admin::sync::list::list }
    "/api/admin/sync/runs/{id}" Quick { GET => admin::sync::show::show }
    "/api/admin/sync/runs/{id}/cancel" Quick { POST => admin::sync::cancel::cancel }
    "/api/admin/sync/runs/{id}/failures" Quick { GET => admin::sync::failures::failures }

    "/api/admin/stores" Quick { GET => admin::stores::list::list }
    "/api/admin/stores/{name}/drain" Quick {
        POST => admin::stores::drain::drain, DELETE => admin::stores::undrain::undrain
    }

    "/health" Quick { GET => health::live::live }
    "/health/ready" Quick { GET => health::ready::ready }
    "/api/health" Quick { GET => health::ready::ready_in_api }
    "/metrics" Quick { GET => metrics::metrics }
    "/api/openapi.json" Quick { GET => docs::openapi }
}

/// Every route, the browsable documentation, and an answer for everything else.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    table(config);
    config
        .route("/", web::get().to(handlers::docs::to_docs))
        .route("/api/docs", web::get().to(handlers::docs::to_docs))
        .service(SwaggerUi::new("/api/docs/{_:.*}").config(Config::from("/api/openapi.json")))
        .default_service(web::to(|| async {
            Err::<HttpResponse, _>(ApiError::from(Error::NotFound("address")))
        }));
}

fn refuse_method(allowed: &'static str) -> Result<HttpResponse, ApiError> {
    Err(ApiError::MethodNotAllowed(allowed))
}
