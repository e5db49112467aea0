//! The XML documents of S3, limited to the fields that are used.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::{ListedObject, ListedUpload, UploadId};

/// `<Error>`: the body of every error response.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ErrorDocument {
    pub(super) code: String,
    pub(super) message: String,
}

/// `<InitiateMultipartUploadResult>`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InitiateMultipartUploadResult {
    pub(super) upload_id: UploadId,
}

/// `<CompleteMultipartUpload>`.
#[derive(Debug, Serialize)]
pub(super) struct CompleteMultipartUpload {
    #[serde(rename = "Part")]
    pub(super) parts: Vec<Part>,
}

/// One part of the object.
#[derive(Debug, Serialize)]
pub(super) struct Part {
    #[serde(rename = "PartNumber")]
    pub(super) number: u32,
    #[serde(rename = "ETag")]
    pub(super) etag: String,
    #[serde(rename = "ChecksumCRC64NVME", skip_serializing_if = "Option::is_none")]
    pub(super) crc64nvme: Option<String>,
}

/// `<CompleteMultipartUploadResult>`.
#[derive(Debug, Deserialize)]
pub(super) struct CompleteMultipartUploadResult {
    #[serde(rename = "ETag", deserialize_with = "unquoted")]
    pub(super) etag: String,
    #[serde(rename = "ChecksumCRC64NVME", default)]
    pub(super) crc64nvme: Option<String>,
}

/// `<ListBucketResult>` of `ListObjectsV2`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListBucketResult {
    pub(super) is_truncated: bool,
    pub(super) contents: Vec<ListedObject>,
}

/// `<ListMultipartUploadsResult>`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListMultipartUploadsResult {
    pub(super) is_truncated: bool,
    pub(super) next_key_marker: Option<String>,
    pub(super) next_upload_id_marker: Option<String>,
    #[serde(rename = "Upload")]
    pub(super) uploads: Vec<ListedUpload>,
}

/// `<VersioningConfiguration>`; empty for a bucket that never kept versions.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct VersioningConfiguration {
    pub(super) status: String,
}

/// `<DeleteResult>` of `DeleteObjects`, in any order.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DeleteResult {
    #[serde(rename = "$value")]
    pub(super) entries: Vec<DeleteEntry>,
}

/// The result for one object. An enum, because quick-xml reads a list of elements only if they follow each other.
#[derive(Debug, Deserialize)]
pub(super) enum DeleteEntry {
    /// Deleted, or was missing.
    Deleted(DeleteOutcome),
    /// Not deleted.
    Error(DeleteOutcome),
    /// Anything else.
    #[serde(other)]
    Other,
}

/// `<Deleted>`, or `<Error>` with a code.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct DeleteOutcome {
    pub(super) key: String,
    pub(super) code: String,
    pub(super) message: String,
}

/// Reads an ETag, without its quotes.
pub(super) fn unquoted<'de, D: Deserializer<'de>>(etag: D) -> Result<String, D::Error> {
    String::deserialize(etag).map(|etag| etag.trim_matches('"').to_owned())
}

/// Parses a document whose root element must be `root`; the error contains the actual root element.
pub(super) fn read<T: DeserializeOwned>(root: &str, body: &[u8]) -> Result<T, String> {
    // quick-xml accepts any root element for any struct, so its name is checked separately.
    match root_name(body) {
        Some(name) if name == root => {
            quick_xml::de::from_reader(body).map_err(|error| format!("invalid <{root}>: {error}"))
        }
        Some(name) => Err(format!("<{name}> instead of <{root}>")),
        None => Err(format!("no XML with root <{root}>")),
    }
}

/// Parses the error code and message of S3; `None` if the body is not an S3 error.
pub(super) fn read_error(body: &[u8]) -> Option<ErrorDocument> {
    read("Error", body).ok()
}

