//! Deletes many objects with one request (`DeleteObjects`). Not every server has it: GCS, for example, does not. A store
//! that refuses it is remembered until the process ends, and its objects are deleted one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use s3::command::Command;
use s3::serde_types::{DeleteObjectsRequest, ObjectIdentifier};

use super::xml::{self, DeleteEntry, DeleteResult};
use super::{ObjectKey, Store, StoreError, StoreErrorKind, Verdict};

const DELETE_MANY: &str = "DeleteObjects";

/// Maximum number of objects deleted with one request: the limit of S3.
pub const DELETE_LIMIT: usize = 1000;

/// The response to a request to delete several objects.
#[derive(Debug)]
pub enum BatchDeletion {
    /// All objects are deleted, or were missing, except these.
    Done(BTreeMap<ObjectKey, StoreError>),
    /// The store does not accept such requests; nothing was deleted. Delete the objects one by one. With its response,
    /// the first time.
    Refused(Option<StoreError>),
}

impl Store {
    /// Whether the store accepts requests to delete several objects, as far as known.
    pub fn deletes_in_batches(&self) -> bool {
        !self.0.one_by_one.load(Ordering::Relaxed)
    }

    /// Deletes up to [`DELETE_LIMIT`] objects with one request; missing ones are not an error. An object counts as
    /// deleted only if the response names it; so the quiet mode, which names only failures, is not used. An error
    /// concerns all of them: any of them may be deleted or not.
    pub async fn delete_batch(&self, keys: &[ObjectKey]) -> Result<BatchDeletion, StoreError> {
        if keys.is_empty() {
            return Ok(BatchDeletion::Done(BTreeMap::new()));
        }
        if keys.len() > DELETE_LIMIT {
            return Err(self.invalid(DELETE_MANY, &format!("{} objects in one request", keys.len())));
        }
        if !self.deletes_in_batches() {
            return Ok(BatchDeletion::Refused(None));
        }
        let objects = keys.iter().map(|key| ObjectIdentifier::new(key.as_str())).collect();
        let request = DeleteObjectsRequest { objects, quiet: false };
        match self.signed(|| self.delete_batch_once(request.clone())).await {
            Ok(body) => {
                let result: DeleteResult =
                    xml::read("DeleteResult", &body).map_err(|detail| self.protocol(DELETE_MANY, detail))?;
                Ok(BatchDeletion::Done(self.not_deleted(keys, result.entries)))
            }
            // Servers without it respond in many ways: 501, 405, 404 for the path, 400 for the document. If the cause
            // is another one, such as the permissions, the requests for single objects show it too.
            Err(error) if is_refusal(&error) => {
                self.0.one_by_one.store(true, Ordering::Relaxed);
                Ok(BatchDeletion::Refused(Some(error)))
            }
            Err(error) => Err(error),
        }
    }

    async fn delete_batch_once(&self, request: DeleteObjectsRequest) -> Result<Bytes, StoreError> {
        let command = Command::DeleteObjects { data: request };
        let response = self.control(DELETE_MANY, &self.0.bucket, "/", command).await?;
        let body = self.read_document(DELETE_MANY, response, self.settings().deadlines.control).await?;
        // The status may have been sent before the work was done.
        if let Some(error) = xml::read_error(&body) {
            let kind = StoreErrorKind::Answer { status: 200, code: error.code };
            return Err(self.error(DELETE_MANY, kind, error.message));
        }
        Ok(body)
    }

    /// Those of `keys` that are not deleted according to the response, which may be incomplete.
    fn not_deleted(&self, keys: &[ObjectKey], entries: Vec<DeleteEntry>) -> BTreeMap<ObjectKey, StoreError> {
        let (mut deleted, mut refused) = (BTreeSet::new(), BTreeMap::new());
        for entry in entries {
            match entry {
                DeleteEntry::Deleted(entry) => {
                    deleted.insert(entry.key);
                }
                DeleteEntry::Error(entry) => {
                    refused.insert(entry.key, (entry.code, entry.message));
                }
                DeleteEntry::Other => {}
            }
        }
        let mut failed = BTreeMap::new();
        for key in keys {
            let error = match refused.remove(key.as_str()) {
                Some((code, message)) => {
                    let kind = StoreErrorKind::Answer { status: 200, code };
                    let error = self.error(DELETE_MANY, kind, message);
                    if error.verdict() == Verdict::SourceMissing {
                        continue;
                    }
                    error
                }
                None if deleted.contains(key.as_str()) => continue,
                None => self.protocol(DELETE_MANY, "the response does not name the object"),
            };
            failed.insert(key.clone(), error);
        }
        failed
    }
}

/// Whether the store refuses the request as such. A gateway that changes headers makes its signature wrong.
fn is_refusal(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::Answer { .. })
        && (!error.is_credentials() || error.code() == Some("SignatureDoesNotMatch"))
        && matches!(error.verdict(), Verdict::Permanent | Verdict::SourceMissing)
}
