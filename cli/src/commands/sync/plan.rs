//! `nightferry sync plan`: what a run would do, by rule and in total, and optionally file by file.

use clap::Args;
use nightferry_api_types::plan::{PlanItem, SyncPlan};
use nightferry_core::config::FreeLocalAfter;
use nightferry_core::context::Context;
use nightferry_core::db::plans::Item;
use nightferry_core::db::unsigned;
use nightferry_core::tiering::money::Money;
use nightferry_core::tiering::plan::{self, Part, PlanView};

use super::App;
use super::run::LimitArgs;
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{pairs, plain, table};
use crate::format::{bytes, grouped, time};
use crate::output::{TextStyle, not_json, print};

/// Plan items read and printed at once.
const PAGE: i64 = 1_000;

const EXAMPLES: &str = "\
Examples:
  nightferry sync plan                         what a run of all files would do now
  nightferry sync plan --files                 with each file and the rule that applies
  nightferry sync plan --user ada@example.org  only this account's files
  nightferry --json sync plan --files | jq -c '.items[] | select(.rule == \"old-videos\")'

Nothing is transferred or queued. The plan is saved for policy.plan_ttl: `nightferry sync run --plan ID` \
executes exactly this plan, or is rejected with a list of changes. Costs are shown if [[policy.prices]] are \
configured.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanArgs {
    /// List each file with the rule that applies
    #[arg(long)]
    files: bool,
    #[command(flatten)]
    limits: LimitArgs,
}

pub(super) async fn run(app: &App, context: &Context, args: PlanArgs) -> Result<Exit, Failure> {
    let scope = args.limits.scope(context).await?;
    let view = plan::make(context, &scope, None, &origin()).await.map_err(cannot("make a plan"))?;
    let currency = &context.config.policy.currency;
    let document = SyncPlan::new(&view, currency);
    if args.files && app.output.is_json() {
        let head = serde_json::to_string(&document).map_err(not_json)?;
        print(&format!("{},\"items\":[", head.strip_suffix('}').unwrap_or(&head)))?;
        if let Err(failure) = documents_of_files(context, &view).await {
            // Output that was printed cannot be undone: the document ends with the error.
            app.output.problem(&failure);
            print(&format!("]{}", app.output.interrupted(&failure)))?;
            return Ok(failure.exit);
        }
        print("]}")?;
    } else {
        app.output.result(&document, |look| text(&view, currency, look))?;
        if args.files && view.files > 0 {
            print("\n")?;
            lines_of_files(context, &view).await?;
        }
    }
    for warning in &view.warnings {
        app.output.warning(warning);
    }
    if view.files > 0 {
        app.output.note_command("To execute it", &format!("sync run --plan {}", view.plan.id));
    }
    Ok(Exit::Ok)
}

