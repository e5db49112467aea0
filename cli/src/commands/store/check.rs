//! `nightferry store check`: what works in each store, how fast, and how to fix what does not.

use clap::Args;
use futures_util::future::join_all;
use nightferry_core::config::{Config, StoreConfig};
use nightferry_core::context::Context;
use nightferry_core::encryption::{KeyId, Keyring};
use nightferry_core::object::canary;
use nightferry_core::object::identity::KEEPS_VERSIONS;
use nightferry_core::store::{Canary, Check, Evidence, Outcome, SendMode, Store, StoreErrorKind, StoreRole};
use nightferry_core::stores::Identity;
use serde::Serialize;

use super::probe::{StepResult, Wrong, identify, probe};
use super::{App, chosen};
use crate::errors::{Exit, Failure, exit_of};
use crate::format::table::{pairs, table};
use crate::output::TextStyle;

const EXAMPLES: &str = "\
Examples:
  nightferry store check           every configured store
  nightferry store check s3        one of them

Writes a few bytes, reads them back and deletes them. Also sends some with a wrong checksum: if the store \
refuses them, the checksum in its response proves an upload; otherwise each upload costs the further \
requests that are shown. Compares the identity marker of each bucket with the \
database, and writes the marker into a bucket that is used for the first time. Nothing else in the bucket \
is touched.

Exit code 6 if a store is unreachable, 1 if one rejects an operation, or is not the one that the database \
knows.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// Only this store
    #[arg(value_name = "STORE")]
    store: Option<String>,
}

#[derive(Serialize)]
struct Document {
    ok: bool,
    stores: Vec<StoreDocument>,
}

