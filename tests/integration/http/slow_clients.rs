//! Clients that send byte by byte, or nothing, over raw sockets, and their effect on others.

use std::time::Duration;

use nightferry_tests::harness::api::{Api, Person, answered};
use nightferry_tests::harness::database::{execute_on, texts};
use nightferry_tests::harness::{World, eventually, pattern};
use reqwest::Body;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const MIB: u64 = 1024 * 1024;
/// Maximum duration of a prompt response: shorter than `server.client_idle_timeout`, after which the connection of a
/// silent client is closed.
const PROMPT: Duration = Duration::from_secs(25);

/// Sends a request up to a certain point.
async fn send(api: &Api, head: &str, body: &str) -> TcpStream {
    let host = api.base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(format!("{head}\r\nHost: {host}\r\n\r\n{body}").as_bytes()).await.unwrap();
    stream
}

/// Starts an upload that sends its first byte and then nothing.
async fn begin_upload(api: &Api, person: &Person<'_>, length: Option<u64>) -> TcpStream {
    let file = "--sep\r\nContent-Disposition: form-data; name=\"file\"; filename=\"slow\"\r\n\r\nx";
    let (framing, body) = match length {
        Some(length) => (format!("Content-Length: {length}"), file.to_owned()),
        None => ("Transfer-Encoding: chunked".to_owned(), format!("{:x}\r\n{file}\r\n", file.len())),
    };
    let head = format!(
        "POST /api/files/upload HTTP/1.1\r\nAuthorization: Bearer {}\r\n\
         Content-Type: multipart/form-data; boundary=sep\r\n{framing}",
        person.token
    );
    send(api, &head, &body).await
}

/// Waits until this many uploads are in progress.
async fn begun(world: &World, uploads: usize) {
    eventually("the uploads have started", || async {
        let sql = "SELECT count(*) FROM objects WHERE state = 'uploading'";
        (texts(&world.context.db, sql).await == [uploads.to_string()]).then_some(())
    })
    .await;
}

/// Uploads `size` bytes, with or without announcing the size, and expects no long wait.
async fn uploads_promptly(person: &Person<'_>, name: &str, size: u64, chunked: bool) {
    let body = if chunked {
        Body::wrap_stream(pattern(size, size).stream())
    } else {
        Body::from(pattern(size, size).bytes())
    };
    let answer = tokio::time::timeout(PROMPT, answered(person.upload_request(&[], name, body)));
    let (status, file) = answer.await.unwrap_or_else(|_| panic!("{name} waits"));
    assert_eq!(status, 201, "{name}: {file}");
    assert_eq!(file["sha256"], pattern(size, size).sha256().to_string(), "{name}");
}

/// The problem document that is returned without sending anything more, with the response head.
async fn answer(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let read = async {
        while !answer.ends_with(b"}") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "it ended early");
        }
    };
    tokio::time::timeout(PROMPT, read).await.expect("an answer");
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_uploads_do_not_delay_others() {
    let world = World::new().await;
    let api = world.start_api();
    let (ann, bob) = (api.person().await, api.person().await);
    let mut slow = Vec::new();
    for at in 0..16 {
        slow.push(begin_upload(&api, &ann, (at % 2 == 0).then_some(4 * MIB)).await);
    }
    begun(&world, slow.len()).await;

    uploads_promptly(&ann, "small", 1000, false).await;
    uploads_promptly(&ann, "empty", 0, false).await;
    uploads_promptly(&ann, "large", 12 * MIB + 1, false).await;
    uploads_promptly(&bob, "small of unknown length", 1000, true).await;
    uploads_promptly(&bob, "large of unknown length", 12 * MIB, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upload_is_aborted_when_another_waits() {
    let world = World::with("uploads.buffer_pool_mib", 8).build().await;
    let api = world.start_api();
    let ann = api.person().await;
    let slow = begin_upload(&api, &ann, None).await;
    begun(&world, 1).await;

    uploads_promptly(&ann, "of unknown length", 6 * MIB, true).await;

    let refused = answer(slow).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("\r\nretry-after: 5\r\n"), "{refused}");
    assert!(refused.contains("\"error_code\":\"STORE_UNAVAILABLE\""), "{refused}");
    assert!(refused.contains("Content-Length"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_is_a_client_error() {
    let world = World::with("server.request_timeout", "10s").build().await;
    let api = world.start_api();
    let head = "POST /api/auth/login HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100";
    let began = std::time::Instant::now();

    let refused = answer(send(&api, head, "{").await).await;

    assert!(began.elapsed() < Duration::from_secs(10), "the time limit of the request is exceeded");
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    assert!(refused.contains("did not arrive in time"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_metrics_client_does_not_cause_a_second_count() {
    let world = World::new().await;
    let api = world.start_api();
    let counting = async |at_least: usize| {
        let sql = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                   WHERE NOT l.granted AND a.datname = current_database()";
        eventually("the database counts", async || {
            let counting: usize = texts(&world.context.db, sql).await[0].parse().unwrap();
            (counting >= at_least).then_some(())
        })
        .await;
    };
    let mut holder = world.context.db.conn().await.unwrap();
    execute_on(&mut holder, "BEGIN").await;
    execute_on(&mut holder, "LOCK TABLE replica_counts IN ACCESS EXCLUSIVE MODE").await;
    for _ in 0..5 {
        let asking = send(&api, "GET /metrics HTTP/1.1", "").await;
        counting(1).await;
        asking.set_zero_linger().unwrap();
    }

    let twice = tokio::time::timeout(Duration::from_secs(2), counting(2)).await;

    assert!(twice.is_err(), "it counts for each");
    execute_on(&mut holder, "COMMIT").await;
    let metrics = api.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("nightferry_replicas"), "{metrics}");
}
