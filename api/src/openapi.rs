//! The OpenAPI document: generated from the route table and the handlers, with the parts common to all operations added
//! here.

use actix_web::http::Method;
use nightferry_api_types::problem::{FieldProblem, Problem};
use nightferry_core::auth::permission::{Need, Scope};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, Content, ContentBuilder, InfoBuilder, License, OpenApi, Ref, RefOr, ResponseBuilder,
    SecurityRequirement,
};
use utoipa::{OpenApi as _, PartialSchema, ToSchema};

use crate::routes::{Documented, TABLE};

const SESSION: &str = "access_token";
const PERSONAL: &str = "personal_access_token";
const COOKIE: &str = "session_cookie";

const TAGS: [(&str, &str); 4] = [
    ("accounts", "Accounts and sessions"),
    ("files", "Files"),
    ("administration", "For accounts with the role `admin`"),
    ("service", "The service itself"),
];

/// The whole document.
pub fn document() -> OpenApi {
    let mut document = Documented::openapi();
    document.info = InfoBuilder::new()
        .title("Nightferry")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Self-hosted hybrid file storage: uploads are stored on a local S3 store and copied to the \
             cloud every night.\n\nErrors are problem documents (RFC 9457); `error_code` is a stable name \
             for programs. Every response has an `X-Request-Id` header.",
        ))
        .license(Some(License::new("MIT OR Apache-2.0")))
        .build();
    let tag = |(name, text): (&str, &str)| TagBuilder::new().name(name).description(Some(text)).build();
    document.tags = Some(TAGS.map(tag).to_vec());
    let components = document.components.get_or_insert_with(Components::new);
    for (name, scheme) in schemes() {
        components.add_security_scheme(name, scheme);
    }
    for (name, schema) in
        [(Problem::name(), Problem::schema()), (FieldProblem::name(), FieldProblem::schema())]
    {
        components.schemas.insert(name.into_owned(), schema);
    }
    for (method, path, need) in TABLE {
        let Some(item) = document.paths.paths.get_mut(*path) else { continue };
        if let Some(operation) = operation(item, method) {
            add_access(operation, *need);
            add_failures(operation, path.contains('{'), *need);
        }
    }
    document
}

fn schemes() -> [(&'static str, SecurityScheme); 3] {
    let bearer = |format: &str, description: &str| {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format(format);
        SecurityScheme::Http(scheme.description(Some(description)).build())
    };
    [
        (SESSION, bearer("JWT", "The access token of a session, with all rights of the account.")),
        (
            PERSONAL,
            bearer(
                "nf_pat_…",
                "A personal access token, limited to its scopes and the rights of the account.",
            ),
        ),
        (
            COOKIE,
            SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
                "__Host-nightferry_access",
                "The access token cookie set by a login with `\"cookie\": true` (`nightferry_access` \
                 without TLS). Requests that change state must come from a page of this service, or of \
                 `auth.cookie_origins`; otherwise `CSRF_REJECTED`.",
            ))),
        ),
    ]
}

/// States the access level of an operation: as its security, and in its description.
fn add_access(operation: &mut Operation, need: Option<Need>) {
    let any = |scheme: &str| SecurityRequirement::new::<_, [&str; 0], &str>(scheme, []);
    let (security, text) = match need {
        None => (vec![SecurityRequirement::default()], "Public.".to_owned()),
        Some(Need::SignedIn) => (
            vec![any(SESSION), any(COOKIE), any(PERSONAL)],
            "Requires a session or any personal access token.".to_owned(),
        ),
        Some(Need::Session) => (vec![any(SESSION), any(COOKIE)], "Requires a session.".to_owned()),
        Some(Need::AdminSession) => {
            (vec![any(SESSION), any(COOKIE)], "Requires a session of an administrator.".to_owned())
        }
        Some(Need::Scope(scope)) => {
            let who = if scope == Scope::Admin { " of an administrator" } else { "" };
            (
                vec![any(SESSION), any(COOKIE), SecurityRequirement::new(PERSONAL, [scope.as_str()])],
                format!(
                    "Requires a session{who}, or a personal access token{who} with the scope \
                    `{scope}`."
                ),
            )
        }
    };
    operation.security = Some(security);
    operation.description = Some(match operation.description.take() {
        Some(said) => format!("{said}\n\n{text}"),
        None => text,
    });
}

fn operation<'i>(item: &'i mut PathItem, method: &Method) -> Option<&'i mut Operation> {
    let operation = match *method {
        Method::GET => &mut item.get,
        Method::HEAD => &mut item.head,
        Method::POST => &mut item.post,
        Method::PUT => &mut item.put,
        Method::PATCH => &mut item.patch,
        Method::DELETE => &mut item.delete,
        _ => return None,
    };
    operation.as_mut()
}

