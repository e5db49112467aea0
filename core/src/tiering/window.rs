//! Whether a run has to wait for the transfer window at this moment, and until when. What the window is, the
//! configuration says; the clock is the context's.

use chrono::{DateTime, Utc};

use crate::config::TieringConfig;
use crate::context::Context;
use crate::db::enums::RunTrigger;

/// When the window opens for which a run asked for like this has to wait now; none: its transfers may start.
pub fn opens_at(context: &Context, trigger: RunTrigger) -> Option<DateTime<Utc>> {
    let tiering = &context.config.tiering;
    if !holds_for(tiering, trigger) {
        return None;
    }
    tiering.window.opens_at(context.clock.now(), tiering.time_zone)
}

/// Whether a run asked for like this keeps to the window. What a person asks for is wanted now.
pub fn holds_for(tiering: &TieringConfig, trigger: RunTrigger) -> bool {
    !tiering.window.is_always() && (trigger == RunTrigger::Schedule || tiering.window_applies_to_manual)
}
