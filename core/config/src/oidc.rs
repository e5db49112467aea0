//! Identity providers with which people may sign in (OpenID Connect).

use super::declare::settings;
use super::validators;
use secrecy::SecretString;

settings! {
    /// An `[auth.oidc.NAME]` section.
    pub struct OidcConfig {
        /// The identity provider. Its endpoints are read from its `/.well-known/openid-configuration`.
        pub issuer: String,
            text("a URL such as \"https://accounts.google.com\"", validators::issuer),
            required("the provider's issuer, such as \"https://accounts.google.com\""),
            example("https://accounts.google.com");
        /// The client id of this service at the identity provider. Register the redirect
        /// `PUBLIC_URL/api/auth/oidc/NAME/callback` with it.
        pub client_id: String,
            text("the client id from the provider", validators::any),
            required("the client id from the provider"), example("…");
        /// The client secret that the identity provider issued.
        pub client_secret: Option<SecretString>,
            text("the client secret from the provider", validators::any),
            unset("a public client, protected by PKCE alone");
        /// The scopes that are requested, separated by spaces; "openid" must be among them.
        pub scopes: String = "openid email profile",
            text("scopes such as \"openid email profile\"", validators::oidc_scopes);
        /// Whether somebody without an account gets one, if the identity provider vouches for the email address.
        /// `auth.signup` does not apply here.
        pub signup: bool = false;
        /// Whether somebody may sign in to an existing account with the same email address, if the identity provider
        /// vouches for it. Only for identity providers that you trust with every account.
        pub link_by_email: bool = false;
    }
}