/// Adds the error responses common to operations of its kind, and the problem document.
fn add_failures(operation: &mut Operation, has_id: bool, need: Option<Need>) {
    let is_open = need.is_none();
    let refusal = match need {
        Some(Need::Session) => "`FORBIDDEN`: not for personal access tokens; `CSRF_REJECTED`",
        Some(Need::AdminSession) => {
            "`FORBIDDEN`: not an administrator, or a personal access token; `CSRF_REJECTED`"
        }
        Some(Need::Scope(Scope::Admin)) => {
            "`FORBIDDEN`: not an administrator, or a token without the scope; `CSRF_REJECTED`"
        }
        _ => "`FORBIDDEN`: the personal access token lacks the scope; `CSRF_REJECTED`",
    };
    let has_body = operation.request_body.is_some();
    let takes_input = has_body || operation.parameters.is_some();
    let is_monitoring = is_open && !takes_input;
    for (applies, status, description) in [
        (takes_input, "400", "`VALIDATION_FAILED`, `BAD_REQUEST`"),
        (!is_open, "401", "`UNAUTHENTICATED`, `TOKEN_EXPIRED`, `TOKEN_REVOKED`"),
        (need.is_some_and(|need| need != Need::SignedIn), "403", refusal),
        (has_id, "404", "`NOT_FOUND`: does not exist, or is not visible to the caller"),
        (has_body, "413", "`FILE_TOO_LARGE`: the body is too large"),
        (has_body, "415", "`TYPE_NOT_ALLOWED`: the media type of the body is not supported"),
        (!is_monitoring, "429", "`RATE_LIMITED`; `Retry-After` says when to retry"),
        (!is_monitoring, "500", "`INTERNAL`"),
        (
            !is_monitoring,
            "503",
            "`DATABASE_UNAVAILABLE`, `STORE_UNAVAILABLE`; `Retry-After` says when to retry",
        ),
    ] {
        let responses = &mut operation.responses.responses;
        if applies && !responses.contains_key(status) {
            let response = ResponseBuilder::new().description(description).build();
            responses.insert(status.to_owned(), RefOr::T(response));
        }
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
            && response.content.is_empty()
        {
            response.content.insert("application/problem+json".to_owned(), problem());
        }
    }
}

fn problem() -> RefOr<Content> {
    RefOr::T(ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    const SNAPSHOT: &str = "../docs/openapi.json";

    #[test]
    fn openapi_document_is_current() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(SNAPSHOT);
        let current = format!("{}\n", serde_json::to_string_pretty(&document()).unwrap());
        if std::env::var_os("NIGHTFERRY_BLESS").is_some() {
            std::fs::write(&path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == current, "docs/openapi.json is stale; update it with `make bless`");
    }

    #[test]
    fn the_document_and_the_routes_match() {
        let mut document = document();
        let mut documented = BTreeSet::new();
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in [
                ("GET", &item.get),
                ("HEAD", &item.head),
                ("POST", &item.post),
                ("PUT", &item.put),
                ("PATCH", &item.patch),
                ("DELETE", &item.delete),
            ] {
                if operation.is_some() {
                    documented.insert((method.to_owned(), path.clone()));
                }
            }
        }
        let routed: BTreeSet<_> =
            TABLE.iter().map(|(method, path, _)| (method.to_string(), (*path).to_owned())).collect();
        assert_eq!(routed, documented);
    }

    #[test]
    fn every_operation_documents_its_errors_and_its_access() {
        let mut document = document();
        let mut ids = BTreeSet::new();
        for (method, path, need) in TABLE {
            let item = document.paths.paths.get_mut(*path).unwrap();
            let operation = operation(item, method).unwrap();
            assert!(ids.insert(operation.operation_id.clone()), "{path}: {:?}", operation.operation_id);
            assert!(operation.summary.is_some() && operation.tags.is_some(), "{path}");
            let statuses: Vec<_> = operation.responses.responses.keys().map(String::as_str).collect();
            assert!(statuses.contains(&"401") || need.is_none(), "{path}: {statuses:?}");
            let security = serde_json::to_string(&operation.security).unwrap();
            let said = operation.description.clone().unwrap();
            match need {
                None => assert_eq!(security, "[{}]", "{path}"),
                Some(Need::SignedIn) => {}
                Some(Need::Session | Need::AdminSession) => assert!(!security.contains(PERSONAL), "{path}"),
                Some(Need::Scope(scope)) => {
                    assert!(security.contains(scope.as_str()) && said.contains(scope.as_str()), "{path}");
                }
            }
            if path.starts_with("/api/admin/") {
                let admin = [Some(Need::Scope(Scope::Admin)), Some(Need::AdminSession)];
                assert!(admin.contains(need), "{path}");
            }
        }
    }

    #[test]
    fn every_referenced_schema_exists() {
        let text = serde_json::to_string(&document()).unwrap();
        let names = document().components.unwrap().schemas;
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(names.contains_key(name), "{name}");
        }
    }
}
