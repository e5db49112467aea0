//! Sign-in: whether the time of a refused login reveals that an account exists, and how long other requests wait during
//! many concurrent sign-ins.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use nightferry_devservers::free_port;
use reqwest::StatusCode;
use serde_json::json;

use crate::args::Args;
use crate::quiet::Quiet;
use crate::report::{Goal, Report};
use crate::stats::{mann_whitney, median, percentile};
use crate::subject::Subject;
use crate::world::{EMAIL, PASSWORD, World, eventually};

/// Number of concurrent logins during which a cheap request is measured.
const CONCURRENT_LOGINS: usize = 50;
/// An email address without an account.
const UNKNOWN_EMAIL: &str = "nobody@example.org";
const SHORT: Duration = Duration::from_secs(60);

struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// Runs all measurements.
pub(crate) async fn run(world: &World, args: &Args, quiet: &mut Quiet, report: &mut Report) -> Result<()> {
    let database = "sign_in";
    world.install(database, "sign-in").await?;
    let mut settings = world.settings(database, "sign-in");
    let port = free_port()?;
    for (key, value) in [
        ("server.port", port.to_string().as_str()),
        // The limits would stop the measurement; they are covered by tests.
        ("limits.enabled", "false"),
        ("limits.failed_logins", "1000"),
        ("limits.failed_logins_everywhere", "100000"),
    ] {
        settings.push((key.to_owned(), value.to_owned()));
    }
    let mut api = Subject::start("serve", &settings, world.folder())?;
    let client = sign_in(&mut api, port).await?;
    timing(&client, args, quiet, report).await?;
    waiting(&client, args, quiet, report).await?;
    flood(&client, args, report).await?;
    api.stop().await
}

async fn sign_in(api: &mut Subject, port: u16) -> Result<Client> {
    let base = format!("http://127.0.0.1:{port}");
    let http = reqwest::Client::builder().no_proxy().timeout(SHORT).build()?;
    eventually("the API responds", SHORT, async || {
        api.alive()?;
        let answer = http.get(format!("{base}/health")).send().await;
        Ok(answer.is_ok_and(|answer| answer.status().is_success()).then_some(()))
    })
    .await?;
    let mut client = Client { http, base, token: String::new() };
    let answer = client.login(EMAIL, PASSWORD).await?.error_for_status()?;
    let body: serde_json::Value = answer.json().await?;
    let token = body.get("access_token").and_then(serde_json::Value::as_str).context("no access token")?;
    token.clone_into(&mut client.token);
    Ok(client)
}

impl Client {
    async fn login(&self, email: &str, password: &str) -> Result<reqwest::Response> {
        let body = json!({ "email": email, "password": password });
        Ok(self.http.post(format!("{}/api/auth/login", self.base)).json(&body).send().await?)
    }

    async fn refused(&self, email: &str) -> Result<Duration> {
        let begun = Instant::now();
        let answer = self.login(email, "not the password").await?;
        let took = begun.elapsed();
        ensure!(answer.status() == StatusCode::UNAUTHORIZED, "a wrong password: {}", answer.status());
        Ok(took)
    }

    /// A request that only reads the account from the database.
    async fn cheap(&self) -> Result<Duration> {
        let begun = Instant::now();
        let request = self.http.get(format!("{}/api/auth/me", self.base)).bearer_auth(&self.token);
        request.send().await?.error_for_status()?.bytes().await?;
        Ok(begun.elapsed())
    }
}

/// Rejected logins of an existing account and of an address without an account, alternating.
async fn timing(client: &Client, args: &Args, quiet: &mut Quiet, report: &mut Report) -> Result<()> {
    let pairs = args.scaled(200).min(900);
    quiet.wait().await?;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    // Both have failed before: the first failure is recorded differently from later ones.
    client.refused(EMAIL).await?;
    client.refused(UNKNOWN_EMAIL).await?;
    for pair in 0..pairs {
        // The order alternates, so that a drift of the machine affects both equally.
        if pair % 2 == 0 {
            known.push(client.refused(EMAIL).await?);
            unknown.push(client.refused(UNKNOWN_EMAIL).await?);
        } else {
            unknown.push(client.refused(UNKNOWN_EMAIL).await?);
            known.push(client.refused(EMAIL).await?);
        }
    }
    let test = mann_whitney(&known, &unknown);
    let (of_known, of_unknown) = (median(&known), median(&unknown));
    let ratio = of_known.as_secs_f64() / of_unknown.as_secs_f64().max(1e-9);
    let millis = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    report.compare(
        &format!("refused login, {pairs} to an existing account"),
        millis(of_known),
        format!("as many to unknown addresses: {}", millis(of_unknown)),
        (1.0 + (ratio - 1.0).abs(), format!("**{ratio:.4}**")),
        Goal::AtMost(1.02),
    );
    report.note(format!(
        "refused logins: Mann-Whitney z = {:.2}, p = {:.3}; logins to the existing account were slower in {:.1} % of \
         all pairs",
        test.z,
        test.p,
        test.superiority * 100.0
    ));
    Ok(())
}

