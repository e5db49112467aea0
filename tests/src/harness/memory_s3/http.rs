//! The requests that [`super::MemoryS3`] supports.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use nightferry_core::checksum::Sha256;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Bucket, Deletion, Sworn, Writes};

const CHECKSUM: &str = "x-amz-checksum-sha256";

pub(super) async fn listen(listener: TcpListener, bucket: Arc<Bucket>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, Arc::clone(&bucket)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves a connection until it closes.
async fn serve(stream: TcpStream, bucket: Arc<Bucket>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(request) = Request::read(&mut stream).await? {
        let answer = request.answer(&bucket);
        stream.write_all(&answer.written(request.method == "HEAD")).await?;
    }
    Ok(())
}

pub(super) struct Request {
    method: String,
    pub(super) key: String,
    query: String,
    headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Request {
    async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let (mut line, mut lines) = (String::new(), Vec::new());
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            match line.trim_end() {
                "" => break,
                text => lines.push(text.to_owned()),
            }
        }
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "no HTTP");
        let start = lines.first().ok_or_else(broken)?;
        let mut words = start.split(' ');
        let (method, target) = (words.next().ok_or_else(broken)?, words.next().ok_or_else(broken)?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // The first path segment is the bucket.
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        let headers: Vec<_> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut request = Self {
            method: method.to_owned(),
            key: key.to_owned(),
            query: query.to_owned(),
            headers,
            body: Bytes::new(),
        };
        let length = request.header("content-length").map_or(Ok(0), str::parse).map_err(|_| broken())?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        request.body = body.into();
        Ok(Some(request))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }

    /// A parameter that is a key: the only escaped character in keys is the slash.
    pub(super) fn decoded(&self, name: &str) -> String {
        self.parameter(name).unwrap_or_default().replace("%2F", "/")
    }

    fn answer(&self, bucket: &Bucket) -> Answer {
        match (self.method.as_str(), self.key.as_str()) {
            ("GET", "") if self.parameter("uploads").is_some() => self.list_uploads(bucket),
            ("GET", "") if self.parameter("versioning").is_some() => versioning(bucket),
            ("GET", "") => self.list(bucket),
            ("PUT", "") => Answer::new(200),
            ("PUT", _) if self.query.is_empty() || self.parameter("x-id").is_some() => self.put(bucket),
            ("POST", _) if self.parameter("uploads").is_some() => self.begin_upload(bucket),
            ("PUT", _) if self.parameter("partNumber").is_some() => self.put_part(bucket),
            ("POST", _) if self.parameter("uploadId").is_some() => self.complete_upload(bucket),
            ("POST", "") if self.parameter("delete").is_some() => self.delete_batch(bucket),
            ("DELETE", _) if self.parameter("uploadId").is_some() => self.abort_upload(bucket),
            ("GET" | "HEAD", _) => self.get(bucket),
            ("DELETE", _) => match bucket.deletion_of(&self.key) {
                Deletion::Refused => Answer::error(403, "AccessDenied"),
                Deletion::Done | Deletion::Unmentioned => {
                    bucket.delete(&self.key);
                    Answer::new(204)
                }
            },
            _ => Answer::error(501, "NotImplemented"),
        }
    }

    /// Keys contain no character that XML escapes.
    fn delete_batch(&self, bucket: &Bucket) -> Answer {
        if self.header("content-md5").is_none() {
            return Answer::error(400, "MissingContentMD5");
        }
        let document = String::from_utf8_lossy(&self.body).into_owned();
        let mut text = "<DeleteResult>".to_owned();
        for key in document.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
            match bucket.deletion_of(key) {
                Deletion::Refused => {
                    write!(text, "<Error><Key>{key}</Key><Code>AccessDenied</Code></Error>").unwrap();
                }
                Deletion::Unmentioned => {}
                Deletion::Done => {
                    bucket.delete(key);
                    write!(text, "<Deleted><Key>{key}</Key></Deleted>").unwrap();
                }
            }
        }
        text.push_str("</DeleteResult>");
        Answer::document(text)
    }

    fn put(&self, bucket: &Bucket) -> Answer {
        let actual = Sha256::of(&self.body);
        let promised = self.header(CHECKSUM).and_then(|text| Sha256::from_base64(text).ok());
        if bucket.writes().verifies() && promised.is_some_and(|promised| promised != actual) {
            return Answer::error(400, "XAmzContentChecksumMismatch");
        }
        let headers = self.kept_headers();
        let acknowledged = Answer::new(200).with("ETag", Sworn::Sha256(actual).etag());
        match bucket.writes() {
            Writes::Sound => {
                bucket.keep(&self.key, self.body.clone(), None, headers, bucket.now());
                acknowledged.with(CHECKSUM, actual.base64())
            }
            Writes::Flipped => {
                bucket.keep(&self.key, self.flipped(), None, headers, bucket.now());
                acknowledged
            }
            Writes::FlippedAndSworn => {
                let sworn = Some(Sworn::Sha256(actual));
                bucket.keep(&self.key, self.flipped(), sworn, headers, bucket.now());
                acknowledged.with(CHECKSUM, actual.base64())
            }
            writes @ (Writes::Unverified | Writes::FlippedUnverified) => {
                let bytes = if writes == Writes::Unverified { self.body.clone() } else { self.flipped() };
                bucket.keep(&self.key, bytes, None, headers, bucket.now());
                acknowledged.with(CHECKSUM, promised.unwrap_or(actual).base64())
            }
        }
    }

    /// Headers that are returned with the object.
    pub(super) fn kept_headers(&self) -> Vec<(String, String)> {
        let headers = self.headers.iter().filter(|(name, _)| {
            name == "content-type" || name == "x-amz-storage-class" || name.starts_with("x-amz-meta-")
        });
        headers.cloned().collect()
    }

    /// Other bytes than those received.
    pub(super) fn flipped(&self) -> Bytes {
        let mut bytes = self.body.to_vec();
        if let Some(byte) = bytes.last_mut() {
            *byte = !*byte;
        }
        bytes.into()
    }

    fn get(&self, bucket: &Bucket) -> Answer {
        let is_whole = self.header("range").is_none();
        let Some(kept) = bucket.look(&self.key, is_whole) else {
            return Answer::error(404, "NoSuchKey");
        };
        let size = kept.bytes.len();
        let mut answer = match self.header("range").and_then(|text| range(text, size)) {
            Some((first, end)) if first < end => Answer {
                body: kept.bytes.slice(first..end),
                ..Answer::new(206).with("Content-Range", format!("bytes {first}-{}/{size}", end - 1))
            },
            Some(_) => return Answer::error(416, "InvalidRange"),
            None => Answer { body: kept.bytes.clone(), ..Answer::new(200) },
        };
        answer.headers.extend(kept.headers.iter().cloned());
        let (name, value) = kept.sworn.header();
        answer.with("ETag", kept.sworn.etag()).with(name, value)
    }

    fn list(&self, bucket: &Bucket) -> Answer {
        let (prefix, after) = (self.decoded("prefix"), self.decoded("start-after"));
        let most = self.parameter("max-keys").and_then(|text| text.parse().ok()).unwrap_or(1000);
        let objects = bucket.objects();
        let mut wanted =
            objects.iter().filter(|(key, _)| key.starts_with(&prefix) && key.as_str() > after.as_str());
        let mut text = "<ListBucketResult>".to_owned();
        for (key, kept) in wanted.by_ref().take(most) {
            write!(
                text,
                "<Contents><Key>{key}</Key><Size>{}</Size><ETag>\"x\"</ETag><LastModified>{}</LastModified></Contents>",
                kept.bytes.len(),
                kept.modified.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
            )
            .unwrap();
        }
        write!(text, "<IsTruncated>{}</IsTruncated></ListBucketResult>", wanted.next().is_some()).unwrap();
        Answer::document(text)
    }
}

