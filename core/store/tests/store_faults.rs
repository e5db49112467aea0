//! Servers that hang, return false data and close connections: minimal ones that send a fixed response, so that no real
//! server is needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use nightferry_ground::checksum::{Crc64Nvme, Sha256};
use nightferry_store::{
    BatchDeletion, Body, ByteRange, CONNECT_DEADLINE, CompletedPart, DELETE_LIMIT, Deadlines, HttpClient,
    ObjectKey, PutOptions, Store, StoreErrorKind, StoreRole, StoreSettings, UploadId, Verdict,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

const IDLE: Duration = Duration::from_millis(300);

fn open(endpoint: String) -> Store {
    let settings = StoreSettings {
        name: "faulty".parse().unwrap(),
        role: StoreRole::Cloud,
        endpoint,
        public_endpoint: None,
        region: "us-east-1".to_owned(),
        bucket: "bucket".to_owned(),
        access_key: "access".into(),
        secret_key: "secret".into(),
        session_token: None,
        path_style: true,
        storage_class: None,
        keys: None,
        deadlines: Deadlines { control: IDLE, idle: IDLE, complete: IDLE },
    };
    Store::open(settings, &HttpClient::new(CONNECT_DEADLINE).unwrap()).unwrap()
}

/// What a server does with a connection after the request headers.
#[derive(Clone)]
enum Act {
    /// Responds, without reading the rest, and leaves the connection open.
    Answer(String),
    /// Reads the whole body, then responds.
    AnswerAfterBody(String),
    /// Responds and closes the connection.
    AnswerAndClose(String),
    /// Never responds, and reads nothing.
    Hang,
    /// Closes the connection.
    Close,
}

/// A server that plays `acts` for consecutive connections, and repeats the last one.
async fn serve(acts: Vec<Act>) -> Store {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut number = 0;
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let act = acts[number.min(acts.len() - 1)].clone();
            number += 1;
            tokio::spawn(play(connection, act));
        }
    });
    open(endpoint)
}

async fn play(mut connection: TcpStream, act: Act) -> std::io::Result<()> {
    let mut received = Vec::new();
    let head = loop {
        if connection.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&received[..head]).to_lowercase();
    let length =
        text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
    match act {
        Act::Answer(answer) => {
            connection.write_all(answer.as_bytes()).await?;
            std::future::pending::<()>().await;
        }
        Act::AnswerAfterBody(answer) => {
            while received.len() - head < length.unwrap_or(0) {
                if connection.read_buf(&mut received).await? == 0 {
                    return Ok(());
                }
            }
            connection.write_all(answer.as_bytes()).await?;
            std::future::pending::<()>().await;
        }
        Act::AnswerAndClose(answer) => connection.write_all(answer.as_bytes()).await?,
        Act::Hang => std::future::pending::<()>().await,
        Act::Close => {}
    }
    Ok(())
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn s3_error(status: &str, code: &str) -> String {
    answer(status, "", &format!("<Error><Code>{code}</Code><Message>no</Message></Error>"))
}

fn key() -> ObjectKey {
    ObjectKey::new(Uuid::nil(), Uuid::nil(), "x")
}

#[tokio::test]
async fn a_body_cut_short_is_an_error_not_an_end() {
    let cut = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\n\r\nabc".to_owned();
    let store = serve(vec![Act::AnswerAndClose(cut)]).await;
    let mut got = store.get(&key(), None).await.unwrap();
    assert_eq!(got.length, 10);
    assert_eq!(got.body.next().await.unwrap().unwrap(), "abc");
    let error = got.body.next().await.unwrap().unwrap_err();
    assert_eq!(error.verdict(), Verdict::Transient, "{error}");
    assert!(matches!(error.kind(), StoreErrorKind::Truncated | StoreErrorKind::Connection), "{error}");
    assert!(got.body.next().await.is_none());
}

#[tokio::test]
async fn an_inactive_body_times_out() {
    let stalled = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\n\r\nabc".to_owned();
    let store = serve(vec![Act::Answer(stalled)]).await;
    let mut got = store.get(&key(), None).await.unwrap();
    assert_eq!(got.body.next().await.unwrap().unwrap(), "abc");
    let error = got.body.next().await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Timeout), "{error}");
    assert!(error.is_outage());
}

