//! The OpenAPI document: made from the route table and the handlers, with what holds for every operation added here.

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, Content, ContentBuilder, InfoBuilder, License, OpenApi, Ref, RefOr, ResponseBuilder,
    SecurityRequirement, Tag,
};
use utoipa::{OpenApi as _, PartialSchema, ToSchema};

use crate::routes::Documented;
use crate::wire::problem::{FieldProblem, Problem};

const SCHEME: &str = "access_token";

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
            "Self-hosted hybrid file storage: uploads land on a local S3 store and are ferried to the cloud at night.\n\n\
             Failures are problem documents (RFC 9457); `error_code` is a stable name for programs. Every answer \
             carries `X-Request-Id`.",
        ))
        .license(Some(License::new("MIT OR Apache-2.0")))
        .build();
    document.tags = Some(TAGS.iter().map(|(name, description)| tag(name, description)).collect());
    document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(SCHEME, [])]);
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme(
        SCHEME,
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build()),
    );
    for (name, schema) in
        [(Problem::name(), Problem::schema()), (FieldProblem::name(), FieldProblem::schema())]
    {
        components.schemas.insert(name.into_owned(), schema);
    }
    for (path, item) in &mut document.paths.paths {
        let has_id = path.contains('{');
        let is_admin = path.starts_with("/api/admin/");
        for operation in operations(item) {
            add_failures(operation, has_id, is_admin);
        }
    }
    document
}

fn tag(name: &str, description: &str) -> Tag {
    let mut tag = Tag::new(name);
    tag.description = Some(description.to_owned());
    tag
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.head, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete]
        .into_iter()
        .filter_map(Option::as_mut)
}

/// Adds what can happen to any operation of its kind, and the form of every failure.
fn add_failures(operation: &mut Operation, has_id: bool, is_admin: bool) {
    let is_open = operation.security.is_some();
    let has_body = operation.request_body.is_some();
    let takes_input = has_body || operation.parameters.is_some();
    let is_monitoring = is_open && !takes_input;
    for (applies, status, description) in [
        (takes_input, "400", "`VALIDATION_FAILED`, `BAD_REQUEST`"),
        (!is_open, "401", "`UNAUTHENTICATED`, `TOKEN_EXPIRED`, `TOKEN_REVOKED`"),
        (is_admin, "403", "`FORBIDDEN`: not an administrator"),
        (has_id, "404", "`NOT_FOUND`: does not exist, or is not the caller's to know"),
        (has_body, "413", "`FILE_TOO_LARGE`: the body is"),
        (has_body, "415", "`TYPE_NOT_ALLOWED`: not a body of the type that is wanted"),
        (!is_monitoring, "429", "`RATE_LIMITED`; `Retry-After` says when to try again"),
        (!is_monitoring, "500", "`INTERNAL`"),
        (
            !is_monitoring,
            "503",
            "`DATABASE_UNAVAILABLE`, `STORE_UNAVAILABLE`; `Retry-After` says when to try again",
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
    use crate::routes::TABLE;

    const SNAPSHOT: &str = "../docs/openapi.json";

    #[test]
    fn openapi_document_is_current() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(SNAPSHOT);
        let current = format!("{}\n", serde_json::to_string_pretty(&document()).unwrap());
        if std::env::var_os("NIGHTFERRY_BLESS").is_some() {
            std::fs::write(&path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == current, "docs/openapi.json is stale; renew it with `make bless`");
    }

    #[test]
    fn document_and_routes_are_the_same() {
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
            TABLE.iter().map(|(method, path)| (method.to_string(), (*path).to_owned())).collect();
        assert_eq!(routed, documented);
    }

    #[test]
    fn every_operation_tells_its_failures_and_who_may_call_it() {
        let mut document = document();
        let mut ids = BTreeSet::new();
        for (path, item) in &mut document.paths.paths {
            for operation in operations(item) {
                assert!(ids.insert(operation.operation_id.clone()), "{path}: {:?}", operation.operation_id);
                assert!(operation.summary.is_some() && operation.tags.is_some(), "{path}");
                let statuses: Vec<_> = operation.responses.responses.keys().map(String::as_str).collect();
                assert!(operation.security.is_some() || statuses.contains(&"401"), "{path}: {statuses:?}");
                if path.starts_with("/api/admin/") {
                    assert!(
                        operation.security.is_none() && statuses.contains(&"403"),
                        "{path}: {statuses:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_schema_that_is_referred_to_exists() {
        let text = serde_json::to_string(&document()).unwrap();
        let names = document().components.unwrap().schemas;
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(names.contains_key(name), "{name}");
        }
    }
}