fn versioning(bucket: &Bucket) -> Answer {
    let keeps_versions = bucket.keeps_versions.load(std::sync::atomic::Ordering::Relaxed);
    let status = if keeps_versions { "<Status>Enabled</Status>" } else { "" };
    Answer::document(format!("<VersioningConfiguration>{status}</VersioningConfiguration>"))
}

/// First and last byte of `bytes=0-9`.
fn range(text: &str, size: usize) -> Option<(usize, usize)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let end = last.parse::<usize>().map_or(size, |last| (last + 1).min(size));
    Some((first.parse().ok()?, end))
}

pub(super) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Answer {
    pub(super) const fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn document(text: String) -> Self {
        Self { body: text.into(), ..Self::new(200) }
    }

    pub(super) fn error(status: u16, code: &str) -> Self {
        let text = format!("<Error><Code>{code}</Code><Message></Message></Error>");
        Self { body: text.into(), ..Self::new(status) }
    }

    pub(super) fn with(mut self, name: &str, value: String) -> Self {
        self.headers.push((name.to_owned(), value));
        self
    }

    fn written(&self, without_body: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} OK\r\n", self.status);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if self.status != 204 {
            write!(head, "Content-Length: {}\r\n", self.body.len()).unwrap();
        }
        head += "\r\n";
        let mut message = head.into_bytes();
        if !without_body {
            message.extend_from_slice(&self.body);
        }
        message
    }
}
