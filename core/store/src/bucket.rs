//! Is the store there, and does it let us in?

use s3::BucketConfiguration;
use s3::command::Command;

use super::{Store, StoreError};

const CREATE: &str = "CreateBucket";

/// The region whose name `CreateBucket` must not mention.
const DEFAULT_REGION: &str = "us-east-1";

impl Store {
    /// Whether the endpoint answers, the credentials are right and the bucket exists; the error says which is wrong.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.list("", None, 1).await.map(|_| ())
    }

    /// Makes the bucket if it does not exist.
    pub async fn ensure_bucket(&self) -> Result<(), StoreError> {
        match self.check().await {
            Err(error) if error.is_no_such_bucket() => {}
            result => return result,
        }
        let deadline = self.settings().deadlines.control;
        let attempt = || {
            // Without a canned ACL: buckets are private unless told otherwise, and many servers know no ACLs.
            let mut config = BucketConfiguration::public();
            if self.settings().region != DEFAULT_REGION {
                config.set_location_constraint(self.0.bucket.region());
            }
            self.control(CREATE, &self.0.bucket, "", Command::CreateBucket { config }, deadline)
        };
        match self.signed(attempt).await {
            Ok(_) => Ok(()),
            // Another process was faster, or it belongs to somebody else: the check knows.
            Err(error) if matches!(error.code(), Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists")) => {
                self.check().await
            }
            Err(error) => Err(error),
        }
    }
}