fn root_name(body: &[u8]) -> Option<String> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_reader(body);
    loop {
        match reader.read_event() {
            Ok(Event::Start(element) | Event::Empty(element)) => {
                return Some(String::from_utf8_lossy(element.local_name().as_ref()).into_owned());
            }
            Ok(Event::Eof) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn code_and_message_are_read_from_an_s3_error() {
        let body = br#"<?xml version="1.0" encoding="UTF-8"?>
            <Error><Code>NoSuchKey</Code><Message>a &lt;b&gt; &amp; c</Message><Key>x</Key><Extra><Deep/></Extra></Error>"#;
        let error = read_error(body).unwrap();
        assert_eq!((error.code.as_str(), error.message.as_str()), ("NoSuchKey", "a <b> & c"));
    }

    #[test]
    fn other_documents_have_no_error_code() {
        for body in [&b""[..], b"<html><Code>NoSuchKey</Code></html>", b"<Error><Code>", b"\xff\xfe", b"{}"] {
            assert!(read_error(body).is_none(), "{:?}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn an_error_under_status_200_is_not_a_result() {
        let body = b"\n\n<Error><Code>InternalError</Code></Error>";
        assert!(
            read::<CompleteMultipartUploadResult>("CompleteMultipartUploadResult", body)
                .is_err_and(|error| error.contains("<Error>"))
        );
        assert_eq!(read_error(body).unwrap().code, "InternalError");
    }

    #[test]
    fn parts_are_written_with_their_checksums_where_known() {
        let part = |number, crc64nvme| Part { number, etag: "\"e\"".to_owned(), crc64nvme };
        let parts = vec![part(1, Some("rosUhgp5mIg=".to_owned())), part(2, None)];
        assert_eq!(
            quick_xml::se::to_string(&CompleteMultipartUpload { parts }).unwrap(),
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"e\"</ETag>\
             <ChecksumCRC64NVME>rosUhgp5mIg=</ChecksumCRC64NVME></Part>\
             <Part><PartNumber>2</PartNumber><ETag>\"e\"</ETag></Part></CompleteMultipartUpload>"
        );
    }

    #[test]
    fn a_completed_upload_may_come_without_checksum() {
        let body = br#"<CompleteMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><ETag>"a-2"</ETag></CompleteMultipartUploadResult>"#;
        let result: CompleteMultipartUploadResult = read("CompleteMultipartUploadResult", body).unwrap();
        assert_eq!((result.etag.as_str(), result.crc64nvme), ("a-2", None));
    }

    #[test]
    fn a_listing_is_read_with_and_without_objects() {
        let body = b"<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a &amp; b</Key><LastModified>2026-11-21T01:02:03.000Z</LastModified><ETag>&quot;x&quot;</ETag><Size>5</Size></Contents></ListBucketResult>";
        let result: ListBucketResult = read("ListBucketResult", body).unwrap();
        assert!(result.is_truncated);
        assert_eq!((result.contents[0].key.as_str(), result.contents[0].size), ("a & b", 5));
        let empty: ListBucketResult = read("ListBucketResult", b"<ListBucketResult/>").unwrap();
        assert!(empty.contents.is_empty());
    }

    #[test]
    fn results_of_deletions_are_read_in_any_order() {
        let body = br#"<?xml version="1.0" encoding="UTF-8"?>
            <DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Deleted><Key>a &amp; b</Key><DeleteMarker>true</DeleteMarker></Deleted>
              <Error><Key>c</Key><Code>AccessDenied</Code><Message>no</Message><VersionId/></Error>
              <New><Deep/></New>
              <Deleted><Key>d</Key></Deleted>
            </DeleteResult>"#;
        let result: DeleteResult = read("DeleteResult", body).unwrap();
        let read_entries: Vec<(&str, &str)> = result
            .entries
            .iter()
            .map(|entry| match entry {
                DeleteEntry::Deleted(entry) | DeleteEntry::Error(entry) => {
                    (entry.key.as_str(), entry.code.as_str())
                }
                DeleteEntry::Other => ("", "other"),
            })
            .collect();
        assert_eq!(read_entries, [("a & b", ""), ("c", "AccessDenied"), ("", "other"), ("d", "")]);
        let empty: DeleteResult = read("DeleteResult", b"<DeleteResult/>").unwrap();
        assert!(empty.entries.is_empty());
    }

    #[test]
    fn versioning_is_read_with_and_without_a_status() {
        let read =
            |body: &[u8]| read::<VersioningConfiguration>("VersioningConfiguration", body).unwrap().status;
        let body = br#"<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>"#;
        assert_eq!(read(body), "Enabled");
        assert_eq!(read(b"<VersioningConfiguration/>"), "");
    }
}
