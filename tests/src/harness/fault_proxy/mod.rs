//! An HTTP-aware proxy between Nightferry and a store, whose faults a test sets while it runs. It forwards the Host
//! header unchanged: clients sign for the address of the proxy and the store verifies that.

mod connection;
mod fault;
mod gate;
mod glacier;
mod limit;
mod record;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use fault::{Fault, Hold, Match};
pub use gate::Gate;
pub use glacier::Glacier;
pub use record::Request;

use fault::{Action, Armed};
use limit::Limit;

const DEADLINE: Duration = Duration::from_secs(60);
const BACKLOG: u32 = 1_024;

/// A running proxy. Dropping it stops it and breaks its connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<Order>,
}

/// A fault set by a test.
#[derive(Debug, Clone)]
pub struct FaultHandle {
    struck: Arc<AtomicUsize>,
    shared: Arc<Shared>,
}

impl FaultHandle {
    /// Number of requests to which it has been applied.
    pub fn struck(&self) -> usize {
        self.struck.load(Ordering::SeqCst)
    }

    /// Removes the fault; requests that it already affects are not released.
    pub fn remove(self) {
        self.shared.faults.lock().unwrap().retain(|armed| !Arc::ptr_eq(&armed.struck, &self.struck));
    }
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    faults: Mutex<Vec<Armed>>,
    requests: Mutex<Vec<Arc<Mutex<Request>>>>,
    /// Number of requests without a response of the store, by method.
    in_progress: Mutex<HashMap<Method, usize>>,
    changed: watch::Sender<u64>,
    limit: Limit,
    glacier: Glacier,
}

impl Shared {
    /// Records a request and determines its fault: the first one that applies.
    fn admit(&self, mut request: Request) -> (Arc<Mutex<Request>>, Option<Action>) {
        let action = self.faults.lock().unwrap().iter_mut().find_map(|armed| armed.strike(&request));
        request.struck = action.is_some();
        {
            let mut in_progress = self.in_progress.lock().unwrap();
            let count = in_progress.entry(request.method.clone()).or_default();
            request.beside = *count;
            *count += 1;
        }
        let request = Arc::new(Mutex::new(request));
        self.requests.lock().unwrap().push(Arc::clone(&request));
        self.changed.send_modify(|count| *count += 1);
        (request, action)
    }

    /// Records that the store has responded to a request, or never will.
    fn ended(&self, method: &Method) {
        if let Some(count) = self.in_progress.lock().unwrap().get_mut(method) {
            *count -= 1;
        }
    }
}

#[derive(Debug)]
enum Order {
    Down(oneshot::Sender<()>),
    Up(oneshot::Sender<()>),
    Break(oneshot::Sender<()>),
}

impl FaultProxy {
    /// Starts a proxy on a free port of the loopback address, without faults.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            faults: Mutex::default(),
            requests: Mutex::default(),
            in_progress: Mutex::default(),
            changed: watch::Sender::new(0),
            limit: Limit::default(),
            glacier: Glacier::default(),
        });
        let (orders, received) = mpsc::unbounded_channel();
        tokio::spawn(listen(listener, address, Arc::clone(&shared), received));
        Self { address, shared, orders }
    }

    /// The bound address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`: the endpoint of the store for Nightferry.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets a fault. If several match a request, the one set first applies.
    #[allow(clippy::must_use_candidate, reason = "most tests do not use the returned fault")]
    pub fn add(&self, fault: Fault) -> FaultHandle {
        let armed = Armed::new(fault);
        let struck = Arc::clone(&armed.struck);
        self.shared.faults.lock().unwrap().push(armed);
        FaultHandle { struck, shared: Arc::clone(&self.shared) }
    }

    /// Removes all faults and gates; requests waiting at a gate still wait.
    pub fn clear(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    /// Sets a closed gate for these requests.
    #[must_use]
    pub fn gate(&self, matches: Match, at: Hold) -> Gate {
        let gate = Gate::closed();
        self.add(Fault::hold(gate.clone(), at).matching(matches));
        gate
    }

    /// The archive class of this store.
    pub fn glacier(&self) -> &Glacier {
        &self.shared.glacier
    }

    /// Limits all bodies together to this many bytes per second.
    pub fn limit_bandwidth(&self, bytes_per_second: Option<u64>) {
        self.shared.limit.set(bytes_per_second);
    }

    /// Closes all connections and rejects new ones.
    pub async fn down(&self) {
        self.order(Order::Down).await;
    }

    /// Accepts connections again, on the same port.
    pub async fn up(&self) {
        self.order(Order::Up).await;
    }

    /// Breaks all open connections.
    pub async fn break_connections(&self) {
        self.order(Order::Break).await;
    }

    async fn order(&self, order: impl FnOnce(oneshot::Sender<()>) -> Order) {
        let (done, obeyed) = oneshot::channel();
        self.orders.send(order(done)).unwrap();
        obeyed.await.unwrap();
    }

    /// Every request seen so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().iter().map(|request| request.lock().unwrap().clone()).collect()
    }

    /// Number of recorded requests that match.
    pub fn count(&self, matches: &Match) -> usize {
        self.requests().iter().filter(|request| matches.holds(request)).count()
    }

    /// Clears the recorded requests.
    pub fn forget_requests(&self) {
        self.shared.requests.lock().unwrap().clear();
    }

    /// Waits until the recorded requests meet a condition; fails the test after a minute.
    pub async fn until(&self, condition: impl Fn(&[Request]) -> bool) {
        let mut changes = self.shared.changed.subscribe();
        let waited = timeout(DEADLINE, changes.wait_for(|_| condition(&self.requests()))).await;
        assert!(waited.is_ok(), "not within {DEADLINE:?}; the requests were {:#?}", self.requests());
    }
}

async fn listen(
    first: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let mut listener = Some(first);
    // While the proxy is down, a socket that is bound but does not listen keeps the port, so connections are refused.
    let mut reserved: Option<TcpSocket> = None;
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let order = tokio::select! {
            accepted = accept => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection::serve(Arc::clone(&shared), stream));
                }
                continue;
            }
            Some(_) = connections.join_next() => continue,
            order = orders.recv() => order,
        };
        let done = match order {
            None => return,
            Some(Order::Break(done)) => {
                connections.shutdown().await;
                done
            }
            Some(Order::Down(done)) => {
                listener = None;
                connections.shutdown().await;
                if reserved.is_none() {
                    reserved = Some(bound(address));
                }
                done
            }
            Some(Order::Up(done)) => {
                if let Some(socket) = reserved.take() {
                    listener = Some(socket.listen(BACKLOG).unwrap());
                }
                done
            }
        };
        // A test that no longer waits needs no response.
        let _ = done.send(());
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}