/// Calls `each` for each page of the plan's items.
async fn pages(
    context: &Context,
    view: &PlanView,
    mut each: impl FnMut(&[Item]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let (items, next) = plan::items(context, view.plan.id, after.as_ref(), PAGE)
            .await
            .map_err(cannot("list the files of the plan"))?;
        each(&items)?;
        after = next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// The items of the document, printed while they are read: a plan may have millions of files.
async fn documents_of_files(context: &Context, view: &PlanView) -> Result<(), Failure> {
    let mut first = true;
    pages(context, view, |items| {
        let mut lines = String::new();
        for item in items {
            lines.push_str(if first { "" } else { ",\n" });
            first = false;
            lines.push_str(&serde_json::to_string(&PlanItem::from(item)).map_err(not_json)?);
        }
        print(&lines)
    })
    .await
}

async fn lines_of_files(context: &Context, view: &PlanView) -> Result<(), Failure> {
    pages(context, view, |items| {
        print(&table("RULE | STORE | CLASS | > SIZE | FILE | NAME", items, |item| {
            let version = item.version.map(|version| format!(" (version {version})")).unwrap_or_default();
            [
                item.rule.clone(),
                item.store.clone(),
                item.storage_class.clone().unwrap_or_else(|| "-".to_owned()),
                bytes::human(unsigned(item.size)),
                item.file_id.map_or_else(|| "-".to_owned(), |file| file.to_string()),
                format!("{}{version}", plain(item.filename.as_deref().unwrap_or("-"))),
            ]
        }))
    })
    .await
}

fn text(view: &PlanView, currency: &str, look: TextStyle) -> String {
    if view.files == 0 {
        return "A run would copy nothing: all files are stored according to the rules.".to_owned();
    }
    let cost = |of: fn(&Part) -> Option<Money>| amount(view.sum(of), currency);
    let needs = view.needs.map_or_else(|| "unknown: no run has been measured yet".to_owned(), time::span);
    let facts = pairs(&[
        ("plan", view.plan.id.to_string()),
        ("expires", look.zone.show(view.plan.expires_at)),
        ("files", grouped(view.files)),
        ("bytes", bytes::human(view.bytes)),
        ("requests", format!("{} PUTs, {}", grouped(view.requests), cost(|part| part.requests))),
        ("time", needs),
        ("per month", cost(|part| part.monthly)),
        ("egress", cost(|part| part.egress)),
    ]);
    let headings = "RULE | STORE | CLASS | > FILES | > BYTES | > PUTS | > PER MONTH | LOCAL COPY";
    let parts = table(headings, &view.parts, |part| {
        let group = &part.group;
        [
            group.rule.clone(),
            group.store.clone(),
            part.class.clone(),
            grouped(unsigned(group.files)),
            bytes::human(unsigned(group.bytes)),
            grouped(unsigned(group.requests)),
            amount(part.monthly, currency),
            match part.local {
                FreeLocalAfter::Never => "kept".to_owned(),
                FreeLocalAfter::After(after) if after.is_zero() => "evicted at once".to_owned(),
                FreeLocalAfter::After(after) => format!("evicted after {}", time::span(after)),
            },
        ]
    });
    format!("{facts}\n\n{parts}")
}

fn amount(money: Option<Money>, currency: &str) -> String {
    money.map_or_else(|| "unknown".to_owned(), |money| format!("{money} {currency}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;
    use nightferry_core::config::Price;
    use nightferry_core::db::plans::{Group, Plan};
    use nightferry_core::ids::PlanId;

    use super::*;
    use crate::format::time::Zone;

    const LOOK: TextStyle = TextStyle { color: false, zone: Zone::Utc };

    fn part(rule: &str, class: &str, price: Option<&str>, local: FreeLocalAfter) -> Part {
        let group = Group {
            rule: rule.to_owned(),
            store: "s3".to_owned(),
            storage_class: None,
            files: 12,
            bytes: 5 << 30,
            requests: 1840,
            small_files: 0,
            small_bytes: 0,
        };
        let price: Option<Price> = price.map(|text| text.parse().unwrap());
        Part {
            monthly: price.map(|price| Money::of_bytes(price, 5 << 30)),
            requests: price.map(|price| Money::of_requests(price, 1840)),
            egress: None,
            class: class.to_owned(),
            local,
            group,
        }
    }

    fn view(parts: Vec<Part>) -> PlanView {
        let made = DateTime::from_timestamp(1_795_219_200, 0).unwrap_or_default();
        let plan = Plan {
            id: PlanId(uuid::Uuid::nil()),
            requested_by: None,
            scope: serde_json::Value::Null,
            fingerprint: String::new(),
            groups: serde_json::Value::Null,
            created_at: made,
            expires_at: made + Duration::from_secs(86_400),
        };
        let count = u64::try_from(parts.len()).unwrap();
        PlanView {
            plan,
            files: 12 * count,
            bytes: count * (5 << 30),
            requests: 1840 * count,
            needs: Some(Duration::from_secs(200)),
            warnings: Vec::new(),
            parts,
        }
    }

    #[test]
    fn a_plan_as_text() {
        let week = FreeLocalAfter::After(Duration::from_secs(7 * 86_400));
        let parts = vec![
            part("default", "STANDARD", Some("0.02"), FreeLocalAfter::Never),
            part("videos", "STANDARD_IA", Some("0.01"), week),
        ];
        let known = text(&view(parts), "EUR", LOOK);
        let unknown = text(&view(vec![part("a", "GLACIER", None, FreeLocalAfter::Never)]), "EUR", LOOK);
        let nothing = text(&view(Vec::new()), "EUR", LOOK);
        insta::assert_snapshot!(format!("{known}\n\n{unknown}\n\n{nothing}"));
    }
}
