//! A link with latency, on the loopback address: a TCP relay that delays each direction by half of a round trip and,
//! optionally, limits the rate of each direction, over all connections together. Opening a connection takes a whole
//! round trip, as on a real link. There are no losses, no slow start and no encryption.
//!
//! Chunks are stamped when they arrive and written when they are due, so the delay does not limit the rate, except that
//! each connection has at most [`WINDOW`] bytes on the way in each direction: then nothing more is read, and the sender
//! waits.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes on the way in one direction of a connection: as many as Linux sends by default before they are acknowledged.
const WINDOW: usize = 4 * 1024 * 1024;
/// Chunks on the way in one direction of a connection, however small they are.
const MAX_CHUNKS: usize = 4096;
/// The largest chunk.
const BLOCK: usize = 64 * 1024;
/// With less space than this, the next chunk gets a new buffer.
const LEAST: usize = 16 * 1024;
/// Unused time that a limited line makes up for: timers have a resolution of a millisecond, and tasks start late.
const BURST: Duration = Duration::from_millis(10);
/// Pause after a connection that could not be accepted, for example because too many files are open.
const PAUSE: Duration = Duration::from_millis(10);

/// More requests than a worker sends one after the other when it has started, about 25 of them to find out what the store
/// verifies.
const ROUND_TRIPS_OF_START: u32 = 40;

/// The properties of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// Duration of a round trip; each direction takes half of it.
    pub(crate) round_trip: Duration,
    /// Bytes per second in each direction; no limit if there is none.
    pub(crate) rate: Option<u64>,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms round trip", self.round_trip.as_millis())?;
        match self.rate {
            Some(rate) => write!(f, ", {} MB/s", rate / 1_000_000),
            None => Ok(()),
        }
    }
}