#[tokio::test]
async fn an_answer_without_a_length_or_with_another_range_is_refused() {
    let endless = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nConnection: close\r\n\r\nabc".to_owned();
    let store = serve(vec![Act::AnswerAndClose(endless)]).await;
    let error = store.get(&key(), None).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Protocol), "{error}");

    let range = ByteRange::of_length(3, 3);
    for lie in [
        answer("200 OK", "", "abcdef"),
        answer("206 Partial Content", "", "abc"),
        answer("206 Partial Content", "Content-Range: bytes 0-2/6\r\n", "abc"),
    ] {
        let error = serve(vec![Act::Answer(lie)]).await.get(&key(), range).await.unwrap_err();
        assert!(matches!(error.kind(), StoreErrorKind::Protocol), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_respond_triggers_every_timeout() {
    let store = serve(vec![Act::Hang]).await;
    let (key, upload) = (key(), UploadId::new("u"));
    let parts = [CompletedPart { number: 1, etag: "e".to_owned(), crc64nvme: None }];
    let large = || Body::Bytes(Bytes::from(vec![0; 64 * 1024 * 1024]));
    let started = tokio::time::Instant::now();
    let errors = [
        store.check().await.unwrap_err(),
        store.get(&key, None).await.unwrap_err(),
        store.head(&key).await.unwrap_err(),
        store.delete(&key).await.unwrap_err(),
        store.put(&key, Bytes::from_static(b"small").into(), &PutOptions::default()).await.unwrap_err(),
        store.put(&key, large(), &PutOptions::default()).await.unwrap_err(),
        store.put_part(&key, &upload, 1, large(), None).await.unwrap_err(),
        store.put_part_trailing(&key, &upload, 1, large()).await.unwrap_err(),
        store.complete_multipart(&key, &upload, &parts, None).await.unwrap_err(),
    ];
    for error in &errors {
        assert!(matches!(error.kind(), StoreErrorKind::Timeout), "{error}");
        assert!(error.is_outage() && error.verdict() == Verdict::Transient);
    }
    assert!(started.elapsed() < IDLE * 40);
}

#[tokio::test]
async fn an_inactive_source_is_not_a_store_failure() {
    let store = serve(vec![Act::AnswerAfterBody(answer("200 OK", "ETag: \"e\"\r\n", ""))]).await;
    let chunks = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"abc"))]).chain(stream::pending());
    let error = store.put(&key(), Body::stream(10, chunks), &PutOptions::default()).await.unwrap_err();
    assert!(error.is_source() && !error.is_outage(), "{error}");
    let silent = Body::stream(0, stream::pending::<Result<Bytes, std::io::Error>>());
    let error = store.put_part_trailing(&key(), &UploadId::new("u"), 1, silent).await.unwrap_err();
    assert!(error.is_source() && !error.is_outage(), "{error}");
}

#[tokio::test]
async fn a_slow_body_with_progress_has_no_total_time_limit() {
    let store = serve(vec![Act::AnswerAfterBody(answer("200 OK", "ETag: \"e\"\r\n", ""))]).await;
    let pause = IDLE / 3;
    let chunks = stream::unfold(0, move |sent| async move {
        if sent == 9 {
            return None;
        }
        tokio::time::sleep(pause).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b"a")), sent + 1))
    });
    store.put(&key(), Body::stream(9, chunks), &PutOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_closed_connection_is_transient_and_an_outage() {
    let store = serve(vec![Act::Close]).await;
    for error in [
        store.get(&key(), None).await.unwrap_err(),
        store.put(&key(), vec![0; 900_000].into_body(), &PutOptions::default()).await.unwrap_err(),
    ] {
        assert!(matches!(error.kind(), StoreErrorKind::Connection), "{error}");
        assert!(error.is_outage() && error.verdict() == Verdict::Transient);
    }
}

#[tokio::test]
async fn an_error_answered_in_the_middle_of_a_body_is_read() {
    let store = serve(vec![Act::Answer(s3_error("403 Forbidden", "AccessDenied"))]).await;
    let error =
        store.put(&key(), vec![0; 64 * 1024 * 1024].into_body(), &PutOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), Some("AccessDenied"), "{error}");
}

#[tokio::test]
async fn retry_after_is_passed_on() {
    let busy = answer(
        "503 Slow Down",
        "Connection: close\r\nRetry-After: 7\r\n",
        "<Error><Code>SlowDown</Code></Error>",
    );
    let store = serve(vec![Act::AnswerAndClose(busy)]).await;
    for error in [store.get(&key(), None).await.unwrap_err(), store.check().await.unwrap_err()] {
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert!(error.is_outage() && error.verdict() == Verdict::Transient);
    }
}

#[tokio::test]
async fn a_success_that_hides_an_error_is_an_error() {
    let hidden = s3_error("200 OK", "InternalError");
    let store = serve(vec![Act::Answer(hidden), Act::Answer(answer("200 OK", "", "<html/>"))]).await;
    let parts = [CompletedPart { number: 1, etag: "e".to_owned(), crc64nvme: None }];
    let (key, upload) = (key(), UploadId::new("u"));
    let error = store.complete_multipart(&key, &upload, &parts, None).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), (Some("InternalError"), Verdict::Transient));
    let fresh = serve(vec![Act::Answer(answer("200 OK", "", "<html/>"))]).await;
    let error = fresh.complete_multipart(&key, &upload, &parts, None).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Protocol), "{error}");
}

