//! Sends away whoever asks for too much, before anything is done for them, and tells everybody where they stand.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, web};
use nightferry_core::error::Error::RateLimited;

use super::OnRuntime;
use crate::error_response::ApiError;
use crate::state::Api;

/// See the module.
pub(crate) async fn limit(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(api) = request.app_data::<web::Data<Api>>().cloned() else { return next.call(request).await };
    let Some(verdict) = OnRuntime::new(&api.runtime, api.limits.check(&api.context, &request)).await else {
        return next.call(request).await;
    };
    let mut response = match verdict.retry_after() {
        Some(retry_after) => {
            let refused = ApiError::from(RateLimited { retry_after });
            ServiceResponse::from_err(refused, request.into_parts().0)
        }
        None => next.call(request).await?,
    };
    verdict.tell(response.headers_mut());
    Ok(response)
}
