//! One client connection: requests one after the other, each forwarded, modified, or handled by the proxy.

use std::sync::{Arc, Mutex};

use reqwest::Method;
use tokio::io::{AsyncWriteExt as _, BufReader, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use tokio::time::{Duration, sleep, timeout};

use super::Shared;
use super::fault::{Action, Hold};
use super::glacier::Verdict;
use super::record::Request;
use super::wire::{Framing, Head, Stop, Tap, copy_body, drain_body, drain_to_end};

const BUFFER: usize = 64 * 1024;
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const STORE_ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What to do with the connection after a request.
enum Next {
    Keep,
    Close,
    Reset,
}

struct Upstream {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

struct Client<'a> {
    reader: BufReader<ReadHalf<'a>>,
    writer: WriteHalf<'a>,
}

/// The record of a request, updated during its processing.
struct Entry<'a> {
    request: Arc<Mutex<Request>>,
    shared: &'a Shared,
}

impl Entry<'_> {
    fn update(&self, change: impl FnOnce(&mut Request)) {
        change(&mut self.request.lock().unwrap());
        self.shared.changed.send_modify(|count| *count += 1);
    }

    /// Records the response of the store, before the client can see it and send the next request.
    fn store_answered(&self, status: u16) {
        self.count_down();
        self.update(|request| request.store_status = Some(status));
    }

    fn count_down(&self) {
        let method = self.request.lock().unwrap().method.clone();
        self.shared.ended(&method);
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if self.request.lock().unwrap().store_status.is_none() {
            self.count_down();
        }
        self.update(|request| request.done = true);
    }
}

/// Serves a client until it disconnects or a fault breaks the connection.
pub(super) async fn serve(shared: Arc<Shared>, mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let (reader, writer) = stream.split();
    let mut client = Client { reader: BufReader::with_capacity(BUFFER, reader), writer };
    let mut upstream = None;
    let end = loop {
        match next_request(&shared, &mut client, &mut upstream).await {
            Next::Keep => {}
            end => break end,
        }
    };
    drop(client);
    if matches!(end, Next::Reset) {
        // Without linger, closing sends a reset instead of a regular end.
        stream.set_zero_linger().unwrap();
    }
}

async fn next_request(shared: &Shared, client: &mut Client<'_>, upstream: &mut Option<Upstream>) -> Next {
    let Ok(Some(head)) = Head::read(&mut client.reader).await else { return Next::Close };
    let [method, target, _] = head.start();
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return Next::Close };
    let (request, action) = shared.admit(Request::new(method, &target));
    let entry = Entry { request, shared };
    let tap = Tap::default();
    let verdict = {
        let request = entry.request.lock().unwrap().clone();
        shared.glacier.judge(&request)
    };
    match action {
        None => match verdict {
            Verdict::Pass => forward(client, upstream, &head, &entry, Taps::default()).await,
            Verdict::Amend(headers) => {
                forward(client, upstream, &head, &entry, Taps { headers, ..Taps::default() }).await
            }
            Verdict::Answer { status, code: "" } => answer(client, &head, &entry, status, "", "").await,
            Verdict::Answer { status, code } => {
                let body = error_document(code, &target);
                answer(client, &head, &entry, status, "Content-Type: application/xml\r\n", &body).await
            }
        },
        Some(Action::Status { status, code, retry_after }) => {
            let retry = retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
            let body = error_document(&code, &target);
            answer(client, &head, &entry, status, &format!("Content-Type: application/xml\r\n{retry}"), &body)
                .await
        }
        Some(Action::Hang) => {
            drain_to_end(&mut client.reader).await;
            Next::Close
        }
        Some(Action::Delay(time)) => {
            if !unless_gone(&client.reader, sleep(time)).await {
                return Next::Close;
            }
            forward(client, upstream, &head, &entry, Taps::default()).await
        }
        Some(Action::Hold(gate, Hold::Request)) => {
            if !unless_gone(&client.reader, gate.pass()).await {
                return Next::Close;
            }
            forward(client, upstream, &head, &entry, Taps::default()).await
        }
        Some(Action::Hold(gate, Hold::RequestBody(at))) => {
            let request = Tap { hold: Some((at, gate)), ..tap };
            forward(client, upstream, &head, &entry, Taps { request, ..Taps::default() }).await
        }
        Some(Action::Hold(gate, Hold::ResponseBody(at))) => {
            let response = Tap { hold: Some((at, gate)), ..tap };
            forward(client, upstream, &head, &entry, Taps { response, ..Taps::default() }).await
        }
        Some(Action::Hold(gate, Hold::Answer)) => {
            forward(client, upstream, &head, &entry, Taps { answer: Some(gate), ..Taps::default() }).await
        }
        Some(Action::ResetRequest(at)) => {
            let request = Tap { reset: Some(at), ..tap };
            forward(client, upstream, &head, &entry, Taps { request, ..Taps::default() }).await
        }
        Some(Action::FlipRequest(at)) => {
            let request = Tap { flip: Some(at), ..tap };
            forward(client, upstream, &head, &entry, Taps { request, ..Taps::default() }).await
        }
        Some(Action::ResetResponse(at)) => {
            let response = Tap { reset: Some(at), ..tap };
            forward(client, upstream, &head, &entry, Taps { response, ..Taps::default() }).await
        }
        Some(Action::FlipResponse(at)) => {
            let response = Tap { flip: Some(at), ..tap };
            forward(client, upstream, &head, &entry, Taps { response, ..Taps::default() }).await
        }
        Some(Action::SwallowAndLie { etag }) => {
            allow_body(client, &head).await;
            answer(client, &head, &entry, 200, &format!("ETag: \"{etag}\"\r\n"), "").await
        }
        Some(Action::CutAndLie { bytes, etag }) => cut_and_lie(client, &head, &entry, bytes, &etag).await,
    }
}