fn keys(count: usize) -> Vec<ObjectKey> {
    (0..count).map(|_| ObjectKey::new(Uuid::nil(), Uuid::now_v7(), "x")).collect()
}

#[tokio::test]
async fn a_key_counts_as_deleted_only_if_the_response_names_it() {
    let keys = keys(5);
    let document = format!(
        "<DeleteResult><Deleted><Key>{}</Key></Deleted>\
         <Error><Key>{}</Key><Code>AccessDenied</Code><Message>no</Message></Error>\
         <Deleted><Key>{}</Key></Deleted><Deleted><Key>another</Key></Deleted>\
         <Error><Key>{}</Key><Code>NoSuchKey</Code></Error></DeleteResult>",
        keys[0], keys[1], keys[2], keys[3]
    );
    let store = serve(vec![Act::AnswerAfterBody(answer("200 OK", "", &document))]).await;

    let BatchDeletion::Done(failed) = store.delete_batch(&keys).await.unwrap() else { panic!("refused") };

    assert_eq!(failed.keys().collect::<Vec<_>>(), [&keys[1], &keys[4]]);
    assert!(failed[&keys[1]].is_denied());
    assert!(
        matches!(failed[&keys[4]].kind(), StoreErrorKind::Protocol),
        "the last one is not in the response"
    );
    let nothing = serve(vec![Act::AnswerAfterBody(answer("200 OK", "", "<DeleteResult/>"))]).await;
    let BatchDeletion::Done(failed) = nothing.delete_batch(&keys).await.unwrap() else { panic!("refused") };
    assert_eq!(failed.len(), keys.len());
}

#[tokio::test]
async fn a_store_that_refuses_batches_is_remembered() {
    for (status, code) in [
        ("501 Not Implemented", "NotImplemented"),
        ("405 Method Not Allowed", "MethodNotAllowed"),
        ("400 Bad Request", "InvalidArgument"),
        ("403 Forbidden", "AccessDenied"),
        ("404 Not Found", "NoSuchKey"),
    ] {
        let store = serve(vec![Act::AnswerAfterBody(s3_error(status, code)), Act::Close]).await;
        assert!(store.deletes_in_batches());

        let first = store.delete_batch(&keys(2)).await.unwrap();

        assert!(matches!(first, BatchDeletion::Refused(Some(_))), "{code}: {first:?}");
        assert!(!store.deletes_in_batches(), "{code}");
        let second = store.delete_batch(&keys(2)).await.unwrap();
        assert!(matches!(second, BatchDeletion::Refused(None)), "{code}: nothing is sent");
    }
}

#[tokio::test]
async fn a_batch_that_failed_deleted_nothing_as_far_as_known() {
    for (response, verdict) in [
        (s3_error("200 OK", "InternalError"), Verdict::Transient),
        (s3_error("503 Service Unavailable", "SlowDown"), Verdict::Transient),
        (s3_error("400 Bad Request", "BadDigest"), Verdict::Corrupt),
        (s3_error("403 Forbidden", "ExpiredToken"), Verdict::Permanent),
        (answer("200 OK", "", "<html/>"), Verdict::Transient),
        (answer("200 OK", "", ""), Verdict::Transient),
        (answer("404 Not Found", "", "<html/>"), Verdict::Transient),
    ] {
        let store = serve(vec![Act::AnswerAfterBody(response)]).await;

        let error = store.delete_batch(&keys(2)).await.unwrap_err();

        assert_eq!(error.verdict(), verdict, "{error}");
        assert!(store.deletes_in_batches(), "{error}");
    }
    let store = serve(vec![Act::Close]).await;
    let error = store.delete_batch(&keys(DELETE_LIMIT + 1)).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Invalid), "{error}");
}

#[tokio::test]
async fn a_listing_of_uploads_that_never_advances_ends_with_an_error() {
    let document = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>\
                    <NextUploadIdMarker>u</NextUploadIdMarker><Upload><Key>k</Key><UploadId>u</UploadId>\
                    <Initiated>2026-01-01T00:00:00Z</Initiated></Upload></ListMultipartUploadsResult>";
    let store = serve(vec![Act::AnswerAndClose(answer("200 OK", "", document))]).await;
    let first = store.list_multipart_uploads_page("", None, 1).await.unwrap();

    let error = store.list_multipart_uploads_page("", first.next.as_ref(), 1).await.unwrap_err();

    assert!(matches!(error.kind(), StoreErrorKind::Protocol), "{error}");
}

