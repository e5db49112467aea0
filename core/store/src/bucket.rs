//! Checks that the store is reachable and that the credentials are valid.

use s3::BucketConfiguration;
use s3::command::Command;

use super::{Store, StoreError};

const CREATE: &str = "CreateBucket";

/// The region that `CreateBucket` must not mention.
const DEFAULT_REGION: &str = "us-east-1";

impl Store {
    /// Checks that the endpoint responds, the credentials are valid and the bucket exists; the error describes which
    /// check failed.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.list("", None, 1).await.map(|_| ())
    }

    /// Creates the bucket if it does not exist.
    pub async fn ensure_bucket(&self) -> Result<(), StoreError> {
        match self.check().await {
            Err(error) if error.is_no_such_bucket() => {}
            result => return result,
        }
        let attempt = || {
            // Without a canned ACL: buckets are private by default, and many servers do not support ACLs.
            let mut config = BucketConfiguration::public();
            if self.settings().region != DEFAULT_REGION {
                config.set_location_constraint(self.0.bucket.region());
            }
            self.control(CREATE, &self.0.bucket, "", Command::CreateBucket { config })
        };
        match self.signed(attempt).await {
            Ok(_) => Ok(()),
            // Another process has created it, or it belongs to another account: the check determines which.
            Err(error) if matches!(error.code(), Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists")) => {
                self.check().await
            }
            Err(error) => Err(error),
        }
    }
}
