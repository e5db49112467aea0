//! Multipart uploads, as far as [`super::MemoryS3`] supports them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use nightferry_core::checksum::Crc64Nvme;
use uuid::Uuid;

use super::http::{Answer, Request};
use super::{Bucket, Sworn, Writes};

const CHECKSUM: &str = "x-amz-checksum-crc64nvme";

/// An unfinished upload.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) key: String,
    headers: Vec<(String, String)>,
    initiated: DateTime<Utc>,
    parts: BTreeMap<u32, Part>,
}

#[derive(Debug)]
struct Part {
    bytes: Bytes,
    /// Checksum of the received bytes.
    promised: Crc64Nvme,
    /// The checksum that is returned: none if other content was stored, unless a false one is to be returned.
    told: Option<Crc64Nvme>,
}

impl Part {
    fn etag(&self) -> String {
        format!("{}", self.promised)
    }
}

impl Request {
    pub(super) fn begin_upload(&self, bucket: &Bucket) -> Answer {
        let id = Uuid::new_v4().simple().to_string();
        let headers = self.kept_headers();
        let upload =
            Upload { key: self.key.clone(), headers, initiated: bucket.now(), parts: BTreeMap::new() };
        let answer = format!(
            "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        );
        bucket.uploads().insert(id, upload);
        Answer::document(answer)
    }

    pub(super) fn put_part(&self, bucket: &Bucket) -> Answer {
        let mut uploads = bucket.uploads();
        let upload = self.parameter("uploadId").and_then(|id| uploads.get_mut(id));
        let Some(upload) = upload else { return Answer::error(404, "NoSuchUpload") };
        let Some(number) = self.parameter("partNumber").and_then(|text| text.parse().ok()) else {
            return Answer::error(400, "InvalidArgument");
        };
        let promised = Crc64Nvme::of(&self.body);
        let writes = bucket.writes();
        if writes.verifies() && self.header(CHECKSUM).is_some_and(|header| header != promised.base64()) {
            return Answer::error(400, "XAmzContentChecksumMismatch");
        }
        let (bytes, told) = match writes {
            Writes::Sound => (self.body.clone(), Some(promised)),
            Writes::Flipped | Writes::FlippedUnverified => (self.flipped(), None),
            Writes::FlippedAndSworn => (self.flipped(), Some(promised)),
            Writes::Unverified => (self.body.clone(), None),
        };
        let part = Part { bytes, promised, told };
        let mut answer = Answer::new(200).with("ETag", format!("\"{}\"", part.etag()));
        if let Some(told) = told {
            answer = answer.with(CHECKSUM, told.base64());
        } else if let Some(sent) = self.header(CHECKSUM).filter(|_| !writes.verifies()) {
            answer = answer.with(CHECKSUM, sent.to_owned());
        }
        upload.parts.insert(number, part);
        answer
    }

    /// Every named part must exist. Content that was changed when stored is not checked again.
    pub(super) fn complete_upload(&self, bucket: &Bucket) -> Answer {
        let mut uploads = bucket.uploads();
        let id = self.parameter("uploadId").unwrap_or_default();
        let Some(upload) = uploads.get(id) else { return Answer::error(404, "NoSuchUpload") };
        let document = String::from_utf8_lossy(&self.body);
        let (mut bytes, mut promised, mut told) = (Vec::new(), Crc64Nvme::EMPTY, Some(Crc64Nvme::EMPTY));
        for named in document.split("<Part>").skip(1) {
            let number = between(named, "PartNumber").and_then(|text| text.parse::<u32>().ok());
            let part = number.and_then(|number| upload.parts.get(&number));
            let part =
                part.filter(|part| between(named, "ETag").is_some_and(|tag| tag.contains(&part.etag())));
            let Some(part) = part else { return Answer::error(400, "InvalidPart") };
            let length = part.bytes.len() as u64;
            bytes.extend_from_slice(&part.bytes);
            promised = promised.combine(part.promised, length);
            told = told.zip(part.told).map(|(told, next)| told.combine(next, length));
        }
        let writes = bucket.writes();
        if writes.verifies() && self.header(CHECKSUM).is_some_and(|header| header != promised.base64()) {
            return Answer::error(400, "BadDigest");
        }
        // Later requests return the true checksum, unless a false one is to be returned.
        let sworn = Sworn::Crc64Nvme(told.unwrap_or_else(|| Crc64Nvme::of(&bytes)));
        bucket.keep(&upload.key, bytes.into(), Some(sworn), upload.headers.clone(), bucket.now());
        uploads.remove(id);
        let mut answer = format!("<CompleteMultipartUploadResult><ETag>{}</ETag>", sworn.etag());
        let sent = self.header(CHECKSUM).filter(|_| !writes.verifies()).map(str::to_owned);
        if let Some(told) = told.map(Crc64Nvme::base64).or(sent) {
            write!(answer, "<ChecksumCRC64NVME>{told}</ChecksumCRC64NVME>").unwrap();
        }
        Answer::document(answer + "</CompleteMultipartUploadResult>")
    }

    pub(super) fn abort_upload(&self, bucket: &Bucket) -> Answer {
        match self.parameter("uploadId").and_then(|id| bucket.uploads().remove(id)) {
            Some(_) => Answer::new(204),
            None => Answer::error(404, "NoSuchUpload"),
        }
    }

    pub(super) fn list_uploads(&self, bucket: &Bucket) -> Answer {
        let prefix = self.decoded("prefix");
        let mut text = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>".to_owned();
        for (id, upload) in bucket.uploads().iter().filter(|(_, upload)| upload.key.starts_with(&prefix)) {
            let initiated = upload.initiated.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            write!(
                text,
                "<Upload><Key>{}</Key><UploadId>{id}</UploadId><Initiated>{initiated}</Initiated></Upload>",
                upload.key
            )
            .unwrap();
        }
        Answer::document(text + "</ListMultipartUploadsResult>")
    }
}

/// The content of the first element with this name.
fn between<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}
