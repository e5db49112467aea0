//! `nightferry store check`: what works in each store, how fast, and how to fix what does not.

use clap::Args;
use nightferry_core::config::{Config, StoreConfig};
use nightferry_core::context::Context;
use nightferry_core::encryption::{KeyId, Keyring};
use nightferry_core::store::{Store, StoreErrorKind};
use serde::Serialize;
use tokio::task::JoinSet;

use super::probe::{Step, Wrong, probe};
use super::{App, chosen};
use crate::errors::{Exit, Failure, exit_of};
use crate::format::table::{Table, pairs};
use crate::output::TextStyle;

const EXAMPLES: &str = "\
Examples:
  nightferry store check           every configured store
  nightferry store check s3        one of them

Writes a few bytes, reads them back and deletes them. Nothing else in the bucket is touched.

Exit code 6 if a store is unreachable, 1 if one rejects an operation.";

/// Options of `store check`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
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
    ok: bool,
    steps: Vec<StepDocument>,
    fix: Option<String>,
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

#[derive(Serialize)]
struct StepDocument {
    step: &'static str,
    ok: bool,
    millis: u64,
    error: Option<String>,
}

/// The result for one store.
struct Tried {
    store: Store,
    steps: Vec<Step>,
}

pub(super) async fn run(app: &App, context: &Context, args: &CheckArgs) -> Result<Exit, Failure> {
    let stores = chosen(context, args.store.as_deref())?;
    app.output.detail("checking each store; one that does not respond takes until its timeouts");
    let tried = try_all(stores).await?;
    let document = Document {
        ok: tried.iter().all(Tried::is_ok),
        stores: tried.iter().map(|tried| tried.document(&context.config)).collect(),
    };
    app.output.result(&document, |look| text(&document, look))?;
    Ok(tried.iter().map(Tried::exit).fold(Exit::Ok, worse))
}

async fn try_all(stores: Vec<Store>) -> Result<Vec<Tried>, Failure> {
    let mut probes = JoinSet::new();
    for store in stores {
        probes.spawn(async move {
            let steps = probe(&store).await;
            Tried { store, steps }
        });
    }
    let mut tried = Vec::with_capacity(probes.len());
    while let Some(joined) = probes.join_next().await {
        tried.push(joined.map_err(|error| {
            Failure::new(Exit::Failed, "internal", "Checking a store failed").because(error)
        })?);
    }
    tried.sort_by(|a, b| a.store.name().cmp(b.store.name()));
    Ok(tried)
}

/// Unreachable takes precedence over rejected, and both take precedence over ok.
fn worse(a: Exit, b: Exit) -> Exit {
    match (a, b) {
        (Exit::Unreachable, _) | (_, Exit::Unreachable) => Exit::Unreachable,
        (Exit::Ok, other) | (other, _) => other,
    }
}

impl Tried {
    fn wrong(&self) -> Option<&Wrong> {
        self.steps.iter().find_map(|step| step.error.as_ref())
    }

    fn is_ok(&self) -> bool {
        self.wrong().is_none()
    }

    fn exit(&self) -> Exit {
        match self.wrong() {
            None => Exit::Ok,
            Some(Wrong::Store(error)) => exit_of(error.outcome()),
            Some(Wrong::OtherBytes) => Exit::Failed,
        }
    }

    fn document(&self, config: &Config) -> StoreDocument {
        let settings = self.store.settings();
        StoreDocument {
            name: self.store.name().to_string(),
            role: <&str>::from(self.store.role()),
            endpoint: settings.endpoint.clone(),
            bucket: settings.bucket.clone(),
            encryption: encryption(&self.store, config),
            ok: self.is_ok(),
            steps: self.steps.iter().map(Step::document).collect(),
            fix: self.wrong().map(|wrong| fix(&self.store, wrong)),
        }
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

impl Step {
    fn document(&self) -> StepDocument {
        StepDocument {
            step: self.name,
            ok: self.error.is_none(),
            millis: u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            error: self.error.as_ref().map(|wrong| match wrong {
                Wrong::Store(error) => error.to_string(),
                Wrong::OtherBytes => "the content read differs from the content written".to_owned(),
            }),
        }
    }
}

/// The advice, with the settings to check.
fn fix(store: &Store, wrong: &Wrong) -> String {
    let name = store.name();
    let settings = store.settings();
    let Wrong::Store(error) = wrong else {
        return "something between Nightferry and the store changes bodies, such as a proxy or a broken \
                disk: do not use this store until the cause is found"
            .to_owned();
    };
    if error.is_no_such_bucket() {
        return format!(
            "create the bucket {}, or let the API create it: nightferry serve --set \
                stores.{name}.create_bucket=true",
            settings.bucket
        );
    }
    if error.is_credentials() {
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
    let mut table =
        Table::new("STORE | ROLE | BUCKET | ENDPOINT | ENCRYPTION | > REACH | > WRITE | > READ | > DELETE |");
    for store in &document.stores {
        let step = |name| {
            let step = store.steps.iter().find(|step| step.step == name);
            match step {
                Some(step) if step.ok => format!("{} ms", step.millis),
                Some(_) => look.state("failed"),
                None => "-".to_owned(),
            }
        };
        table.row([
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
        ]);
    }
    let wrong = document.stores.iter().filter_map(|store| {
        let error = store.steps.iter().find_map(|step| step.error.clone())?;
        let fix = store.fix.clone().unwrap_or_default();
        Some(format!("\n\n{}\n{}", store.name, indented(&pairs(&[("why:", error), ("fix:", fix)]))))
    });
    let warnings = document.stores.iter().filter_map(|store| {
        let warning = store.encryption.warning.as_deref()?;
        Some(format!("\n\n{}\n{}", store.name, indented(&pairs(&[("warning:", warning.to_owned())]))))
    });
    let after: String = wrong.chain(warnings).collect();
    format!("{}{after}", table.render())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::time::Zone;

    fn step(step: &'static str, millis: u64, error: Option<&str>) -> StepDocument {
        StepDocument { step, ok: error.is_none(), millis, error: error.map(str::to_owned) }
    }

    fn store(name: &str, role: &'static str, steps: Vec<StepDocument>, fix: Option<&str>) -> StoreDocument {
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
            ok: fix.is_none(),
            steps,
            fix: fix.map(str::to_owned),
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
    fn unreachable_outweighs_refused() {
        assert_eq!([Exit::Ok, Exit::Failed].into_iter().fold(Exit::Ok, worse), Exit::Failed);
        assert_eq!(
            [Exit::Failed, Exit::Unreachable, Exit::Ok].into_iter().fold(Exit::Ok, worse),
            Exit::Unreachable
        );
        assert_eq!([Exit::Ok, Exit::Ok].into_iter().fold(Exit::Ok, worse), Exit::Ok);
    }
}
