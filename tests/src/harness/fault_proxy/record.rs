//! The requests recorded by the proxy, for assertions.

use reqwest::Method;

/// A request and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, percent-decoded: `/bucket/key`.
    pub path: String,
    /// The raw query, without the question mark.
    pub query: String,
    /// Bytes of the body received from the client, without chunk framing.
    pub request_bytes: u64,
    /// Bytes of the body sent to the store.
    pub forwarded_bytes: u64,
    /// Bytes of the response body sent to the client.
    pub response_bytes: u64,
    /// The status sent to the client; `None` while it waits, and if the connection broke.
    pub status: Option<u16>,
    /// The status returned by the store; `None` if the request was not forwarded.
    pub store_status: Option<u16>,
    /// Number of requests with the same method to which the store had not responded yet when it arrived.
    pub beside: usize,
    /// Whether a fault was applied to it.
    pub struck: bool,
    /// Whether it has ended, in any way.
    pub done: bool,
}

impl Request {
    pub(super) fn new(method: Method, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method,
            path: percent_decode(path),
            query: query.to_owned(),
            request_bytes: 0,
            forwarded_bytes: 0,
            response_bytes: 0,
            status: None,
            store_status: None,
            beside: 0,
            struck: false,
            done: false,
        }
    }

    /// The raw value of a query parameter; empty for a name without a value.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }
}

/// Decodes `%XX`; invalid escapes are kept.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
