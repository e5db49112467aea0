//! What `nightferry up` prints once everything is running: addresses and credentials.

use std::path::Path;

use nightferry_core::config::Config;
use secrecy::ExposeSecret as _;
use serde::Serialize;

use super::UpArgs;
use super::admin::{Admin, PASSWORD_FILE};
use crate::commands::App;
use crate::errors::{Exit, Failure};
use crate::format::table::pairs;
use crate::output::shell_word;
use crate::settings::DEFAULT_DATA_DIR;
use nightferry_devservers::{DataDir, Parts, S3Server};

#[derive(Debug, Serialize)]
struct Document {
    url: String,
    docs_url: String,
    admin_email: String,
    admin_password: Option<String>,
    admin_password_file: Option<String>,
    local_store: StoreDocument,
    cloud_store: StoreDocument,
    database_url: String,
    worker: bool,
    schedule: String,
    time_zone: String,
    data_dir: String,
    config_file: String,
    #[serde(skip)]
    found_by_itself: bool,
}

#[derive(Debug, Serialize)]
struct StoreDocument {
    server: &'static str,
    endpoint: String,
    bucket: String,
    access_key: String,
    secret_key: String,
}

impl StoreDocument {
    fn of(server: &S3Server) -> Self {
        Self {
            server: server.kind.as_str(),
            endpoint: server.endpoint.clone(),
            bucket: server.bucket.clone(),
            access_key: server.access_key.clone(),
            secret_key: server.secret_key.clone(),
        }
    }

    fn text(&self) -> String {
        format!("{}  bucket {}  ({})", self.endpoint, self.bucket, self.server)
    }
}

pub(super) fn announce(
    app: &App,
    config: &Config,
    data: &DataDir,
    parts: &Parts,
    admin: Admin,
    config_file: &Path,
    args: &UpArgs,
) -> Result<Exit, Failure> {
    let url = config.server.base_url();
    let password_file = || data.root().join(PASSWORD_FILE).display().to_string();
    let document = Document {
        docs_url: format!("{url}/api/docs"),
        url,
        admin_email: admin.email,
        admin_password_file: admin.password.is_some().then(password_file),
        admin_password: admin.password,
        local_store: StoreDocument::of(&parts.local),
        cloud_store: StoreDocument::of(&parts.cloud),
        database_url: config.database.url.expose_secret().to_owned(),
        worker: !args.no_worker,
        schedule: config.tiering.schedule.clone(),
        time_zone: config.tiering.time_zone.to_string(),
        data_dir: data.root().display().to_string(),
        config_file: config_file.display().to_string(),
        found_by_itself: args.data_dir == Path::new(DEFAULT_DATA_DIR),
    };
    app.output.result(&document, |_| document.text())
}

impl Document {
    fn text(&self) -> String {
        let password = match (&self.admin_password, &self.admin_password_file) {
            (Some(password), Some(file)) => format!("{password}  (stored in {file})"),
            _ => "as you set it".to_owned(),
        };
        let worker = if self.worker {
            format!("syncs on the schedule {} ({})", self.schedule, self.time_zone)
        } else {
            "not started (--no-worker)".to_owned()
        };
        let keys = format!("{} / {}", self.local_store.access_key, self.local_store.secret_key);
        let facts = pairs(&[
            ("  Open", self.url.clone()),
            ("  API docs", self.docs_url.clone()),
            ("  Sign in as", self.admin_email.clone()),
            ("  Password", password),
            ("  Worker", worker),
            ("  Local store", self.local_store.text()),
            ("  Cloud store", self.cloud_store.text()),
            ("  Keys of both", keys),
            ("  DATABASE_URL", self.database_url.clone()),
        ]);
        let elsewhere = format!("nightferry --config {} sync run --wait", shell_word(&self.config_file));
        let hint = if self.found_by_itself {
            format!("  nightferry sync run --wait     in this folder; elsewhere:\n  {elsewhere}")
        } else {
            format!("  {elsewhere}")
        };
        format!(
            "\nNightferry is running.\n\n{facts}\n\nTo sync files now, in another \
                terminal:\n{hint}\n\nCtrl-C stops everything.\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(port: u16, bucket: &str) -> StoreDocument {
        StoreDocument {
            server: "seaweedfs",
            endpoint: format!("http://127.0.0.1:{port}"),
            bucket: bucket.to_owned(),
            access_key: "nightferry".to_owned(),
            secret_key: "nightferry-secret".to_owned(),
        }
    }

    fn document() -> Document {
        Document {
            url: "http://127.0.0.1:8080".to_owned(),
            docs_url: "http://127.0.0.1:8080/api/docs".to_owned(),
            admin_email: "admin@nightferry.localhost".to_owned(),
            admin_password: Some("0123456789abcdef0123456789abcdef".to_owned()),
            admin_password_file: Some("/srv/my data/admin.password".to_owned()),
            local_store: store(9000, "local-files"),
            cloud_store: store(9100, "cloud-files"),
            database_url: "postgres://nightferry:x@127.0.0.1:5433/nightferry".to_owned(),
            worker: true,
            schedule: "0 0 0 * * *".to_owned(),
            time_zone: "UTC".to_owned(),
            data_dir: "/srv/my data".to_owned(),
            config_file: "/srv/my data/nightferry.toml".to_owned(),
            found_by_itself: true,
        }
    }

    #[test]
    fn the_block_tells_where_everything_is() {
        insta::assert_snapshot!(document().text());
    }

    #[test]
    fn a_password_that_is_not_known_is_not_shown() {
        let document = Document {
            admin_password: None,
            admin_password_file: None,
            worker: false,
            found_by_itself: false,
            ..document()
        };
        insta::assert_snapshot!(document.text());
    }
}
