//! Identity providers for sign-in (OpenID Connect).

use super::declare::settings;
use super::validators;
use secrecy::SecretString;

settings! {
    /// An `[auth.oidc.NAME]` section.
    pub struct OidcConfig {
        /// The issuer URL of the identity provider. Its endpoints are read from `/.well-known/openid-configuration`
        /// below this URL.
        pub issuer: String,
            text("a URL such as \"https://accounts.google.com\"", validators::issuer),
            required("the provider's issuer, such as \"https://accounts.google.com\""),
            example("https://accounts.google.com");
        /// The client id of this service at the identity provider. Register the redirect URI
        /// `PUBLIC_URL/api/auth/oidc/NAME/callback` there.
        pub client_id: String,
            text("the client id from the provider", validators::any),
            required("the client id from the provider"), example("…");
        /// The client secret issued by the identity provider.
        pub client_secret: Option<SecretString>,
            text("the client secret from the provider", validators::any),
            unset("a public client, protected by PKCE alone");
        /// The scopes that are requested, separated by spaces; "openid" must be among them.
        pub scopes: String = "openid email profile",
            text("scopes such as \"openid email profile\"", validators::oidc_scopes);
        /// Whether an account is created at the first sign-in, if the identity provider has verified the email address.
        /// `auth.signup` does not apply.
        pub signup: bool = false;
        /// Whether an identity is linked to an existing account with the same email address, if the identity provider
        /// has verified the address. Enable this only for identity providers that you trust for all accounts.
        pub link_by_email: bool = false;
    }
}