fn error_document(code: &str, target: &str) -> String {
    let resource = target.replace('&', "&amp;");
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>A planned fault</Message>\
         <Resource>{resource}</Resource><RequestId>fault</RequestId></Error>"
    )
}

/// Faults during the forwarding of a request.
#[derive(Default)]
struct Taps {
    /// Header lines added to the response.
    headers: String,
    request: Tap,
    response: Tap,
    answer: Option<super::gate::Gate>,
}

async fn forward(
    client: &mut Client<'_>,
    upstream: &mut Option<Upstream>,
    head: &Head,
    entry: &Entry<'_>,
    taps: Taps,
) -> Next {
    let Some(mut store) = connected(entry.shared, upstream.take()).await else { return Next::Reset };
    if store.writer.write_all(&head.raw).await.is_err() {
        return Next::Reset;
    }
    let limit = &entry.shared.limit;
    let count_request = |read, passed| {
        entry.update(|request| {
            request.request_bytes += read;
            request.forwarded_bytes += passed;
        });
    };
    let answered = {
        let (reader, writer) = (&mut client.reader, &mut client.writer);
        let send =
            copy_body(reader, &mut store.writer, head.request_framing(), &taps.request, limit, count_request);
        let receive = relay_answer(&mut store.reader, writer, entry, &taps);
        tokio::pin!(send, receive);
        let mut body: Option<Result<(), Stop>> = None;
        loop {
            tokio::select! {
                biased;
                done = &mut send, if body.is_none() => match done {
                    Err(Stop::Reset) => return Next::Reset,
                    Err(Stop::Sender) => return Next::Close,
                    // A store that closed the connection may have sent a response before.
                    done => body = Some(done),
                },
                done = &mut receive => break done.map(|keep| keep && matches!(body, Some(Ok(())))),
            }
        }
    };
    match answered {
        Ok(true) if !head.closes() => {
            *upstream = Some(store);
            Next::Keep
        }
        Ok(_) | Err(Stop::Receiver) => Next::Close,
        Err(Stop::Reset | Stop::Sender) => Next::Reset,
    }
}

/// Relays the response, including interim responses; returns whether the connection to the store can be reused.
async fn relay_answer(
    store: &mut BufReader<OwnedReadHalf>,
    client: &mut WriteHalf<'_>,
    entry: &Entry<'_>,
    taps: &Taps,
) -> Result<bool, Stop> {
    let head = loop {
        let head = Head::read(store).await.ok().flatten().ok_or(Stop::Sender)?;
        if head.status() >= 200 {
            break head;
        }
        client.write_all(&head.raw).await.map_err(|_| Stop::Receiver)?;
    };
    entry.store_answered(head.status());
    if let Some(gate) = &taps.answer {
        gate.pass().await;
    }
    let head = if taps.headers.is_empty() { head } else { head.with_headers(&taps.headers) };
    client.write_all(&head.raw).await.map_err(|_| Stop::Receiver)?;
    entry.update(|request| request.status = Some(head.status()));
    let to_head = entry.request.lock().unwrap().method == Method::HEAD;
    let framing = head.response_framing(to_head);
    let count = |_, passed| entry.update(|request| request.response_bytes += passed);
    copy_body(store, client, framing, &taps.response, &entry.shared.limit, count).await?;
    Ok(framing != Framing::UntilClose && !head.closes())
}

