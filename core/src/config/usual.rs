//! The environment names that people already use for such services, and the settings that they mean.

use std::collections::BTreeMap;

use super::layer::{self, Layer};
use super::problem::Problems;
use super::spec::switch_from_words;

/// An environment variable that is understood beside `NIGHTFERRY__SECTION__KEY`.
#[derive(Debug, Clone, Copy)]
pub(super) struct UsualName {
    /// The variable.
    pub(super) name: &'static str,
    /// The setting it means.
    pub(super) key: &'static str,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    /// The setting's own values.
    Same,
    /// An endpoint whose scheme may be left out.
    HostAndPort,
    /// A switch: free the local copy at once, or never.
    FreeAtOnce,
}

const fn usual(name: &'static str, key: &'static str) -> UsualName {
    UsualName { name, key, form: Form::Same }
}

/// Where two mean the same setting, the later one wins.
pub(super) const USUAL_NAMES: &[UsualName] = &[
    usual("HOST", "server.host"),
    usual("PORT", "server.port"),
    usual("MAX_FILE_SIZE_MB", "server.max_file_size_mb"),
    usual("DATABASE_URL", "database.url"),
    usual("SECRET_KEY", "auth.secret_key"),
    UsualName { name: "MINIO_ENDPOINT", key: "stores.minio.endpoint", form: Form::HostAndPort },
    usual("MINIO_BUCKET", "stores.minio.bucket"),
    usual("MINIO_ACCESS_KEY", "stores.minio.access_key"),
    usual("MINIO_SECRET_KEY", "stores.minio.secret_key"),
    usual("AWS_DEFAULT_REGION", "stores.s3.region"),
    usual("AWS_REGION", "stores.s3.region"),
    usual("AWS_ENDPOINT_URL", "stores.s3.endpoint"),
    usual("AWS_ENDPOINT_URL_S3", "stores.s3.endpoint"),
    usual("S3_BUCKET", "stores.s3.bucket"),
    usual("AWS_ACCESS_KEY_ID", "stores.s3.access_key"),
    usual("AWS_SECRET_ACCESS_KEY", "stores.s3.secret_key"),
    usual("AWS_SESSION_TOKEN", "stores.s3.session_token"),
    usual("SYNC_SCHEDULE", "tiering.schedule"),
    usual("SYNC_BATCH_SIZE", "tiering.batch_size"),
    UsualName {
        name: "DELETE_FROM_MINIO_AFTER_SYNC",
        key: "tiering.free_local_after",
        form: Form::FreeAtOnce,
    },
    usual("SYNC_LOG_FILE", "logging.sync_log_file"),
    usual("LOG_LEVEL", "logging.level"),
];

/// The usual names that mean a setting, `*` standing for any store.
pub(super) fn names_of(pattern: &str) -> impl Iterator<Item = &'static UsualName> {
    USUAL_NAMES.iter().filter(move |usual| super::table::pattern(usual.key) == pattern)
}

/// The settings made by usual names.
pub(super) fn layer(env: &BTreeMap<String, String>, problems: &mut Problems) -> Layer {
    let mut layer = Layer::default();
    for usual in USUAL_NAMES {
        let Some((text, source)) = layer::environment_value(usual.name, usual.key, env, problems) else {
            continue;
        };
        match usual.form.setting(&text) {
            Ok(value) => layer.set(usual.key, &source, value),
            Err(message) => {
                problems.add_from(
                    source,
                    usual.key,
                    format!("= \"{}\" {message}", text.escape_debug()),
                    "give true or false",
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
