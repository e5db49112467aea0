//! Alternative names of environment variables that are common for services of this kind, and the settings that they
//! set.

use std::collections::BTreeMap;

use super::layer::{self, Layer};
use super::problem::Problems;
use super::spec::switch_from_words;

/// An environment variable that is supported in addition to `NIGHTFERRY__SECTION__KEY`.
#[derive(Debug, Clone, Copy)]
pub(super) struct EnvAlias {
    /// Name of the variable.
    pub(super) name: &'static str,
    /// The setting that it sets.
    pub(super) key: &'static str,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    /// The values of the setting.
    Same,
    /// An endpoint whose scheme is optional.
    HostAndPort,
    /// A boolean: evict the local copy at once, or never.
    FreeAtOnce,
}

const fn alias(name: &'static str, key: &'static str) -> EnvAlias {
    EnvAlias { name, key, form: Form::Same }
}

/// If two names set the same setting, the later one in this list takes precedence.
pub(super) const ENV_ALIASES: &[EnvAlias] = &[
    alias("HOST", "server.host"),
    alias("PORT", "server.port"),
    alias("MAX_FILE_SIZE_MB", "server.max_file_size_mib"),
    alias("DATABASE_URL", "database.url"),
    alias("SECRET_KEY", "auth.secret_key"),
    EnvAlias { name: "MINIO_ENDPOINT", key: "stores.minio.endpoint", form: Form::HostAndPort },
    alias("MINIO_BUCKET", "stores.minio.bucket"),
    alias("MINIO_ACCESS_KEY", "stores.minio.access_key"),
    alias("MINIO_SECRET_KEY", "stores.minio.secret_key"),
    alias("AWS_DEFAULT_REGION", "stores.s3.region"),
    alias("AWS_REGION", "stores.s3.region"),
    alias("AWS_ENDPOINT_URL", "stores.s3.endpoint"),
    alias("AWS_ENDPOINT_URL_S3", "stores.s3.endpoint"),
    alias("S3_BUCKET", "stores.s3.bucket"),
    alias("AWS_ACCESS_KEY_ID", "stores.s3.access_key"),
    alias("AWS_SECRET_ACCESS_KEY", "stores.s3.secret_key"),
    alias("AWS_SESSION_TOKEN", "stores.s3.session_token"),
    alias("SYNC_SCHEDULE", "tiering.schedule"),
    alias("SYNC_BATCH_SIZE", "tiering.batch_size"),
    EnvAlias {
        name: "DELETE_FROM_MINIO_AFTER_SYNC",
        key: "tiering.free_local_after",
        form: Form::FreeAtOnce,
    },
    alias("SYNC_LOG_FILE", "logging.sync_log_file"),
    alias("LOG_LEVEL", "logging.level"),
];

/// The names that set a setting; `*` stands for any store.
pub(super) fn aliases_of(pattern: &str) -> impl Iterator<Item = &'static EnvAlias> {
    ENV_ALIASES.iter().filter(move |alias| super::table::pattern(alias.key) == pattern)
}

/// The settings that are set by these names.
pub(super) fn layer(env: &BTreeMap<String, String>, problems: &mut Problems) -> Layer {
    let mut layer = Layer::default();
    for alias in ENV_ALIASES {
        let Some((text, source)) = layer::environment_value(alias.name, alias.key, env, problems) else {
            continue;
        };
        match alias.form.setting(&text) {
            Ok(value) => layer.set(alias.key, &source, value),
            Err(message) => {
                problems.add_from(
                    source,
                    alias.key,
                    format!("= \"{}\" {message}", text.escape_debug()),
                    "set it to true or false",
                );
            }
        }
    }
    layer
}

impl Form {
    fn setting(self, text: &str) -> Result<String, String> {
        match self {
            Self::HostAndPort if !text.contains("://") => Ok(format!("http://{}", text.trim())),
            Self::Same | Self::HostAndPort => Ok(text.to_owned()),
            Self::FreeAtOnce => {
                switch_from_words(text).map(|free| if free { "0s" } else { "never" }.to_owned())
            }
        }
    }
}