#[tokio::test]
async fn a_404_of_a_proxy_does_not_mean_that_an_object_is_missing() {
    let store =
        serve(vec![Act::AnswerAndClose(answer("404 Not Found", "Connection: close\r\n", "<html/>"))]).await;
    let error = store.get(&key(), None).await.unwrap_err();
    assert!(error.is_outage() && error.verdict() == Verdict::Transient);
    assert!(store.delete(&key()).await.is_err());
    assert!(store.abort_multipart(&key(), &UploadId::new("u")).await.is_err());
}

#[tokio::test]
async fn an_acknowledgement_of_other_bytes_is_corruption() {
    let sha256 = format!("ETag: \"e\"\r\nx-amz-checksum-sha256: {}\r\n", Sha256::of(b"other").base64());
    let store = serve(vec![Act::AnswerAfterBody(answer("200 OK", &sha256, ""))]).await;
    let options = PutOptions { sha256: Some(Sha256::of(b"x")), ..PutOptions::default() };
    let error = store.put(&key(), Bytes::from_static(b"x").into(), &options).await.unwrap_err();
    assert!(
        matches!(error.kind(), StoreErrorKind::Mismatch) && error.verdict() == Verdict::Corrupt,
        "{error}"
    );

    let crc = format!("ETag: \"e\"\r\nx-amz-checksum-crc64nvme: {}\r\n", Crc64Nvme::of(b"other").base64());
    let store = serve(vec![Act::AnswerAfterBody(answer("200 OK", &crc, ""))]).await;
    let sent =
        store.put_part(&key(), &UploadId::new("u"), 1, vec![1].into_body(), Some(Crc64Nvme::of(&[1]))).await;
    assert_eq!(sent.unwrap_err().verdict(), Verdict::Corrupt);
    let store = serve(vec![Act::AnswerAfterBody(answer("200 OK", &crc, ""))]).await;
    let sent = store.put_part_trailing(&key(), &UploadId::new("u"), 1, vec![1].into_body()).await;
    assert_eq!(sent.unwrap_err().verdict(), Verdict::Corrupt);
}

#[tokio::test]
async fn a_success_before_the_end_of_a_body_with_a_trailer_is_no_acknowledgement() {
    let store = serve(vec![Act::Answer(answer("200 OK", "ETag: \"e\"\r\n", ""))]).await;
    let body = vec![0; 64 * 1024 * 1024].into_body();
    let error = store.put_part_trailing(&key(), &UploadId::new("u"), 1, body).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Protocol), "{error}");
}

#[tokio::test]
async fn a_skewed_clock_is_tried_once_more_with_a_fresh_signature() {
    let skewed = || Act::AnswerAndClose(s3_error("403 Forbidden", "RequestTimeTooSkewed"));
    let fine = Act::AnswerAfterBody(answer("200 OK", "ETag: \"e\"\r\n", ""));
    let store = serve(vec![skewed(), fine.clone()]).await;
    store.put(&key(), Bytes::from_static(b"x").into(), &PutOptions::default()).await.unwrap();
    let store = serve(vec![skewed(), fine]).await;
    store.get(&key(), None).await.unwrap();
    let store = serve(vec![skewed()]).await;
    let error = store.get(&key(), None).await.unwrap_err();
    assert_eq!((error.verdict(), error.is_credentials()), (Verdict::Transient, false));
}

#[tokio::test]
async fn a_403_of_a_store_with_another_time_is_about_the_clock() {
    let denied = |date: &str| {
        let headers = format!("Date: {date}\r\nConnection: close\r\n");
        Act::AnswerAndClose(answer("403 Forbidden", &headers, "<Error><Code>AccessDenied</Code></Error>"))
    };
    let store = serve(vec![denied("Wed, 21 Oct 2015 07:28:00 GMT")]).await;
    let error = store.get(&key(), None).await.unwrap_err();
    assert_eq!((error.verdict(), error.is_credentials()), (Verdict::Transient, false), "{error}");
    let now = chrono::Utc::now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    assert!(serve(vec![denied(&now)]).await.get(&key(), None).await.unwrap_err().is_denied());
}

#[tokio::test]
async fn no_secret_shows_in_errors_or_debug_output() {
    let store = serve(vec![Act::Close]).await;
    let error = store.get(&key(), None).await.unwrap_err();
    for text in [format!("{error}"), format!("{error:?}"), format!("{store:?}")] {
        assert!(!text.contains("secret\"") && !text.contains("Signature"), "{text}");
    }
}

trait IntoBody {
    fn into_body(self) -> Body;
}

impl IntoBody for Vec<u8> {
    fn into_body(self) -> Body {
        Body::Bytes(self.into())
    }
}
