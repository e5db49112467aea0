//! The client of both sides: curl, one process for each transfer, and the necessary API calls.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nightferry_devservers::S3Server;
use s3::creds::Credentials;
use s3::{Bucket, Region};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::subject::Subject;
use crate::world::{EMAIL, PASSWORD, eventually};

const URL_LIFE_SECS: u32 = 3600;
const SHORT: Duration = Duration::from_secs(30);

/// A signed-in client of a running API.
pub(crate) struct Api {
    base: String,
    token: String,
    http: reqwest::Client,
}

/// The result of a transfer, as reported by curl.
struct Transfer {
    took: Duration,
    answer: String,
}

/// Runs curl; the response body is written to `sink`, or returned if there is none.
async fn curl(arguments: &[&str], sink: Option<&str>) -> Result<Transfer> {
    let mut command = Command::new("curl");
    command
        // Neither side waits for permission to send its body.
        .args([
            "--silent",
            "--show-error",
            "--fail-with-body",
            "--disable",
            "--noproxy",
            "*",
            "--header",
            "Expect:",
        ])
        .args(["--write-out", "%{stderr}%{time_total}", "--output", sink.unwrap_or("-")])
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.context("cannot run curl, with which both sides are measured")?;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "curl failed: {words} {answer}");
    let took = Duration::try_from_secs_f64(words.trim().parse().with_context(|| words.clone())?)?;
    Ok(Transfer { took, answer })
}

/// Uploads a file to a presigned URL.
pub(crate) async fn put(file: &Path, url: &str) -> Result<Duration> {
    let file = file.to_str().context("a path in UTF-8")?;
    Ok(curl(&["--upload-file", file, url], None).await?.took)
}

/// Fetches a URL and discards the content.
pub(crate) async fn get(url: &str) -> Result<Duration> {
    Ok(curl(&[url], Some("/dev/null")).await?.took)
}

/// A presigned URL for a PUT of an object.
pub(crate) async fn presigned_put(server: &S3Server, key: &str) -> Result<String> {
    let region = Region::Custom { region: "us-east-1".to_owned(), endpoint: server.endpoint.clone() };
    let (access, secret) = (server.access_key.as_str(), server.secret_key.as_str());
    let credentials = Credentials::new(Some(access), Some(secret), None, None, None)?;
    let bucket = Bucket::new(&server.bucket, region, credentials)?.with_path_style();
    Ok(bucket.presign_put(key, URL_LIFE_SECS, None, None).await?)
}

/// An uploaded file, as returned by the API.
#[derive(Debug, Clone)]
pub(crate) struct Uploaded {
    /// Id of the file.
    pub(crate) id: String,
    /// The hash reported by the API.
    pub(crate) sha256: String,
}

impl Api {
    /// Waits until the API responds, and signs in.
    pub(crate) async fn sign_in(subject: &mut Subject, port: u16) -> Result<Self> {
        let base = format!("http://127.0.0.1:{port}");
        let http = reqwest::Client::builder().no_proxy().timeout(SHORT).build()?;
        eventually("the API responds", SHORT, async || {
            subject.alive()?;
            let answer = http.get(format!("{base}/health")).send().await;
            Ok(answer.is_ok_and(|answer| answer.status().is_success()).then_some(()))
        })
        .await?;
        let body = json!({"email": EMAIL, "password": PASSWORD});
        let answer =
            http.post(format!("{base}/api/auth/login")).json(&body).send().await?.error_for_status()?;
        let token = text(&answer.json().await?, "access_token")?;
        Ok(Self { base, token, http })
    }

    /// Uploads a file.
    pub(crate) async fn upload(&self, file: &Path, name: &str) -> Result<(Duration, Uploaded)> {
        let form = format!("file=@{};filename={name};type=application/octet-stream", file.display());
        let url = format!("{}/api/files/upload", self.base);
        let transfer = curl(&["--header", &self.authorization(), "--form", &form, &url], None).await?;
        let answer: Value = serde_json::from_str(&transfer.answer)?;
        Ok((transfer.took, Uploaded { id: text(&answer, "id")?, sha256: text(&answer, "sha256")? }))
    }

    /// Downloads a file through the API and discards the content.
    pub(crate) async fn download(&self, file: &Uploaded) -> Result<Duration> {
        let url = format!("{}/api/files/{}/download", self.base, file.id);
        Ok(curl(&["--header", &self.authorization(), &url], Some("/dev/null")).await?.took)
    }

    /// The hash of a file's content as downloaded through the API.
    pub(crate) async fn hash_of_download(&self, file: &Uploaded) -> Result<String> {
        use futures_util::StreamExt as _;
        let url = format!("{}/api/files/{}/download", self.base, file.id);
        let request = self.http.get(url).bearer_auth(&self.token).timeout(SHORT * 20);
        let mut body = request.send().await?.error_for_status()?.bytes_stream();
        let mut hasher = nightferry_core::checksum::Sha256Hasher::new();
        while let Some(chunk) = body.next().await {
            hasher.update(&chunk?);
        }
        Ok(hasher.finish().to_string())
    }

    /// A presigned URL of a file in its store.
    pub(crate) async fn presigned_get(&self, file: &Uploaded) -> Result<String> {
        let url = format!("{}/api/files/{}/download-url", self.base, file.id);
        let request =
            self.http.post(url).bearer_auth(&self.token).json(&json!({"expires_in": URL_LIFE_SECS}));
        text(&request.send().await?.error_for_status()?.json().await?, "url")
    }

    fn authorization(&self) -> String {
        format!("Authorization: Bearer {}", self.token)
    }
}

fn text(answer: &Value, field: &str) -> Result<String> {
    answer
        .get(field)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("no {field} in {answer}"))
}