/// Responds without the store, after reading the whole body.
async fn answer(
    client: &mut Client<'_>,
    head: &Head,
    entry: &Entry<'_>,
    status: u16,
    headers: &str,
    body: &str,
) -> Next {
    // A client that waits for permission to send its body gets its response at once, and sends no body.
    let waits = head.expects_continue() && status >= 300;
    if !waits {
        let count = |read| entry.update(|request| request.request_bytes += read);
        if drain_body(&mut client.reader, head.request_framing(), &entry.shared.limit, count).await.is_err() {
            return Next::Close;
        }
    }
    let closes = waits || head.closes();
    let connection = if closes { "Connection: close\r\n" } else { "" };
    let length = body.len();
    let to_head = entry.request.lock().unwrap().method == Method::HEAD;
    let body = if to_head { "" } else { body };
    let text =
        format!("HTTP/1.1 {status} Planned\r\nContent-Length: {length}\r\n{connection}{headers}\r\n{body}");
    if client.writer.write_all(text.as_bytes()).await.is_err() {
        return Next::Close;
    }
    entry.update(|request| {
        request.status = Some(status);
        request.response_bytes += body.len() as u64;
    });
    if closes { Next::Close } else { Next::Keep }
}

/// Sends `100 Continue` to a client that waits for it.
async fn allow_body(client: &mut Client<'_>, head: &Head) {
    if head.expects_continue() {
        // A disconnected client is detected when its body is read.
        let _ = client.writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
    }
}

async fn cut_and_lie(
    client: &mut Client<'_>,
    head: &Head,
    entry: &Entry<'_>,
    bytes: u64,
    etag: &str,
) -> Next {
    allow_body(client, head).await;
    let framing = head.request_framing();
    // S3 requires the length of every upload; without it, nothing can be cut off.
    let length = if let Framing::Length(length) = framing { bytes.min(length) } else { 0 };
    let Some(mut store) = connected(entry.shared, None).await else { return Next::Reset };
    if store.writer.write_all(&head.with_length(length).raw).await.is_err() {
        return Next::Reset;
    }
    let tap = Tap { cut: Some(length), ..Tap::default() };
    let count = |read, passed| {
        entry.update(|request| {
            request.request_bytes += read;
            request.forwarded_bytes += passed;
        });
    };
    let copied =
        copy_body(&mut client.reader, &mut store.writer, framing, &tap, &entry.shared.limit, count).await;
    if matches!(copied, Err(Stop::Sender)) {
        return Next::Close;
    }
    // The response of the store is only recorded: the client gets the false one.
    if let Ok(Ok(Some(answer))) = timeout(STORE_ANSWERS_WITHIN, Head::read(&mut store.reader)).await {
        entry.store_answered(answer.status());
    }
    let lie = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: \"{etag}\"\r\n\r\n");
    if client.writer.write_all(lie.as_bytes()).await.is_err() {
        return Next::Close;
    }
    entry.update(|request| request.status = Some(200));
    if head.closes() { Next::Close } else { Next::Keep }
}

/// The kept connection to the store if it is still open, otherwise a new one.
async fn connected(shared: &Shared, kept: Option<Upstream>) -> Option<Upstream> {
    if let Some(kept) = kept
        && kept.reader.buffer().is_empty()
        && matches!(kept.reader.get_ref().try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    {
        return Some(kept);
    }
    let stream = TcpStream::connect(shared.upstream).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (reader, writer) = stream.into_split();
    Some(Upstream { reader: BufReader::with_capacity(BUFFER, reader), writer })
}

/// Waits, unless the client disconnects first.
async fn unless_gone(client: &BufReader<ReadHalf<'_>>, wait: impl Future<Output = ()>) -> bool {
    let gone = async {
        loop {
            match client.get_ref().ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => sleep(POLL_INTERVAL).await,
                _ => return,
            }
        }
    };
    tokio::select! {
        () = wait => true,
        () = gone => false,
    }
}
