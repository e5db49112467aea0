//! An archive class in front of a real server: responds as S3 documents for GLACIER (`RestoreObject`, `GetObject`,
//! `HeadObject`), while the content stays in place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use reqwest::Method;

use super::record::Request;

/// The archived copies. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Glacier(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Text contained in the keys of archived objects; `None` if nothing is archived.
    part: Option<String>,
    copies: BTreeMap<String, Copy>,
    restores: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Copy {
    Restoring,
    Restored(String),
}

/// What to do with a request.
pub(super) enum Verdict {
    /// Forward it unchanged.
    Pass,
    /// Respond to it directly.
    Answer { status: u16, code: &'static str },
    /// Forward it, and add these headers to the response.
    Amend(String),
}

impl Glacier {
    /// Archives every object whose key contains this text.
    pub fn freeze(&self, part: &str) {
        self.0.lock().unwrap().part = Some(part.to_owned());
    }

    /// Completes the restores in progress: the objects can be read until this date (RFC 9110).
    pub fn finish(&self, until: &str) {
        for copy in self.0.lock().unwrap().copies.values_mut() {
            *copy = Copy::Restored(until.to_owned());
        }
    }

    /// Removes the restored copies.
    pub fn expire(&self) {
        self.0.lock().unwrap().copies.clear();
    }

    /// Number of restores started.
    pub fn restores(&self) -> usize {
        self.0.lock().unwrap().restores
    }

    pub(super) fn judge(&self, request: &Request) -> Verdict {
        let mut state = self.0.lock().unwrap();
        if !state.part.as_ref().is_some_and(|part| request.path.contains(part)) {
            return Verdict::Pass;
        }
        let copy = state.copies.get(&request.path).cloned();
        let is_restore = request.parameter("restore").is_some();
        match (&request.method, copy) {
            (&Method::POST, None) if is_restore => {
                state.copies.insert(request.path.clone(), Copy::Restoring);
                state.restores += 1;
                Verdict::Answer { status: 202, code: "" }
            }
            (&Method::POST, Some(Copy::Restoring)) if is_restore => {
                Verdict::Answer { status: 409, code: "RestoreAlreadyInProgress" }
            }
            (&Method::POST, Some(Copy::Restored(_))) if is_restore => {
                Verdict::Answer { status: 200, code: "" }
            }
            (&Method::GET, Some(Copy::Restored(_))) => Verdict::Pass,
            (&Method::GET, _) => Verdict::Answer { status: 403, code: "InvalidObjectState" },
            (&Method::HEAD, copy) => Verdict::Amend(match copy {
                None => "x-amz-storage-class: GLACIER\r\n".to_owned(),
                Some(Copy::Restoring) => {
                    "x-amz-storage-class: GLACIER\r\nx-amz-restore: ongoing-request=\"true\"\r\n".to_owned()
                }
                Some(Copy::Restored(until)) => format!(
                    "x-amz-storage-class: GLACIER\r\nx-amz-restore: ongoing-request=\"false\", expiry-date=\"{until}\"\r\n"
                ),
            }),
            _ => Verdict::Pass,
        }
    }
}
