//! Follows a run until it ends: by notifications, and by polling, because a notification may be lost. Reports if no
//! worker is running, and tolerates a database outage for a while.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nightferry_core::context::Context;
use nightferry_core::db::listen::{Listener, RUNS};
use nightferry_core::db::runs::Run;
use nightferry_core::db::workers;
use nightferry_core::error::{Error, Result as CoreResult};
use nightferry_core::ids::RunId;
use nightferry_core::tiering::run;

use super::App;
use super::progress::Progress;
use crate::errors::{Exit, Failure, cannot};

/// Polling interval while a run is active: there are no notifications for single files.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// A query that takes longer is aborted and counts as an outage.
const QUERY_DEADLINE: Duration = Duration::from_secs(30);
/// How long to wait for an unavailable database.
const MAX_OUTAGE: Duration = Duration::from_secs(60);
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// The number of missed heartbeats after which a worker counts as dead.
const HEARTBEATS_MISSED: u32 = 3;

pub(super) fn is_up(last: Option<DateTime<Utc>>, now: DateTime<Utc>, heartbeat: Duration) -> bool {
    last.is_some_and(|last| (now - last).to_std().unwrap_or_default() <= heartbeat * HEARTBEATS_MISSED)
}

pub(in crate::commands) async fn worker_is_up(context: &Context) -> CoreResult<bool> {
    let mut conn = context.db.conn().await?;
    let last = workers::last_heartbeat(&mut conn).await?;
    Ok(is_up(last, context.clock.now(), context.config.tiering.heartbeat))
}

/// Follows the run until it ends, and returns it; `None` after Ctrl-C.
pub(super) async fn follow(app: &App, context: &Context, run: Run) -> Result<Option<Run>, Failure> {
    let id = run.id;
    let mut follower = Follower {
        app,
        context,
        progress: Progress::new(&app.output),
        listener: None,
        workers_up: true,
        window_closed: false,
        away_since: None,
    };
    let outcome = tokio::select! {
        ended = follower.until_ended(run) => ended.map(Some),
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            Ok(()) => Ok(None),
            Err(error) => Err(Failure::new(Exit::Failed, "internal", "Cannot listen for Ctrl-C").because(error)),
        },
    };
    follower.progress.clear();
    outcome.map_err(|failure| {
        failure.advise_command("the run continues; to follow it again", format!("sync show {id} --wait"))
    })
}

struct Follower<'a> {
    app: &'a App,
    context: &'a Context,
    progress: Progress,
    listener: Option<Listener>,
    workers_up: bool,
    window_closed: bool,
    away_since: Option<Instant>,
}

impl Follower<'_> {
    async fn until_ended(&mut self, mut run: Run) -> Result<Run, Failure> {
        loop {
            self.progress.show(&run, &self.app.output);
            if !run.status.is_active() {
                return Ok(run);
            }
            self.wait().await;
            if let Some(now) = self.look(run.id).await? {
                run = now;
            }
        }
    }

    /// Waits for a notification, at most until the next poll is due.
    async fn wait(&mut self) {
        if self.listener.is_none() {
            // Polling is sufficient without notifications; it only detects the end a little later.
            self.listener = Listener::open(&self.context.db, RUNS).await.ok();
        }
        let is_connected = match &mut self.listener {
            Some(listener) => listener.wait(POLL_INTERVAL).await.is_ok(),
            None => false,
        };
        if !is_connected {
            self.listener = None;
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// The current state of the run; `None` while the database is unavailable.
    async fn look(&mut self, id: RunId) -> Result<Option<Run>, Failure> {
        let context = self.context;
        let both = async { Ok((run::find(context, id).await?, worker_is_up(context).await?)) };
        let seen = tokio::time::timeout(QUERY_DEADLINE, both)
            .await
            .unwrap_or_else(|_| Err(Error::DatabaseUnavailable("no response in time".to_owned())));
        match seen {
            Ok((view, up)) => {
                self.report_recovery();
                self.report_workers(&view.run, up);
                self.report_window(view.window_opens_at);
                Ok(Some(view.run))
            }
            Err(error @ Error::DatabaseUnavailable(_)) => self.tolerate_outage(error).map(|()| None),
            Err(error) => Err(cannot(format!("follow the run {id}"))(error)),
        }
    }

    /// Reports once that no worker is up, and once that a worker is up again.
    fn report_workers(&mut self, run: &Run, up: bool) {
        if !run.status.is_active() || up == self.workers_up {
            return;
        }
        self.workers_up = up;
        let output = &self.app.output;
        self.progress.aside(|| {
            if up {
                output.note("A worker is running: the run continues.");
            } else {
                output.warning_command("no worker is running, so the run waits. Start one", "worker");
            }
        });
    }

    /// Reports once that the run is waiting for the transfer window.
    fn report_window(&mut self, opens: Option<DateTime<Utc>>) {
        let was_closed = std::mem::replace(&mut self.window_closed, opens.is_some());
        if let (false, Some(opens)) = (was_closed, opens) {
            let output = &self.app.output;
            self.progress.aside(|| {
                output.note(&format!(
                    "The transfer window is closed: the run continues at {}.",
                    opens.to_rfc3339()
                ));
            });
        }
    }

    fn tolerate_outage(&mut self, error: Error) -> Result<(), Failure> {
        let output = &self.app.output;
        match self.away_since {
            None => {
                self.away_since = Some(Instant::now());
                self.progress.aside(|| output.warning(&format!("{error}; retrying")));
            }
            Some(since) if since.elapsed() > MAX_OUTAGE => return Err(cannot("follow the run")(error)),
            Some(_) => {}
        }
        Ok(())
    }

    fn report_recovery(&mut self) {
        if self.away_since.take().is_some() {
            self.progress.aside(|| self.app.output.note("The database is available again."));
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_worker_is_up_while_it_misses_at_most_three_heartbeats() {
        let now = Utc::now();
        let heartbeat = Duration::from_secs(5);
        assert!(is_up(Some(now), now, heartbeat));
        assert!(is_up(Some(now - TimeDelta::seconds(15)), now, heartbeat));
        assert!(!is_up(Some(now - TimeDelta::seconds(16)), now, heartbeat));
        assert!(!is_up(None, now, heartbeat));
        assert!(
            is_up(Some(now + TimeDelta::seconds(30)), now, heartbeat),
            "a clock that is ahead is not silence"
        );
    }
}