/// A running relay. Dropping it closes its connections.
#[derive(Debug)]
pub(crate) struct Relay {
    /// `http://127.0.0.1:PORT`.
    pub(crate) endpoint: String,
    /// The link.
    pub(crate) link: Link,
    lines: Arc<Lines>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Starts a relay to the server at `endpoint`, an `http://` URL with an IP address and a port.
    pub(crate) async fn start(endpoint: &str, link: Link) -> Result<Self> {
        let address = endpoint.strip_prefix("http://").unwrap_or(endpoint);
        let target: SocketAddr =
            address.parse().with_context(|| format!("{endpoint} is not the address of a server"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let lines = Arc::new(Lines::of(link));
        let accepting = tokio::spawn(accept(listener, target, lines.clone()));
        Ok(Self { endpoint, link, lines, accepting })
    }

    /// The setting that makes this link the way to the cloud store.
    pub(crate) fn setting(&self) -> (String, String) {
        ("stores.s3.endpoint".to_owned(), self.endpoint.clone())
    }

    /// Waits until a program that was just started has sent the requests of its start, one after the other.
    pub(crate) async fn settle(&self) {
        sleep(self.link.round_trip * ROUND_TRIPS_OF_START).await;
    }

    /// Bytes delivered to the server so far.
    pub(crate) fn carried(&self) -> u64 {
        self.lines.up.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Both directions of a link.
#[derive(Debug)]
struct Lines {
    handshake: Duration,
    up: Line,
    down: Line,
}

impl Lines {
    fn of(link: Link) -> Self {
        let direction = || Line {
            delay: link.round_trip / 2,
            pace: link.rate.map(Pace::new),
            carried: AtomicU64::default(),
        };
        Self { handshake: link.round_trip, up: direction(), down: direction() }
    }
}

/// One direction of a link, shared by all connections.
#[derive(Debug)]
struct Line {
    delay: Duration,
    pace: Option<Pace>,
    carried: AtomicU64,
}

/// A token bucket, as the time at which all bytes so far have left at the given rate.
#[derive(Debug)]
struct Pace {
    /// Bytes per second.
    rate: u64,
    /// Its lock is fair: connections take turns, with one chunk each.
    free_at: Mutex<Instant>,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until the line is free. Returns when the last of these bytes leaves.
    async fn pass(&self, length: u64) -> Instant {
        let mut free_at = self.free_at.lock().await;
        sleep_until(*free_at).await;
        let now = Instant::now();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let cost = Duration::from_nanos(length.saturating_mul(1_000_000_000) / self.rate);
        *free_at = (*free_at).max(earliest) + cost;
        (*free_at).max(now)
    }
}

/// Bytes on the way; none at the end of the stream.
struct Chunk {
    due: Instant,
    bytes: Bytes,
}

async fn accept(listener: TcpListener, target: SocketAddr, lines: Arc<Lines>) {
    // Dropped with this task, which closes them.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        connections.spawn(connect(client, target, lines.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, until both directions have ended.
async fn connect(client: TcpStream, target: SocketAddr, lines: Arc<Lines>) {
    let open_at = Instant::now() + lines.handshake;
    let Ok(server) = TcpStream::connect(target).await else { return };
    // Otherwise small chunks would wait for acknowledgements.
    if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
        return;
    }
    sleep_until(open_at).await;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(
        carry(from_client, to_server, &lines.up),
        // The response may follow after the client has closed its direction.
        carry(from_server, to_client, &lines.down),
    );
}

/// One direction of a connection.
async fn carry(from: OwnedReadHalf, to: OwnedWriteHalf, line: &Line) {
    let window = Semaphore::new(WINDOW);
    let (queue, arrivals) = mpsc::channel(MAX_CHUNKS);
    tokio::join!(receive(from, queue, line, &window), deliver(arrivals, to, line, &window));
}

/// Reads and stamps chunks, until the stream ends or nothing more can be delivered.
async fn receive(mut from: OwnedReadHalf, queue: mpsc::Sender<Chunk>, line: &Line, window: &Semaphore) {
    let mut buffer = BytesMut::new();
    loop {
        if buffer.capacity() < LEAST {
            buffer.reserve(BLOCK);
        }
        let mut space = (&mut buffer).limit(BLOCK);
        let read = tokio::select! {
            read = from.read_buf(&mut space) => read,
            () = queue.closed() => return,
        };
        // A connection that was reset ends like one that was closed.
        let length = read.unwrap_or(0);
        let left = match &line.pace {
            Some(pace) => pace.pass(u64::try_from(length).unwrap_or(u64::MAX)).await,
            None => Instant::now(),
        };
        let chunk = Chunk { due: left + line.delay, bytes: buffer.split().freeze() };
        let Ok(room) = window.acquire_many(u32::try_from(length).unwrap_or(u32::MAX)).await else { return };
        // Returned when the chunk is delivered.
        room.forget();
        if queue.send(chunk).await.is_err() || length == 0 {
            return;
        }
    }
}

/// Writes chunks when they are due, and closes this direction at the end.
async fn deliver(
    mut arrivals: mpsc::Receiver<Chunk>,
    mut to: OwnedWriteHalf,
    line: &Line,
    window: &Semaphore,
) {
    while let Some(Chunk { due, bytes }) = arrivals.recv().await {
        if due > Instant::now() {
            sleep_until(due).await;
        }
        if bytes.is_empty() || to.write_all(&bytes).await.is_err() {
            break;
        }
        window.add_permits(bytes.len());
        line.carried.fetch_add(u64::try_from(bytes.len()).unwrap_or(0), Ordering::Relaxed);
    }
    // Ends the other half if it waits for room.
    window.close();
    // The other end may be gone.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::world::Random;

    const MB: u64 = 1_000_000;

    fn link(millis: u64, rate: Option<u64>) -> Link {
        Link { round_trip: Duration::from_millis(millis), rate }
    }

    /// A server that handles each connection with `act`.
    async fn serve<F>(act: impl Fn(TcpStream) -> F + Send + 'static) -> String
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(act(stream));
            }
        });
        endpoint
    }

    /// A server that responds when the request has ended, with the same bytes.
    async fn serve_whole() -> String {
        serve(|mut stream| async move {
            let mut request = Vec::new();
            stream.read_to_end(&mut request).await.unwrap();
            stream.write_all(&request).await.unwrap();
        })
        .await
    }

    async fn open(relay: &Relay) -> TcpStream {
        TcpStream::connect(relay.endpoint.strip_prefix("http://").unwrap()).await.unwrap()
    }

    /// Sends a request, closes its direction, and returns the response.
    async fn exchange(relay: &Relay, request: &[u8]) -> Vec<u8> {
        let mut stream = open(relay).await;
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        response
    }

    fn random(seed: u64, length: u64) -> Vec<u8> {
        let (mut bytes, mut source) = (Vec::new(), Random::new(seed, length));
        while let Some(chunk) = source.chunk() {
            bytes.extend_from_slice(&chunk);
        }
        bytes
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_direction_takes_half_of_a_round_trip_and_a_new_connection_a_whole_one() {
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let endpoint = serve(move |mut stream| {
            let arrived = arrived.clone();
            async move {
                while let Ok(byte) = stream.read_u8().await {
                    arrived.send(Instant::now()).unwrap();
                    stream.write_u8(byte).await.unwrap();
                }
            }
        })
        .await;
        let relay = Relay::start(&endpoint, link(60, None)).await.unwrap();
        let half = Duration::from_millis(30);

        let mut at = Instant::now();
        let mut stream = open(&relay).await;
        for up in [half * 3, half, half] {
            stream.write_u8(7).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), 7);
            let (there, back) = (arrivals.recv().await.unwrap(), Instant::now());
            assert!(there - at >= up, "{:?} to the server", there - at);
            assert!(back - there >= half, "{:?} back", back - there);
            at = Instant::now();
        }
        assert_eq!(relay.carried(), 3);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn all_connections_share_the_rate_of_a_direction() {
        let relay = Relay::start(&serve_whole().await, link(2, Some(20 * MB))).await.unwrap();
        let request = random(1, MB);
        let start = Instant::now();
        let responses = join_all((0..3).map(|_| exchange(&relay, &request))).await;
        // The server responds to a whole request, so the last response has passed the line alone.
        let min = Duration::from_millis((3 + 1) * 1000 / 20).checked_sub(BURST * 2).unwrap();
        assert!(start.elapsed() >= min, "{:?}", start.elapsed());
        assert!(responses.iter().all(|response| *response == request));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn contents_stay_the_same_and_the_end_of_a_request_arrives_before_the_response() {
        let relay = Relay::start(&serve_whole().await, link(4, None)).await.unwrap();
        let requests: Vec<Vec<u8>> = (1..9).map(|seed| random(seed, 3_000_000 + seed)).collect();
        let responses = join_all(requests.iter().map(|request| exchange(&relay, request))).await;
        assert!(responses == requests, "a response differs from its request");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn connections_wait_at_the_same_time() {
        let relay = Relay::start(&serve_whole().await, link(100, None)).await.unwrap();
        let start = Instant::now();
        let responses = join_all((0..100).map(|_| exchange(&relay, b"x"))).await;
        assert!(responses.iter().all(|response| response == b"x"));
        // One after the other they would take 20 s.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_reads_nothing_stops_the_sender() {
        let endpoint = serve(|stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        let relay = Relay::start(&endpoint, link(2, None)).await.unwrap();
        let mut stream = open(&relay).await;
        let (block, mut sent) = (vec![0; BLOCK], 0);
        while let Ok(written) = tokio::time::timeout(Duration::from_millis(300), stream.write(&block)).await {
            sent += written.unwrap();
            assert!(sent < 64 * WINDOW, "the sender was never stopped");
        }
        assert!(sent > 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_closes_its_connection_closes_that_of_the_client() {
        let endpoint = serve(|stream| async move { drop(stream) }).await;
        let relay = Relay::start(&endpoint, link(2, None)).await.unwrap();
        let mut stream = open(&relay).await;
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }

    #[test]
    fn a_link_is_described_by_its_round_trip_and_its_rate() {
        assert_eq!(link(40, None).to_string(), "40 ms round trip");
        assert_eq!(link(40, Some(20 * MB)).to_string(), "40 ms round trip, 20 MB/s");
    }
}
