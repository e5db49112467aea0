//! The proxy between an unaware client and a minimal server.

use std::time::Instant;

use reqwest::{Client, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::wire::{Head, Tap, copy_body};
use super::*;
use reqwest::Method;

/// Responds to `GET /N` with N bytes, to HEAD with the length, to DELETE with 204, and to all other requests with `Host
/// header|body length|sum of the body's bytes`.
async fn tiny_server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer_all(stream));
        }
    });
    address
}

async fn answer_all(mut stream: TcpStream) {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    while let Ok(Some(head)) = Head::read(&mut reader).await {
        if head.expects_continue() {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        }
        let mut body = Vec::new();
        let (limit, mut length) = (Limit::default(), 0);
        let count = |read, _| length += read;
        if copy_body(&mut reader, &mut body, head.request_framing(), &Tap::default(), &limit, count)
            .await
            .is_err()
        {
            return;
        }
        let [method, target, _] = head.start();
        let size: usize = target.trim_start_matches('/').parse().unwrap_or(0);
        let answer = match method.as_str() {
            "DELETE" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            "HEAD" => format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes(),
            "GET" => {
                [format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes(), vec![7; size]]
                    .concat()
            }
            _ => {
                let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
                let text = format!("{}|{length}|{sum}", head.header("host").unwrap());
                let chunks = format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").into_bytes()
            }
        };
        if writer.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn proxy() -> FaultProxy {
    FaultProxy::start(tiny_server().await).await
}

async fn put(
    client: &Client,
    proxy: &FaultProxy,
    path: &str,
    body: Vec<u8>,
) -> reqwest::Result<(StatusCode, String)> {
    let answer = client.put(format!("{}{path}", proxy.endpoint())).body(body).send().await?;
    Ok((answer.status(), answer.text().await?))
}

#[tokio::test]
async fn bodies_of_every_framing_pass_unchanged_on_one_connection() {
    let proxy = proxy().await;
    let client = Client::builder().pool_max_idle_per_host(1).build().unwrap();
    let (_, text) =
        put(&client, &proxy, "/bucket/a%20b?partNumber=3&uploadId=u", vec![2; 300_000]).await.unwrap();
    assert_eq!(text, format!("{}|300000|600000", proxy.address()), "the store sees the host that was signed");
    let parts = futures_util::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>(vec![1_u8; 1_000])));
    let chunked = client.put(proxy.endpoint()).body(reqwest::Body::wrap_stream(parts)).send().await.unwrap();
    assert!(chunked.text().await.unwrap().contains("|100000|"));
    let head = client.head(format!("{}/500", proxy.endpoint())).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "500");
    let deleted = client.delete(format!("{}/x", proxy.endpoint())).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    let got =
        client.get(format!("{}/4000000", proxy.endpoint())).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(got.len(), 4_000_000);

    let requests = proxy.requests();
    assert_eq!(requests.len(), 5);
    assert_eq!(requests[0].path, "/bucket/a b");
    assert_eq!(requests[0].parameter("partNumber"), Some("3"));
    assert_eq!((requests[0].request_bytes, requests[0].forwarded_bytes), (300_000, 300_000));
    assert_eq!((requests[4].status, requests[4].response_bytes), (Some(200), 4_000_000));
}

#[tokio::test]
async fn permission_to_send_the_body_is_relayed() {
    let proxy = proxy().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let head = b"PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    let mut reader = BufReader::new(stream);
    assert_eq!(Head::read(&mut reader).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_fault_only_affects_matching_requests() {
    let proxy = proxy().await;
    let client = Client::new();
    let fault = proxy.add(
        Fault::slow_down(7)
            .on(Method::PUT)
            .key_contains("/b/")
            .query_contains("partNumber=2")
            .after(1)
            .times(2),
    );
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(put(&client, &proxy, "/b/k?partNumber=2", vec![0; 10]).await.unwrap().0.as_u16());
    }
    assert_eq!(statuses, [200, 503, 503, 200]);
    assert_eq!(fault.struck(), 2);
    assert_eq!(put(&client, &proxy, "/b/k?partNumber=1", vec![]).await.unwrap().0, 200);
    let struck: Vec<_> = proxy.requests().into_iter().filter(|request| request.struck).collect();
    assert!(struck.iter().all(|request| request.store_status.is_none() && request.forwarded_bytes == 0));

    proxy.add(Fault::slow_down(7));
    let refused = client.get(proxy.endpoint()).send().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "7");
    assert!(refused.text().await.unwrap().contains("<Code>SlowDown</Code>"));
}