#[derive(Serialize)]
struct StoreDocument {
    name: String,
    role: &'static str,
    endpoint: String,
    bucket: String,
    encryption: EncryptionDocument,
    /// `ok`, `missing`, `changed`, `shared`, or `unknown`.
    identity: &'static str,
    /// Whether the bucket keeps versions of deleted objects; `None` if the store does not tell.
    versions: Option<bool>,
    ok: bool,
    steps: Vec<StepResult>,
    /// How each way of sending an object is verified.
    verification: Vec<VerificationDocument>,
    /// What the store does with a wrong checksum in each kind of request.
    checksums: Vec<ChecksumDocument>,
    fix: Option<String>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct VerificationDocument {
    /// `whole`, `whole-encrypted`, `whole-streamed`, `parts` or `parts-streamed`.
    sent: &'static str,
    /// `response`, `head` or `read`.
    evidence: &'static str,
    /// Requests per object in addition to the upload.
    requests: u32,
}

#[derive(Serialize)]
struct ChecksumDocument {
    /// `put-sha256`, `put-crc64nvme`, `put-trailer`, `part`, `part-trailer` or `completion`.
    request: &'static str,
    /// `refuses`, `accepts`, `alters` or `unknown`.
    wrong_checksum: &'static str,
    /// Why it is unknown.
    error: Option<String>,
}

#[derive(Serialize)]
struct EncryptionDocument {
    /// `on`, `reading` (existing objects are decrypted, new ones are not encrypted) or `off`.
    state: &'static str,
    /// The key that encrypts.
    key: Option<String>,
    /// All keys that decrypt.
    keys: Vec<String>,
    warning: Option<String>,
}

pub(super) async fn run(app: &App, context: &Context, args: &CheckArgs) -> Result<Exit, Failure> {
    let stores = chosen(context, args.store.as_deref())?;
    app.output.detail("checking each store; one that does not respond takes until its timeouts");
    let probed = join_all(stores.iter().map(probe)).await;
    let (mut exit, mut checked) = (Exit::Ok, Vec::with_capacity(stores.len()));
    // One after the other: of two stores with one bucket, the second must find the marker of the first.
    for (store, (mut steps, mut wrong)) in stores.iter().zip(probed) {
        let mut identity = Identity::Unknown("the store is not usable".to_owned());
        if wrong.is_none() {
            (identity, wrong) = identify(context, store, &mut steps).await;
        }
        let canary = if wrong.is_none() { Some(canary::check(store).await) } else { None };
        let versions = if wrong.is_none() { store.keeps_versions().await.ok() } else { None };
        exit = worse(exit, wrong.as_ref().map_or(Exit::Ok, exit_for));
        checked.push(StoreDocument {
            name: store.name().to_string(),
            role: <&str>::from(store.role()),
            endpoint: store.settings().endpoint.clone(),
            bucket: store.settings().bucket.clone(),
            encryption: encryption(store, &context.config),
            identity: identity.word(),
            versions,
            ok: wrong.is_none(),
            warnings: warnings(store, wrong.is_none(), &identity, versions, canary.as_ref()),
            steps,
            verification: canary.as_ref().map(verification).unwrap_or_default(),
            checksums: canary.as_ref().map(checksums).unwrap_or_default(),
            fix: wrong.map(|wrong| fix(store, &wrong)),
        });
    }
    checked.sort_by(|a, b| a.name.cmp(&b.name));
    let document = Document { ok: exit == Exit::Ok, stores: checked };
    app.output.result(&document, |look| text(&document, look))?;
    Ok(exit)
}

/// What does not prevent the use of a store, but should be known.
fn warnings(
    store: &Store,
    is_usable: bool,
    identity: &Identity,
    versions: Option<bool>,
    canary: Option<&Canary>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if is_usable && !identity.is_proven() {
        warnings.extend(identity.reason());
    }
    if versions == Some(true) && store.role() == StoreRole::Local {
        warnings.push(KEEPS_VERSIONS.to_owned());
    }
    if canary.is_some_and(|canary| canary.outcomes().any(|(_, outcome)| *outcome == Outcome::Alters)) {
        warnings.push("it acknowledged content and stored other content".to_owned());
    }
    if canary.is_some_and(Canary::heads_lie) {
        let what =
            "it returns checksums that are not those of its content: everything written to it is read back";
        warnings.push(what.to_owned());
    }
    warnings
}

fn verification(canary: &Canary) -> Vec<VerificationDocument> {
    let document = |mode: SendMode| {
        let evidence = canary.evidence(mode);
        VerificationDocument {
            sent: mode.as_str(),
            evidence: evidence.as_str(),
            requests: evidence.requests(),
        }
    };
    SendMode::ALL.into_iter().map(document).collect()
}

fn checksums(canary: &Canary) -> Vec<ChecksumDocument> {
    let document = |(check, outcome): (Check, &Outcome)| ChecksumDocument {
        request: check.as_str(),
        wrong_checksum: outcome.as_str(),
        error: match outcome {
            Outcome::Unknown(error) => Some(error.clone()),
            Outcome::Refuses | Outcome::Accepts | Outcome::Alters => None,
        },
    };
    canary.outcomes().map(document).collect()
}

/// One row for each store and evidence that it needs.
struct VerificationRow {
    store: String,
    sent: String,
    evidence: &'static str,
    requests: u32,
}

fn verification_rows(stores: &[StoreDocument]) -> Vec<VerificationRow> {
    let mut rows: Vec<VerificationRow> = Vec::new();
    for store in stores {
        for evidence in [Evidence::Response, Evidence::Head, Evidence::Read] {
            let alike = store.verification.iter().filter(|it| it.evidence == evidence.as_str());
            let sent: Vec<&str> = alike.map(|it| it.sent).collect();
            if sent.is_empty() {
                continue;
            }
            let all = sent.len() == store.verification.len();
            rows.push(VerificationRow {
                store: store.name.clone(),
                sent: if all { "all".to_owned() } else { sent.join(", ") },
                evidence: evidence.as_str(),
                requests: evidence.requests(),
            });
        }
    }
    rows
}

/// How objects are verified after they were sent, and what that costs; empty if no store could be asked.
fn verification_table(stores: &[StoreDocument]) -> String {
    let rows = verification_rows(stores);
    if rows.is_empty() {
        return String::new();
    }
    let table = table("STORE | SENT | VERIFIED BY | > REQUESTS MORE PER OBJECT", &rows, |row| {
        [row.store.clone(), row.sent.clone(), row.evidence.to_owned(), row.requests.to_string()]
    });
    format!("\n\n{table}")
}

fn exit_for(wrong: &Wrong) -> Exit {
    match wrong {
        Wrong::Store(error) => exit_of(error.outcome()),
        Wrong::OtherBytes | Wrong::Identity(_) => Exit::Failed,
    }
}

/// Unreachable takes precedence over rejected, and both take precedence over ok.
fn worse(a: Exit, b: Exit) -> Exit {
    match (a, b) {
        (Exit::Unreachable, _) | (_, Exit::Unreachable) => Exit::Unreachable,
        (Exit::Ok, other) | (other, _) => other,
    }
}

fn encryption(store: &Store, config: &Config) -> EncryptionDocument {
    let key = store.keys().and_then(Keyring::active).map(|key| key.id().to_string());
    let keys: Vec<String> = store.keys().into_iter().flat_map(Keyring::ids).map(KeyId::to_string).collect();
    let state = match (&key, keys.is_empty()) {
        (Some(_), _) => "on",
        (None, false) => "reading",
        (None, true) => "off",
    };
    let warning = config.stores.get(store.name().as_str()).and_then(StoreConfig::key_warning);
    EncryptionDocument { state, key, keys, warning }
}

impl EncryptionDocument {
    fn cell(&self) -> String {
        match &self.key {
            Some(key) => format!("on ({key})"),
            None => self.state.to_owned(),
        }
    }
}

/// The advice, with the settings to check.
fn fix(store: &Store, wrong: &Wrong) -> String {
    let name = store.name();
    let settings = store.settings();
    let error = match wrong {
        Wrong::Store(error) => error,
        Wrong::OtherBytes => {
            return "something between Nightferry and the store changes bodies, such as a proxy or a broken \
                    disk: do not use this store until the cause is found"
                .to_owned();
        }
        Wrong::Identity(Identity::Shared { with }) => {
            return format!(
                "give each store its own bucket: correct stores.{name}.endpoint and .bucket, or those of {with}"
            );
        }
        Wrong::Identity(_) => {
            return format!(
                "correct stores.{name}.endpoint and .bucket; if this is the right bucket, accept it: nightferry \
                 store accept {name}"
            );
        }
    };
    if error.is_no_such_bucket() {
        return format!(
            "create the bucket {}, or let the API create it: nightferry serve --set \
                stores.{name}.create_bucket=true",
            settings.bucket
        );
    }
    if error.is_credentials() || error.is_denied() {
        return format!(
            "correct stores.{name}.access_key, .secret_key and .region, or grant the access key the \
             permissions to list, read, write and delete in the bucket {}",
            settings.bucket
        );
    }
    match error.kind() {
        StoreErrorKind::Connect => format!(
            "start the server at {}, or correct stores.{name}.endpoint: nightferry config show stores.{name}",
            settings.endpoint
        ),
        StoreErrorKind::Timeout | StoreErrorKind::Connection => format!(
            "check the server at {} and the network; stores.{name}.control_timeout is {}",
            settings.endpoint,
            crate::format::time::span(settings.deadlines.control)
        ),
        // S3 names every error in its response; only a server that does not speak S3 returns a listing error without a
        // name.
        StoreErrorKind::Protocol | StoreErrorKind::Answer { status: 400..500, .. }
            if error.code().is_none() =>
        {
            format!(
                "stores.{name}.endpoint = {} does not seem to be an S3 API: correct it",
                settings.endpoint
            )
        }
        _ => match error.hint() {
            Some(hint) => hint.to_owned(),
            None => format!("check the log of the server at {}", settings.endpoint),
        },
    }
}

fn text(document: &Document, look: TextStyle) -> String {
    let headings = "STORE | ROLE | BUCKET | ENDPOINT | ENCRYPTION | > REACH | > WRITE | > READ | > DELETE |";
    let stores = table(headings, &document.stores, |store| {
        let step = |name| match store.steps.iter().find(|step| step.step == name) {
            Some(step) if step.ok => format!("{} ms", step.millis),
            Some(_) => look.state("failed"),
            None => "-".to_owned(),
        };
        [
            store.name.clone(),
            store.role.to_owned(),
            store.bucket.clone(),
            store.endpoint.clone(),
            store.encryption.cell(),
            step("bucket"),
            step("write"),
            step("read"),
            step("delete"),
            look.state(if store.ok { "ok" } else { "failed" }),
        ]
    });
    let wrong = document.stores.iter().filter_map(|store| {
        let error = store.steps.iter().find_map(|step| step.error.clone())?;
        let fix = store.fix.clone().unwrap_or_default();
        Some(format!("\n\n{}\n{}", store.name, indented(&pairs(&[("why:", error), ("fix:", fix)]))))
    });
    let warnings = document.stores.iter().filter_map(|store| {
        let warnings: Vec<_> = store.encryption.warning.iter().chain(&store.warnings).collect();
        if warnings.is_empty() {
            return None;
        }
        let lines: Vec<_> = warnings.into_iter().map(|warning| ("warning:", warning.clone())).collect();
        Some(format!("\n\n{}\n{}", store.name, indented(&pairs(&lines))))
    });
    let after: String = wrong.chain(warnings).collect();
    format!("{stores}{}{after}", verification_table(&document.stores))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::time::Zone;

    fn step(step: &'static str, millis: u64, error: Option<&str>) -> StepResult {
        StepResult { step, ok: error.is_none(), millis, error: error.map(str::to_owned) }
    }

    fn store(name: &str, role: &'static str, steps: Vec<StepResult>, fix: Option<&str>) -> StoreDocument {
        StoreDocument {
            name: name.to_owned(),
            role,
            endpoint: "http://127.0.0.1:9000".to_owned(),
            bucket: format!("{role}-files"),
            encryption: EncryptionDocument {
                state: if role == "cloud" { "on" } else { "off" },
                key: (role == "cloud").then(|| "2026-11".to_owned()),
                keys: Vec::new(),
                warning: (role == "cloud").then(|| "the key file k can be read by others".to_owned()),
            },
            identity: "ok",
            versions: None,
            ok: fix.is_none(),
            steps,
            verification: Vec::new(),
            checksums: Vec::new(),
            fix: fix.map(str::to_owned),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn the_table_shows_timings_and_explains_what_failed() {
        let fine = ["bucket", "write", "read", "delete"].map(|name| step(name, 12, None)).into();
        let error = "store s3: ListObjectsV2 could not connect";
        let document = Document {
            ok: false,
            stores: vec![
                store("minio", "local", fine, None),
                store("s3", "cloud", vec![step("bucket", 5003, Some(error))], Some("start the server")),
            ],
        };
        insta::assert_snapshot!(text(&document, TextStyle { color: false, zone: Zone::Utc }));
    }

    #[test]
    fn the_evidence_of_each_store_and_its_cost_are_shown() {
        let mut strict = store("minio", "local", Vec::new(), None);
        strict.verification = verification(&Canary::strict());
        let mut lax = store("s3", "cloud", Vec::new(), None);
        lax.verification = verification(&Canary::failed("x"));
        if let Some(first) = lax.verification.first_mut() {
            (first.evidence, first.requests) = (Evidence::Head.as_str(), Evidence::Head.requests());
        }
        let stores = [strict, lax];
        let rows = verification_rows(&stores);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.store.as_str(), row.sent.as_str(), row.evidence, row.requests))
            .collect();
        let rest = "whole-encrypted, whole-streamed, parts, parts-streamed";
        assert_eq!(
            shown,
            [("minio", "all", "response", 0), ("s3", "whole", "head", 1), ("s3", rest, "read", 2)]
        );
        assert!(verification_table(&stores).contains("VERIFIED BY"));
        assert_eq!(verification_table(&[]), "");
        let known = checksums(&Canary::failed("x"));
        assert!(known.iter().all(|it| it.wrong_checksum == "unknown" && it.error.as_deref() == Some("x")));
    }

    #[test]
    fn an_unreachable_store_determines_the_exit_code() {
        assert_eq!([Exit::Ok, Exit::Failed].into_iter().fold(Exit::Ok, worse), Exit::Failed);
        assert_eq!(
            [Exit::Failed, Exit::Unreachable, Exit::Ok].into_iter().fold(Exit::Ok, worse),
            Exit::Unreachable
        );
        assert_eq!([Exit::Ok, Exit::Ok].into_iter().fold(Exit::Ok, worse), Exit::Ok);
    }
}