/// A cheap request, repeated without and with many concurrent logins.
async fn waiting(client: &Client, args: &Args, quiet: &mut Quiet, report: &mut Report) -> Result<()> {
    let rounds = args.scaled(3);
    let (mut alone, mut during) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        quiet.wait().await?;
        for _ in 0..200 {
            alone.push(client.cheap().await?);
        }
        let logins = join_all((0..CONCURRENT_LOGINS).map(|_| client.login(EMAIL, PASSWORD)));
        let (answers, times) = requests_during(client, logins, Duration::from_millis(5)).await?;
        for answer in answers {
            let status = answer?.status();
            ensure!(status.is_success(), "a concurrent login: {status}");
        }
        during.extend(times);
    }
    ensure!(!during.is_empty(), "no request was made during the logins");
    let (of_alone, of_during) = (median(&alone), median(&during));
    let ratio = of_during.as_secs_f64() / of_alone.as_secs_f64().max(1e-9);
    let millis = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    report.compare(
        &format!("a cheap request during {CONCURRENT_LOGINS} concurrent logins"),
        millis(of_during),
        format!("without them: {}", millis(of_alone)),
        (ratio, format!("**{ratio:.2}**")),
        Goal::AtMost(3.0),
    );
    report.note(format!(
        "a cheap request during {CONCURRENT_LOGINS} logins: 99 % within {}, without them {}",
        millis(percentile(&during, 99)),
        millis(percentile(&alone, 99))
    ));
    Ok(())
}

/// Makes a cheap request periodically until other work is done. Returns the result of the work and the durations.
async fn requests_during<T>(
    client: &Client,
    work: impl Future<Output = T>,
    pause: Duration,
) -> Result<(T, Vec<Duration>)> {
    let done = Cell::new(false);
    let working = async {
        let outcome = work.await;
        done.set(true);
        outcome
    };
    let requesting = async {
        let mut times = Vec::new();
        while !done.get() {
            times.push(client.cheap().await?);
            tokio::time::sleep(pause).await;
        }
        Ok::<_, anyhow::Error>(times)
    };
    let (outcome, times) = tokio::join!(working, requesting);
    Ok((outcome, times?))
}

/// Thousands of concurrent sign-ups and logins: their outcomes, and the effect on other requests.
async fn flood(client: &Client, args: &Args, report: &mut Report) -> Result<()> {
    let count = args.scaled(10_000);
    let begun = Instant::now();
    let flood = join_all((0..count).map(async |number| {
        let email = format!("flood{number}@example.org");
        if number % 2 == 0 {
            let body = json!({ "email": email, "password": PASSWORD });
            let request = client.http.post(format!("{}/api/auth/signup", client.base)).json(&body);
            request.send().await.map(|answer| answer.status())
        } else {
            let body = json!({ "email": email, "password": "not the password" });
            let request = client.http.post(format!("{}/api/auth/login", client.base)).json(&body);
            request.send().await.map(|answer| answer.status())
        }
    }));
    let (answers, during) = requests_during(client, flood, Duration::from_millis(20)).await?;
    let took = begun.elapsed();
    let count_of =
        |wanted: &[u16]| answers.iter().flatten().filter(|status| wanted.contains(&status.as_u16())).count();
    report.note(format!(
        "{count} concurrent sign-ups and logins, {:.0} s: {} succeeded, {} told to retry (429), {} without a response; a cheap request during \
         them: median {:.1} ms, 99 % within {:.1} ms, slowest {:.1} ms ({} made)",
        took.as_secs_f64(),
        count_of(&[201, 401]),
        count_of(&[429]),
        answers.iter().filter(|answer| answer.is_err()).count() + count_of(&[500, 502, 503, 504]),
        median(&during).as_secs_f64() * 1000.0,
        percentile(&during, 99).as_secs_f64() * 1000.0,
        percentile(&during, 100).as_secs_f64() * 1000.0,
        during.len()
    ));
    Ok(())
}
