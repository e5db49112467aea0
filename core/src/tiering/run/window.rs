//! Whether a run has to wait for the transfer window now, and until when. The window comes from the configuration, the
//! time from the context.

use chrono::{DateTime, Utc};

use crate::config::TieringConfig;
use crate::context::Context;
use crate::db::enums::RunTrigger;

/// When the window opens for which a run with this trigger has to wait now; `None`: its transfers may start.
pub fn opens_at(context: &Context, trigger: RunTrigger) -> Option<DateTime<Utc>> {
    let tiering = &context.config.tiering;
    if !holds_for(tiering, trigger) {
        return None;
    }
    tiering.window.opens_at(context.clock.now(), tiering.time_zone)
}

/// Whether a run with this trigger observes the window. Manual runs start immediately.
pub fn holds_for(tiering: &TieringConfig, trigger: RunTrigger) -> bool {
    !tiering.window.is_always() && (trigger == RunTrigger::Schedule || tiering.window_applies_to_manual)
}
