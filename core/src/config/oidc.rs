//! Providers elsewhere with which people may sign in (OpenID Connect).

use secrecy::SecretString;
use serde::Deserialize;

use super::spec::{Kind, Spec};
use super::{rules, words};

/// An `[auth.oidc.NAME]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// The provider's issuer, without a trailing slash.
    pub issuer: String,
    /// What the provider calls this service.
    pub client_id: String,
    /// The secret that the provider gave it; none for a public client.
    #[serde(deserialize_with = "words::optional")]
    pub client_secret: Option<SecretString>,
    /// What is asked for, a space between.
    pub scopes: String,
    /// Whether somebody without an account gets one.
    pub signup: bool,
    /// Whether an account is linked to by its email address.
    pub link_by_email: bool,
}

pub(super) const SETTINGS: &[Spec] = &[
    Spec::new(
        "auth.oidc.*.issuer",
        Kind::Text { what: "a URL such as \"https://accounts.google.com\"", rule: rules::issuer },
        "The provider. What it offers is read from its /.well-known/openid-configuration.",
    )
    .required("the provider's issuer, such as \"https://accounts.google.com\""),
    Spec::new(
        "auth.oidc.*.client_id",
        Kind::Text { what: "the client id that the provider gave", rule: rules::any },
        "What the provider calls this service. Register with it the redirect PUBLIC_URL/api/auth/oidc/NAME/callback.",
    )
    .required("the client id that the provider gave"),
    Spec::new(
        "auth.oidc.*.client_secret",
        Kind::Text { what: "the client secret that the provider gave", rule: rules::any },
        "The secret that the provider gave.",
    )
    .secret()
    .optional("a public client, protected by PKCE alone"),
    Spec::new(
        "auth.oidc.*.scopes",
        Kind::Text { what: "scopes such as \"openid email profile\"", rule: rules::oidc_scopes },
        "What is asked for, a space between; \"openid\" must be among them.",
    ),
    Spec::new(
        "auth.oidc.*.signup",
        Kind::Switch,
        "Whether somebody without an account gets one, if the provider vouches for the email address. auth.signup does not \
         count here.",
    ),
    Spec::new(
        "auth.oidc.*.link_by_email",
        Kind::Switch,
        "Whether somebody may sign in to an account that exists already by its email address, if the provider vouches for \
         the address. Only for providers that you trust with every account.",
    ),
];