#[tokio::test]
async fn bytes_are_flipped_truncated_and_dropped() {
    let proxy = proxy().await;
    let client = Client::new();
    let fault = proxy.add(Fault::flip_request_byte(9).on(Method::PUT));
    assert!(put(&client, &proxy, "/k", vec![0; 10]).await.unwrap().1.ends_with("|10|255"));
    fault.remove();
    let fault = proxy.add(Fault::flip_response_byte(70_000));
    let got = client.get(format!("{}/100000", proxy.endpoint())).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(got.iter().enumerate().filter(|(_, byte)| **byte != 7).collect::<Vec<_>>(), [(70_000, &!7)]);
    fault.remove();

    proxy.forget_requests();
    let fault = proxy.add(Fault::cut_and_lie(100).with_etag("lie"));
    let lie = client.put(proxy.endpoint()).body(vec![1; 200_000]).send().await.unwrap();
    assert_eq!((lie.status(), lie.headers()["etag"].to_str().unwrap()), (StatusCode::OK, "\"lie\""));
    let seen = proxy.requests().remove(0);
    assert_eq!((seen.request_bytes, seen.forwarded_bytes, seen.store_status), (200_000, 100, Some(200)));
    fault.remove();

    proxy.add(Fault::swallow_and_acknowledge());
    let lie = client.put(proxy.endpoint()).body(vec![1; 200_000]).send().await.unwrap();
    assert_eq!(lie.status(), StatusCode::OK);
    let seen = proxy.requests().remove(1);
    assert_eq!((seen.request_bytes, seen.forwarded_bytes, seen.store_status), (200_000, 0, None));
}

#[tokio::test]
async fn connections_are_reset_in_the_middle_of_bodies() {
    let proxy = proxy().await;
    let client = Client::new();
    proxy.add(Fault::reset_request_after(50_000).on(Method::PUT).times(1));
    assert!(put(&client, &proxy, "/k", vec![0; 1_000_000]).await.is_err());
    let seen = proxy.requests().remove(0);
    assert_eq!((seen.forwarded_bytes, seen.status, seen.done), (50_000, None, true));
    assert_eq!(put(&client, &proxy, "/k", vec![0; 10]).await.unwrap().0, 200);

    proxy.add(Fault::reset_response_after(50_000).on(Method::GET));
    let answer = client.get(format!("{}/1000000", proxy.endpoint())).send().await.unwrap();
    assert!(answer.bytes().await.is_err());
    assert_eq!(proxy.requests().last().unwrap().response_bytes, 50_000);
}

#[tokio::test]
async fn hung_and_slow_requests_do_not_block_others() {
    let proxy = proxy().await;
    let client = Client::new();
    proxy.add(Fault::hang().key_contains("hang"));
    proxy.add(Fault::delay(Duration::from_millis(200)).key_contains("slow"));
    let hung = client.get(format!("{}/hang", proxy.endpoint())).timeout(Duration::from_millis(100)).send();
    assert!(hung.await.unwrap_err().is_timeout());
    let started = Instant::now();
    put(&client, &proxy, "/slow", vec![]).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert_eq!(put(&client, &proxy, "/other", vec![]).await.unwrap().0, 200);
    proxy.until(|requests| requests[0].done).await;
}

#[tokio::test]
async fn a_store_that_is_down_refuses_connections_and_returns_on_the_same_port() {
    let proxy = proxy().await;
    let client = Client::new();
    put(&client, &proxy, "/k", vec![]).await.unwrap();
    proxy.down().await;
    assert!(put(&client, &proxy, "/k", vec![]).await.unwrap_err().is_connect());
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.up().await;
    put(&client, &proxy, "/k", vec![]).await.unwrap();
}

#[tokio::test]
async fn requests_wait_at_a_gate_until_it_opens() {
    let proxy = Arc::new(proxy().await);
    for (at, forwarded, stored) in
        [(Hold::Request, 0, None), (Hold::RequestBody(400), 400, None), (Hold::Answer, 1_000, Some(200))]
    {
        proxy.forget_requests();
        let gate = proxy.gate(Match::method(Method::PUT).parameter("partNumber", "1"), at);
        let (client, through) = (Client::new(), Arc::clone(&proxy));
        let sent =
            tokio::spawn(async move { put(&client, &through, "/k?partNumber=1", vec![0; 1_000]).await });
        gate.reached().await;
        let seen = proxy.requests().remove(0);
        assert_eq!(
            (seen.forwarded_bytes, seen.store_status, seen.status),
            (forwarded, stored, None),
            "{at:?}"
        );
        gate.open();
        assert_eq!(sent.await.unwrap().unwrap().0, 200);
        proxy.clear();
    }
}

#[tokio::test]
async fn nothing_of_a_client_disconnected_at_a_gate_is_forwarded() {
    let proxy = proxy().await;
    let gate = proxy.gate(Match::any(), Hold::Request);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(b"PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc").await.unwrap();
    gate.reached().await;
    drop(stream);
    proxy.until(|requests| requests[0].done).await;
    gate.open();
    assert_eq!(proxy.requests()[0].store_status, None);
}

#[tokio::test]
async fn bandwidth_is_shared_by_all_bodies() {
    let proxy = proxy().await;
    let client = Client::new();
    proxy.limit_bandwidth(Some(1_000_000));
    let started = Instant::now();
    let (first, second) = tokio::join!(
        put(&client, &proxy, "/a", vec![0; 200_000]),
        put(&client, &proxy, "/b", vec![0; 200_000])
    );
    first.unwrap();
    second.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(350), "{:?}", started.elapsed());
}
